"""transformers' `generate`: batches in the order of arrival, padded on the left, key-value cache, no sampling.

A batch runs to its longest answer; the others are cut where theirs end, and their further tokens do not count.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aphrodite.bench.peers.worker import Asked


def load(settings: dict[str, Any]) -> "TransformersModel":
    return TransformersModel(settings)


class TransformersModel:
    """Implements `worker.Model`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        import transformers

        self.versions = {"transformers": transformers.__version__, "torch": torch.__version__}
        self._batch_size: int = settings["max_num_seqs"]
        device = settings["device"]
        self._device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self._dtype = getattr(torch, settings["dtype"])
        image_token_id: int | None = settings["image_token_id"]
        sees = image_token_id is not None
        loader: Any = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        if settings.get("load_format") == "dummy":
            configs: Any = transformers.AutoConfig
            with self._device:
                model = loader.from_config(configs.from_pretrained(settings["model"]), dtype=self._dtype)
        else:
            model = loader.from_pretrained(settings["model"], dtype=self._dtype)
        self._model = model.to(self._device).eval()
        processors: Any = transformers.AutoImageProcessor
        self._image_processor = processors.from_pretrained(settings["model"]) if sees else None
        # Without an end-of-sequence token every answer has its full length, and none of its tokens is forbidden.
        self._padding_id = 0 if image_token_id != 0 else 1
        self._feature_id: int = self._model.config.image_token_id if sees else -1
        settings_of: Any = transformers.GenerationConfig
        self._model.generation_config = settings_of(do_sample=False, use_cache=True, pad_token_id=self._padding_id)

    def answer(self, asked: "list[Asked]") -> list[list[int]]:
        """The token ids of each answer."""
        size = self._batch_size
        batches = [asked[start : start + size] for start in range(0, len(asked), size)]
        return [token_ids for batch in batches for token_ids in self._answer_batch(batch)]

    def _answer_batch(self, batch: "list[Asked]") -> list[list[int]]:
        import torch

        prompts = [prompt.expanded_token_ids for prompt in batch]
        width = max(map(len, prompts))
        ids = [[self._padding_id] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        inputs = {
            "input_ids": torch.tensor(ids, device=self._device),
            "attention_mask": torch.tensor(mask, device=self._device),
        }
        pictures = [prompt.picture for prompt in batch if prompt.picture is not None]
        if pictures and self._image_processor is not None:
            # Each prompt's list of its pictures; what it takes beside pixels goes by the family.
            read = self._image_processor([[picture] for picture in pictures], return_tensors="pt")
            inputs |= read.to(self._device, self._dtype)
            if "image_grid_thw" in read:  # places in rows and columns are of the tokens that this names
                inputs["mm_token_type_ids"] = torch.eq(inputs["input_ids"], self._feature_id).int()
        longest = max(prompt.num_output_tokens for prompt in batch)
        with torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=longest)
        rows: list[list[int]] = output[:, width:].tolist()
        return [row[: prompt.num_output_tokens] for row, prompt in zip(rows, batch, strict=True)]
