"""`aphrodite bench serve`: load a running server and say how it bore it."""

import asyncio
import json
from typing import Annotated, Any

import typer

from aphrodite.bench import options
from aphrodite.bench.options import check_folders, parse_image_size
from aphrodite.domain.errors import ConfigError, ServerTalkError

_CONCURRENCY = 32


def serve(
    url: Annotated[str, typer.Option(help="The server.", envvar="APHRODITE_URL")] = "http://127.0.0.1:2242",
    model: Annotated[str | None, typer.Option(help="One of the server's models; default: the first.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The server's key.", envvar="APHRODITE_API_KEY")] = None,
    requests: Annotated[int, typer.Option(min=1, help="How many requests to send.")] = 128,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help=f"Requests at once, the next when one ends.  [default: {_CONCURRENCY}]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second on average, with Poisson arrivals; or else --concurrency.")
    ] = None,
    image_size: options.ImageSize = "0",
    input_words: Annotated[int, typer.Option(min=1, help="Words of each prompt.")] = 64,
    output_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 64,
    ignore_eos: Annotated[
        bool, typer.Option(help="Ask for answers of full length; not every server knows this field.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of prompts and arrivals; a seed seen before may be cached.")] = 0,
    json_file: options.JsonFile = None,
    plot: options.Plot = None,
    compare_offline: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Before the load, time LLM.generate on the same work.")
    ] = None,
) -> None:
    """Load a running OpenAI-compatible server and report its throughput and latencies."""
    # These take a while to load; --help and `aphrodite run` need not wait for them.
    import uvloop

    from aphrodite.bench import report
    from aphrodite.bench.client import Client
    from aphrodite.bench.figures import summarize
    from aphrodite.bench.load import Concurrency, PoissonRate, run_load
    from aphrodite.bench.measurement import Measurement
    from aphrodite.bench.offline import offline_output_tokens_per_s
    from aphrodite.bench.plot import check_plot, plot_load
    from aphrodite.bench.workload import Workload

    if rate is not None and concurrency is not None:
        raise ConfigError("--rate and --concurrency exclude each other.")
    if rate is not None and not 0 < rate < float("inf"):
        raise ConfigError(f"--rate must be above 0, got {rate}.")
    at_once = concurrency or _CONCURRENCY if rate is None else None
    pace = PoissonRate(rate, seed) if rate is not None else Concurrency(concurrency or _CONCURRENCY)
    workload = Workload(requests, input_words, parse_image_size(image_size), output_tokens, ignore_eos, seed)
    check_folders(json_file, plot)
    if plot is not None:
        check_plot(plot)

    def ask(model_name: str, messages: list[dict[str, Any]]) -> bytes:
        fields = {"model": model_name, "messages": messages, "temperature": 0, "max_tokens": output_tokens}
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(fields | ({"ignore_eos": True} if ignore_eos else {})).encode()

    async def find_model() -> str:
        async with Client(url, api_key) as client:
            return model or await client.first_model()

    async def measure(model_name: str) -> Measurement:
        bodies = [ask(model_name, messages) for messages in workload.conversations]
        async with Client(url, api_key) as client:
            # Opens the way; a request that the server refuses is counted below, with the others.
            warm_up = await client.ask(ask(model_name, workload.warm_up))
            if warm_up.error == "refused":
                raise client.talk_error("/v1/chat/completions", warm_up.error)
            return await run_load(client, bodies, pace)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        name = runner.run(find_model())
        offline = None
        if compare_offline is not None:
            offline = offline_output_tokens_per_s(compare_offline, workload, at_once or requests)
        measurement = runner.run(measure(name))
    figures = summarize(measurement, offline)
    settings = {
        "url": url,
        "model": name,
        "requests": requests,
        "concurrency": at_once,
        "rate": rate,
        "image_size": image_size,
        "input_words": input_words,
        "output_tokens": output_tokens,
        "ignore_eos": ignore_eos,
        "seed": seed,
        "compare_offline": compare_offline,
    }
    paced = f"{at_once} at once" if rate is None else f"{rate:g} a second"
    picture = "" if workload.image_size is None else f" and a picture of {image_size}"
    title = f"{name} at {url}: {requests} requests, {paced}; {input_words} words{picture}, {output_tokens} tokens"
    typer.echo(f"{title}\n\n{report.table(figures)}")
    if json_file is not None:
        report.write_json(json_file, report.report(settings, figures, api_key))
    if plot is not None:
        plot_load(plot, measurement, title)
    if not figures.num_good:
        raise ServerTalkError(f"None of the {requests} requests was answered.")
