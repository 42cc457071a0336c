"""Tables of flags and parameters for the documentation, made from these themselves; mkdocs calls it for each page."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import typer.main

from aphrodite.adapters.inbound.cli.app import app
from aphrodite.adapters.inbound.cli.vllm_flags import rows
from aphrodite.domain.prompting.sampling_params import PARAMETERS

_OURS, _VLLM, _SAMPLING = "<!-- our flags -->", "<!-- vllm flags -->", "<!-- sampling parameters -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs' hook: a page's text with tables in the place of the comments that ask for them."""
    if _OURS in markdown:
        markdown = markdown.replace(_OURS, our_flags())
    if _VLLM in markdown:
        markdown = markdown.replace(_VLLM, _table(("flag", "here"), rows()))
    if _SAMPLING in markdown:
        markdown = markdown.replace(_SAMPLING, sampling_parameters())
    return markdown


def sampling_parameters() -> str:
    """The table of SamplingParams, with the names of other APIs where these differ."""
    head = ("name", "values", "default", "what it does", "from", "Kobold", "Ollama")
    rows = (
        (
            f"`{name}`",
            parameter.range,
            f"`{parameter.default}`",
            parameter.meaning,
            parameter.source,
            *(f"`{other}`" if other else "" for other in (parameter.kobold, parameter.ollama)),
        )
        for name, parameter in PARAMETERS.items()
    )
    return _table(head, rows)


def our_flags() -> str:
    """Those of `aphrodite run`, a table for each group."""
    group: Any = typer.main.get_command(app)
    groups: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for param in group.commands["run"].params:
        if param.param_type_name == "option":
            names = " ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
            default = param.default
            shown = "" if default in (None, False, "", [], ()) or callable(default) else f" Default: `{default}`."
            groups[param.rich_help_panel or "Configuration"].append((names, (param.help or "") + shown))
    return "\n".join(f"### {title}\n\n{_table(('flag', 'what'), pairs)}" for title, pairs in groups.items())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:], ""])
