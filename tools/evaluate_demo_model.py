"""Prints how many held-out questions the demo model answers exactly, as a Markdown table by kind of question.

    python tools/evaluate_demo_model.py

Drawings come from seeds that training never reaches. Answers are greedy, up to `</s>`; one counts only if it equals the
right answer character for character, spaces at the ends aside.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from aphrodite.inputs import PromptInputs
from drawings import draw
from questions import KINDS, Question, questions
from small_talk import small_talk

FIRST_HELD_OUT_SEED = 10_000_000
MAX_NEW_TOKENS = 40
BATCH_SIZE = 64

# Answers prompts in LLaVA's format, each with its picture or None: a list of (prompt, picture) to as many texts.
Engine = Callable[[list[tuple[str, Image.Image | None]]], list[str]]


@dataclass(frozen=True, slots=True)
class Case:
    """One held-out question and the picture it is about, None for a text-only one."""

    question: Question
    image: Image.Image | None

    @property
    def prompt(self) -> str:
        """The question in LLaVA's conversation format."""
        return f"USER: {'' if self.image is None else f'<image>{chr(10)}'}{self.question.text}\nASSISTANT:"


def held_out(num_per_kind: int) -> Iterator[Case]:
    """`num_per_kind` cases of each kind, at most one of a kind per drawing."""
    missing = dict.fromkeys(KINDS, num_per_kind)
    seed = FIRST_HELD_OUT_SEED
    while any(missing.values()):
        rng = random.Random(f"held-out {seed}")
        drawing = draw(seed)
        seed += 1
        cases = [Case(question, drawing.image) for question in questions(drawing, rng)] + [Case(small_talk(rng), None)]
        for kind, case in {case.question.kind: case for case in cases}.items():
            if missing[kind]:
                missing[kind] -= 1
                yield case


def transformers_engine(folder: Path) -> Engine:
    """The reference: transformers' own LLaVA, in float32."""
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)

    def answer(requests: list[tuple[str, Image.Image | None]]) -> list[str]:
        texts = []
        for start in range(0, len(requests), BATCH_SIZE):
            chunk = requests[start : start + BATCH_SIZE]
            images = [image for _, image in chunk if image is not None]
            inputs = processor(
                text=[prompt for prompt, _ in chunk], images=images or None, padding=True, return_tensors="pt"
            )
            with torch.inference_mode():
                tokens = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
            texts += processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts

    return answer


def aphrodite_engine(folder: Path) -> Engine:
    """This package, all questions in one batch."""
    from aphrodite import LLM, SamplingParams

    llm = LLM(str(folder))

    def answer(requests: list[tuple[str, Image.Image | None]]) -> list[str]:
        prompts: list[PromptInputs] = [
            prompt if image is None else {"prompt": prompt, "multi_modal_data": {"image": image}}
            for prompt, image in requests
        ]
        outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=MAX_NEW_TOKENS), use_tqdm=False)
        return [output.outputs[0].text for output in outputs]

    return answer


ENGINES: dict[str, Callable[[Path], Engine]] = {"aphrodite": aphrodite_engine, "transformers": transformers_engine}


def table(cases: list[Case], answers: list[str]) -> str:
    """The Markdown table, a row a kind and a total."""
    lines = ["| kind | questions | exact | percent |", "|---|---:|---:|---:|"]
    exact = [answer.strip() == case.question.answer for case, answer in zip(cases, answers, strict=True)]
    for kind in (*KINDS, "total"):
        chosen = [right for case, right in zip(cases, exact, strict=True) if kind in (case.question.kind, "total")]
        lines.append(f"| {kind} | {len(chosen)} | {sum(chosen)} | {100 * sum(chosen) / len(chosen):.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, answer, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("src/aphrodite/demo_model"), help="the model folder")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="aphrodite", help="what answers")
    parser.add_argument("--questions", type=int, default=500, help="questions of each kind (default %(default)s)")
    parser.add_argument("--mistakes", type=int, default=0, help="also list this many wrong answers on stderr")
    args = parser.parse_args()
    cases = list(held_out(args.questions))
    # Text-only prompts go last: a batch has a picture for every prompt or for none.
    cases.sort(key=lambda case: case.image is None)
    answers = ENGINES[args.engine](args.model)([(case.prompt, case.image) for case in cases])
    print(table(cases, answers))
    wrong = [pair for pair in zip(cases, answers, strict=True) if pair[1].strip() != pair[0].question.answer]
    for case, answer in random.Random(0).sample(wrong, min(args.mistakes, len(wrong))):
        print(f"{case.question.text!r}: {answer.strip()!r}, not {case.question.answer!r}", file=sys.stderr)


if __name__ == "__main__":
    main()
