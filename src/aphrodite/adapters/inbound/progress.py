"""The progress bar of `LLM.generate`."""

from time import perf_counter

from tqdm import tqdm


class Progress:
    """Counts finished prompts, and shows input and output tokens per second."""

    def __init__(self, num_prompts: int, shown: bool) -> None:
        self._bar = tqdm(total=num_prompts, desc="Prompts", unit="prompt", disable=not shown, dynamic_ncols=True)
        self._start_s = perf_counter()
        self._num_input_tokens = 0
        self._num_output_tokens = 0

    def finish_prompt(self, num_input_tokens: int, num_output_tokens: int) -> None:
        self._num_input_tokens += num_input_tokens
        self._num_output_tokens += num_output_tokens
        elapsed_s = perf_counter() - self._start_s
        rate_in, rate_out = self._num_input_tokens / elapsed_s, self._num_output_tokens / elapsed_s
        self._bar.set_postfix_str(f"in {rate_in:.1f} tokens/s, out {rate_out:.1f} tokens/s", refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
