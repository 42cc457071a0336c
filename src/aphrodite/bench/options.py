"""The flags that several benchmarks share."""

from pathlib import Path
from typing import Annotated

import typer

from aphrodite.domain import config
from aphrodite.domain.errors import ConfigError

Model = Annotated[
    str, typer.Argument(help="A folder, a .gguf file, a Hugging Face repository, or demo. For dummy weights a config.")
]
LoadFormat = Annotated[config.LoadFormat, typer.Option(help="dummy: random weights of the configured shapes.")]
Backend = Annotated[str, typer.Option(help="auto, cuda (GPU or CPU), jax_tpu, or another.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[config.Dtype, typer.Option(help="The number format.")]
MaxNumBatchedTokens = Annotated[int | None, typer.Option(help="Most tokens of one step; default: the backend's.")]
GpuMemoryUtilization = Annotated[
    float, typer.Option(help="Share of a GPU's memory; lower it to leave room for those compared with.")
]
InputTokens = Annotated[
    str, typer.Option(metavar="N[:M]", help="Random tokens of each prompt, or a range to draw from; a picture's extra.")
]
OutputTokens = Annotated[str, typer.Option(metavar="N[:M]", help="Tokens of each answer, or a range to draw from.")]
ImageSize = Annotated[str, typer.Option(help="A picture of WIDTHxHEIGHT in each prompt; 0: text only.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often to measure; rates are of the median round.")]
Seed = Annotated[int, typer.Option(min=0, help="Of prompts, lengths, pictures and dummy weights.")]
Compare = Annotated[
    str | None, typer.Option(metavar="NAME", help="Take turns with transformers, vllm or another backend of ours.")
]
ComparePython = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The interpreter that transformers or vllm is installed for.")
]
CompareDtypes = Annotated[
    str | None, typer.Option(metavar="NAMES", help="Number formats of the other, each measured; default: ours.")
]
Profile = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write a profiler's trace there, and print what a step's time is for."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write settings and figures there.")]
Plot = Annotated[Path | None, typer.Option(help="Draw what was measured there, as a PNG; needs matplotlib.")]


def parse_image_size(text: str) -> tuple[int, int] | None:
    """(width, height) in pixels, or None for "0". Raises ConfigError."""
    if text == "0":
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ConfigError(f"--image-size must be like 336x336, or 0 for none; got {text!r}.")
    return int(width), int(height)


def check_folders(*files: Path | None) -> None:
    """Raises ConfigError where a file cannot be written for want of a folder."""
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise ConfigError(f"There is no folder {str(file.parent)!r} to write {file.name} to.")
