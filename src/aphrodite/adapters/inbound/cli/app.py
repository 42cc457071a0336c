"""The command line: `aphrodite run`, `aphrodite chat`, `aphrodite bench`."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from aphrodite.adapters.inbound.cli.chat import chat
from aphrodite.adapters.inbound.cli.mistakes import sentence
from aphrodite.adapters.inbound.cli.pasted_flags import RunCommand
from aphrodite.adapters.inbound.cli.run import run
from aphrodite.bench import bench
from aphrodite.domain.errors import AphroditeError, EngineDeadError, ServerTalkError

app = typer.Typer(name="aphrodite", pretty_exceptions_enable=False)
# The prefix makes of --port the variable APHRODITE_PORT.
for name, said in (("run", None), ("serve", "The same as run.")):
    app.command(name, cls=RunCommand, context_settings={"auto_envvar_prefix": "APHRODITE"}, help=said)(run)
app.command()(chat)
app.add_typer(bench)


@app.callback(invoke_without_command=True)
def _aphrodite(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Serve vision-language models."""
    if show_version:
        typer.echo(f"aphrodite {version('aphrodite-vlm')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def main() -> None:
    """The console script. A mistake is one sentence on stderr and exit code 2; what fails later exits with 1."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        code = _complain(sentence(error), 2)
    except (EngineDeadError, ServerTalkError) as error:
        code = _complain(str(error), 1)
    except AphroditeError as error:
        code = _complain(str(error), 2)
    except typer.Abort:
        code = 130
    sys.exit(code or 0)


def _complain(message: str, code: int) -> int:
    typer.echo(f"aphrodite: {' '.join(message.split())}", err=True)
    return code
