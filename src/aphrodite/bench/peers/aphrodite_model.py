"""Another backend of ours, in a process of its own, so that its library's threads and memory are its own as well."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aphrodite.bench.peers.worker import Asked


def load(settings: dict[str, Any]) -> "AphroditeModel":
    return AphroditeModel(settings)


class AphroditeModel:
    """Implements `worker.Model`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from aphrodite import LLM

        self.versions = {"aphrodite": version("aphrodite-vlm")}
        self._llm = LLM(**settings["engine"])

    def answer(self, asked: "list[Asked]") -> list[list[int]]:
        """The token ids of each answer."""
        from aphrodite import SamplingParams

        prompts: list[Any] = [{"prompt_token_ids": prompt.token_ids} for prompt in asked]
        for inputs, prompt in zip(prompts, asked, strict=True):
            if prompt.picture is not None:
                inputs["multi_modal_data"] = {"image": prompt.picture}
        params = [SamplingParams(temperature=0, max_tokens=p.num_output_tokens, ignore_eos=True) for p in asked]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        return [output.outputs[0].token_ids for output in outputs]
