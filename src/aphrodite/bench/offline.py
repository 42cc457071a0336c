"""The same work without a server: `LLM` in a process of its own."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from aphrodite.bench.workload import Workload
from aphrodite.domain.errors import AphroditeError, BackendError


def offline_output_tokens_per_s(model: str, workload: Workload, num_at_once: int) -> float:
    """Answer the workload's prompts with LLM and return its output tokens a second, start-up and warm-up apart.

    `num_at_once` holds it to as many sequences at once as the server will be given.
    The process ends before this returns, so that it takes nothing from the server. Raises AphroditeError.
    """
    # Spawned: a fork would take this process's threads' locks with it.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, model, workload, num_at_once).result()
        except BrokenProcessPool as error:
            raise BackendError("The process of --compare-offline ended before its work was done.") from error


def _measure(model: str, workload: Workload, num_at_once: int) -> float:
    from aphrodite import LLM, SamplingParams

    params = SamplingParams(temperature=0, max_tokens=workload.output_tokens, ignore_eos=workload.ignore_eos)
    try:
        with LLM(model, max_num_seqs=num_at_once) as llm:
            llm.chat(workload.warm_up, params, use_tqdm=False)
            conversations = workload.conversations
            started_s = time.perf_counter()
            outputs = llm.chat(conversations, params, use_tqdm=False)
            duration_s = time.perf_counter() - started_s
    except AphroditeError as error:
        # As a type that every process can unpickle.
        raise BackendError(f"--compare-offline failed: {error}") from None
    return round(sum(len(output.outputs[0].token_ids) for output in outputs) / duration_s, 2)
