"""Draws a picture, or takes the user's, and asks the bundled model about it; `make demo` runs this.

python tools/demo.py [--image PATH] [--question "..."]
"""

import argparse
import tempfile
import time
from pathlib import Path

from PIL import Image

from aphrodite import LLM
from drawings import draw

_SEED = 2_000_000_011  # of a drawing that the model was not trained on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="a picture to ask about; one is drawn when not given")
    parser.add_argument("--question", default="What is the content of this image?")
    options = parser.parse_args()
    path: Path = options.image or _draw_picture()
    try:
        image = Image.open(path)
        image.load()
    except OSError as error:
        parser.exit(1, f"{path} cannot be read: {error.strerror or 'it is not a picture'}.\n")

    started_s = time.perf_counter()
    with LLM(model="demo") as llm:
        ready_s = time.perf_counter()
        prompt = f"USER: <image>\n{options.question}\nASSISTANT:"
        output = llm.generate({"prompt": prompt, "multi_modal_data": {"image": image}}, use_tqdm=False)[0]
        done_s = time.perf_counter()
    completion = output.outputs[0]
    print(f"Picture:  {path}")
    print(f"Question: {options.question}")
    print(f"Answer:   {completion.text.strip()}")
    print(
        f"Speed:    {len(completion.token_ids) / (done_s - ready_s):.1f} output tokens/s "
        f"({len(output.prompt_token_ids)} tokens in, {len(completion.token_ids)} out in {done_s - ready_s:.3f} s; "
        f"start-up {ready_s - started_s:.1f} s)"
    )


def _draw_picture() -> Path:
    path = Path(tempfile.gettempdir()) / "aphrodite-demo.png"
    draw(_SEED).image.save(path)
    return path


if __name__ == "__main__":
    main()
