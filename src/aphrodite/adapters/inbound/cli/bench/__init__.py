"""`aphrodite bench`: measure a running server, or the engine alone."""

import typer

from aphrodite.adapters.inbound.cli.bench.growth import growth
from aphrodite.adapters.inbound.cli.bench.latency import latency
from aphrodite.adapters.inbound.cli.bench.serve import serve
from aphrodite.adapters.inbound.cli.bench.throughput import throughput

bench = typer.Typer(name="bench", help="Measure a running server, or the engine alone.", no_args_is_help=True)
bench.command()(serve)
bench.command()(throughput)
bench.command()(latency)
bench.command()(growth)
