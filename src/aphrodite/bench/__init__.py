"""`aphrodite bench`: measure a running server, or the engine alone."""

import typer

from aphrodite.bench.growth import growth
from aphrodite.bench.latency import latency
from aphrodite.bench.serve import serve
from aphrodite.bench.throughput import throughput

bench = typer.Typer(name="bench", help="Measure a running server, or the engine alone.", no_args_is_help=True)
bench.command()(serve)
bench.command()(throughput)
bench.command()(latency)
bench.command()(growth)
