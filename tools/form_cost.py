"""What a form costs: output tokens per second with a JSON schema and without, in turn.

python tools/form_cost.py            the demo model, 32 answers of 128 tokens at once, ten pairs of rounds
"""

import os
import time
from statistics import median

from aphrodite import LLM, SamplingParams, StructuredOutputs

NUM_REQUESTS = 32
NUM_TOKENS = 128
NUM_PAIRS = 10
SCHEMA = {
    "type": "array",
    "minItems": 1000,  # more than there are tokens for: no answer ends early
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "count": {"type": "integer", "minimum": 0, "maximum": 100},
            "kind": {"enum": ["circle", "square", "triangle"]},
        },
        "required": ["name", "count", "kind"],
        "additionalProperties": False,
    },
}


def tokens_per_second(llm: LLM, form: StructuredOutputs | None, seed: int) -> float:
    params = SamplingParams(
        temperature=1.0, seed=seed, max_tokens=NUM_TOKENS, ignore_eos=True, structured_outputs=form, detokenize=False
    )
    prompts = [f"USER: Name things like number {index}.\nASSISTANT:" for index in range(NUM_REQUESTS)]
    started_s = time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    duration_s = time.perf_counter() - started_s
    num_tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    assert num_tokens == NUM_REQUESTS * NUM_TOKENS
    return num_tokens / duration_s


def main() -> None:
    form = StructuredOutputs(json=SCHEMA)
    with LLM(model="demo", max_num_seqs=NUM_REQUESTS) as llm:
        for kind in (form, None):
            tokens_per_second(llm, kind, seed=0)
        print("| free | with the schema | share | load |\n|---:|---:|---:|---:|")
        pairs = []
        for number in range(1, NUM_PAIRS + 1):
            pairs.append((tokens_per_second(llm, None, number), tokens_per_second(llm, form, number)))
            free, formed = pairs[-1]
            print(f"| {free:,.0f} | {formed:,.0f} | {formed / free:.2f} | {os.getloadavg()[0]:.1f} |", flush=True)
    print(f"Median share: {median(formed / free for free, formed in pairs):.2f}")


if __name__ == "__main__":
    main()
