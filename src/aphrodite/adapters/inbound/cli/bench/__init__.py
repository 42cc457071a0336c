"""`aphrodite bench`: measure a running server."""

import typer

from aphrodite.adapters.inbound.cli.bench.serve import serve

bench = typer.Typer(name="bench", help="Measure a running server.", no_args_is_help=True)
bench.command()(serve)


@bench.callback()
def _bench() -> None:
    """Measure a running server."""  # With a callback, the only command keeps its name.
