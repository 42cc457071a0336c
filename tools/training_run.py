"""One training run of the demo model: its weights, optimizers and moving average, and a step of training."""

from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional
from transformers import GenerationConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

import cpu_speed
from demo_format import HIDDEN_SIZE, build_config
from scene_labels import NUM_CLASSES, PER_PICTURE
from training_rows import IGNORED, Batch, visible

NUM_VISION_STEPS = 2400  # the first steps train the vision tower alone
NUM_WARM_UP_STEPS = 150
NUM_COOL_DOWN_STEPS = 1600
MUON_LEARNING_RATE = 2e-3
ADAMW_LEARNING_RATE = 1e-3
SCENE_LOSS_WEIGHT = 0.5
COVERED_WEIGHT = 4.0  # few patches show anything: in the scene loss they count for more than bare ones
AVERAGE_DECAY = 0.995


class SceneHeads(nn.Module):
    """Linear heads on the vision tower's output, for training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in NUM_CLASSES.items()})

    def forward(self, patches: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the targets' cross-entropies; `patches` is [B, 1 + NUM_PATCHES, D], the class token first."""
        total = patches.new_zeros((), dtype=torch.float32)
        for name, head in self.heads.items():
            logits = head(patches[:, 0] if name in PER_PICTURE else patches[:, 1:])  # [B, C] or [B, NUM_PATCHES, C]
            weights = None
            if name not in PER_PICTURE:
                weights = torch.full((NUM_CLASSES[name],), COVERED_WEIGHT, device=patches.device)
                weights[0] = 1.0
            total = total + functional.cross_entropy(logits.flatten(0, -2).float(), labels[name].flatten(), weights)
        return total


def see(model: LlavaForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """Run the vision tower: uint8 pixels [B, IMAGE_SIZE, IMAGE_SIZE, 3] to [B, 1 + NUM_PATCHES, D]."""
    mean, std = (torch.tensor(values, device=pixels.device) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    normalized = ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2)
    seen: torch.Tensor = model.model.vision_tower(normalized).last_hidden_state
    return seen


def answer_loss(model: LlavaForConditionalGeneration, seen: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens, given what the vision tower has seen [B, 1 + NUM_PATCHES, D]."""
    llava = model.model
    features = llava.multi_modal_projector(seen[:, 1:])  # [B, NUM_PATCHES, D]
    embeddings = llava.get_input_embeddings()(batch.token_ids)  # [B, T, D]
    is_image = (batch.token_ids == model.config.image_token_id)[:, :, None]
    hidden = llava.language_model(
        inputs_embeds=embeddings.masked_scatter(is_image, features.to(embeddings.dtype)),
        attention_mask=cpu_speed.additive(visible(batch.segments)),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    is_answer = batch.targets != IGNORED
    logits = model.lm_head(hidden[is_answer]).float()  # [answer tokens, vocabulary]
    return functional.cross_entropy(logits, batch.targets[is_answer])


def build_optimizers(model: LlavaForConditionalGeneration, heads: SceneHeads) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, heads, norms and biases."""
    matrices = [one for name, one in model.named_parameters() if one.ndim == 2 and "embed" not in name]
    chosen = set(matrices)
    others = [one for one in (*model.parameters(), *heads.parameters()) if one not in chosen]
    muon = torch.optim.Muon(
        matrices, lr=MUON_LEARNING_RATE, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=ADAMW_LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
    return [muon, adamw]


def learning_rate_share(step: int, num_steps: int) -> float:
    """The share of the peak rate: a linear warm-up at each stage, a plateau, a linear cool-down at the end.

    Until the cool-down it does not depend on `num_steps`, so a run can be resumed with another number of steps.
    """
    stage_step = step if step < NUM_VISION_STEPS else step - NUM_VISION_STEPS
    return min(1.0, (stage_step + 1) / NUM_WARM_UP_STEPS, (num_steps - step) / NUM_COOL_DOWN_STEPS)


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    gradients = [one.grad for one in parameters if one.grad is not None]
    joined = torch.cat([one.flatten() for one in gradients])
    distributed.all_reduce(joined)
    joined /= distributed.get_world_size()
    for gradient, mean in zip(gradients, torch.split(joined, [one.numel() for one in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class Run:
    """A run in progress: `step` steps are done."""

    def __init__(self, processor: LlavaProcessor, device: str) -> None:
        self._device = device
        model: Any = LlavaForConditionalGeneration(build_config(processor))
        self.model: LlavaForConditionalGeneration = model.to(device)
        if device == "cpu":
            cpu_speed.keep_memory()
            cpu_speed.use(self.model)
        self._heads = SceneHeads(HIDDEN_SIZE).to(device)
        self._optimizers = build_optimizers(self.model, self._heads)
        self._average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.step = 0

    def advance(self, batch: Batch, num_steps: int) -> tuple[float, float]:
        """Take one of `num_steps` steps, with the other processes if there are any: the answer and the scene loss."""
        for optimizer, peak in zip(self._optimizers, (MUON_LEARNING_RATE, ADAMW_LEARNING_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * learning_rate_share(self.step, num_steps)
        with torch.autocast(self._device, torch.bfloat16):
            seen = see(self.model, batch.pixels)
            scene = self._heads(seen, batch.labels)
            is_seeing_only = self.step < NUM_VISION_STEPS
            answers = torch.zeros(()) if is_seeing_only else answer_loss(self.model, seen, batch)
        (answers + SCENE_LOSS_WEIGHT * scene).backward()
        parameters = [*self.model.parameters(), *self._heads.parameters()]
        if distributed.is_initialized():
            average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        decay = min(AVERAGE_DECAY, (self.step + 1) / (self.step + 10))
        for name, value in self.model.state_dict().items():
            self._average[name].lerp_(value, 1 - decay)
        self.step += 1
        return answers.item(), scene.item()

    def keep(self, path: Path) -> None:
        """Write all that `resume` needs."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        torch.save({**parts, "average": self._average, "step": self.step}, path)

    def resume(self, path: Path) -> None:
        """Go on from what `keep` wrote."""
        state = torch.load(path, map_location=self._device)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._average, self.step = state["average"], state["step"]

    def _parts(self) -> dict[str, Any]:
        muon, adamw = self._optimizers
        return {"model": self.model, "heads": self._heads, "muon": muon, "adamw": adamw}

    def save(self, out: Path) -> None:
        """Write config.json, generation_config.json and model.safetensors: the averaged weights in bfloat16."""
        model: Any = LlavaForConditionalGeneration(self.model.config)
        saved = model.to(torch.bfloat16)
        saved.load_state_dict(self._average)
        saved.tie_weights()
        text: Any = self.model.config.text_config
        saved.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
        )
        saved.save_pretrained(out)
        (out / "model.safetensors").chmod(0o644)  # safetensors writes files for their owner only
