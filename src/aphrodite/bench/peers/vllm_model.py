"""vLLM's offline engine, with its own defaults but for what the comparison fixes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aphrodite.bench.peers.worker import Asked


def load(settings: dict[str, Any]) -> "VllmModel":
    return VllmModel(settings)


class VllmModel:
    """Implements `worker.Model`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        import vllm  # type: ignore[import-not-found]

        self.versions = {"vllm": vllm.__version__, "torch": torch.__version__}
        # On a CPU it means a share of the host's memory, of which ours takes a quarter.
        share = settings["gpu_memory_utilization"] if torch.cuda.is_available() else 0.25
        sees = settings["image_token_id"] is not None
        self._params = vllm.SamplingParams
        self._llm = vllm.LLM(
            model=settings["model"],
            dtype=settings["dtype"],
            max_num_seqs=settings["max_num_seqs"],
            max_model_len=settings["max_model_len"],
            gpu_memory_utilization=share,
            **({"limit_mm_per_prompt": {"image": settings["images_per_prompt"]}} if sees else {}),
        )

    def answer(self, asked: "list[Asked]") -> list[list[int]]:
        """The token ids of each answer."""
        prompts: list[dict[str, Any]] = [{"prompt_token_ids": prompt.token_ids} for prompt in asked]
        for inputs, prompt in zip(prompts, asked, strict=True):
            if prompt.picture is not None:
                inputs["multi_modal_data"] = {"image": prompt.picture}
        params = [self._params(temperature=0, max_tokens=p.num_output_tokens, ignore_eos=True) for p in asked]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]
