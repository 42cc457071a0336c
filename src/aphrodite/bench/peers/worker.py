"""The other side of a pipe: loads one model, then answers rounds, a line of JSON each way.

python worker.py MODULE     MODULE: a file beside this one

first line in     settings, see `Peer`                  first line out   {"versions": {...}}
each further one  the prompts of a round, a list of     each further one {"seconds": ..., "token_ids": [[...]...]}
                  {"token_ids", "expanded_token_ids",
                   "num_output_tokens",
                   "picture": null or {"rgb", "size"}}
what goes wrong   {"error": "one sentence"}, and the process ends
"""

import base64
import importlib
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Asked:
    """One request: greedy, exactly so many tokens, whatever ends a sequence."""

    token_ids: list[int]  # the image token once
    expanded_token_ids: list[int]  # with all that stands for the picture
    num_output_tokens: int
    picture: Any  # PIL image or None


class Model(Protocol):
    """A library with a model loaded."""

    versions: dict[str, str]

    def answer(self, asked: list[Asked]) -> list[list[int]]:
        """The token ids of each answer."""


def main() -> None:
    """Until stdin ends."""
    # Libraries print; the answers go where stdout led before, and everything else to stderr.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        sys.stdout = sys.stderr

        def say(content: dict[str, Any]) -> None:
            answers.write(json.dumps(content) + "\n")
            answers.flush()

        try:
            model: Model = importlib.import_module(sys.argv[1]).load(json.loads(sys.stdin.readline()))
            say({"versions": model.versions})
            for line in sys.stdin:
                asked = [_read(prompt) for prompt in json.loads(line)]
                started_s = time.perf_counter()
                token_ids = model.answer(asked)
                say({"seconds": time.perf_counter() - started_s, "token_ids": token_ids})
        except Exception as error:  # whatever it is, the other side must hear of it
            say({"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]})
            raise SystemExit(1) from error


def _read(prompt: dict[str, Any]) -> Asked:
    picture = prompt["picture"]
    if picture is not None:
        from PIL import Image

        picture = Image.frombytes("RGB", tuple(picture["size"]), base64.b64decode(picture["rgb"]))
    return Asked(prompt["token_ids"], prompt["expanded_token_ids"], prompt["num_output_tokens"], picture)


if __name__ == "__main__":
    main()
