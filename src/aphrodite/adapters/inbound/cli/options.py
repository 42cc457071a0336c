"""The flags of `aphrodite run`: types, groups and help."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from aphrodite.adapters.inbound.cli.config_file import load_config_file
from aphrodite.adapters.inbound.cli.limits import read_limits, read_settings
from aphrodite.adapters.inbound.cli.numbers import parse_count, parse_real
from aphrodite.domain import config
from aphrodite.domain.generation.reasoning import REASONING_TAGS
from aphrodite.domain.generation.tool_calls.formats import CALL_FORMATS

_MODEL, _ENGINE, _SERVER, _CHAT, _IMAGES, _LOGS = "Model", "Engine", "Server", "Chat templates", "Images", "Logs"


def _flag(group: str, text: str, value: str, *names: str, parser: Callable[[str], Any] | None = None) -> Any:
    """Every flag has an environment variable, APHRODITE_ and its name; the help says so once.

    `value` stands for the flag's value in the help. Names are given where a switch shall have no --no-... beside it.
    """
    return typer.Option(*names, help=text, metavar=value, rich_help_panel=group, show_envvar=False, parser=parser)


_count, _real = partial(_flag, parser=parse_count), partial(_flag, parser=parse_real)

Model = Annotated[str, typer.Argument(help="A folder, a .gguf file, a Hugging Face repository, or demo.")]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML with any of these flags.", is_eager=True, callback=load_config_file
    ),
]

Tokenizer = Annotated[str | None, _flag(_MODEL, "Where the tokenizer lies, when not with the model.", "PATH")]
Revision = Annotated[str | None, _flag(_MODEL, "Branch, tag or commit of a hub repository.", "NAME")]
DownloadDir = Annotated[str | None, _flag(_MODEL, "Where a hub repository is stored; default: HF_HOME.", "DIR")]
HfToken = Annotated[str | None, _flag(_MODEL, "For the hub; default: HF_TOKEN, or who is logged in.", "TOKEN")]
GenerationConfig = Annotated[
    str, _flag(_MODEL, "Default parameters: auto (the model's), none, or a folder's generation_config.json.", "NAME")
]
LoadFormat = Annotated[config.LoadFormat, _flag(_MODEL, "dummy: random weights of the configured shapes.", "NAME")]
TrustRemoteCode = Annotated[
    bool, _flag(_MODEL, "Run code that comes with the model's tokenizer or processor.", "", "--trust-remote-code")
]
ServedModelName = Annotated[list[str] | None, _flag(_MODEL, "What requests call the model; repeatable.", "NAME")]

Backend = Annotated[str, _flag(_ENGINE, "auto, cuda (GPU or CPU), jax_tpu, or another.", "NAME")]
Device = Annotated[str, _flag(_ENGINE, "auto, cpu, cuda, tpu, or cuda:N.", "NAME")]
Dtype = Annotated[
    config.Dtype, _flag(_ENGINE, "auto, float32, bfloat16 or float16.", "NAME", parser=config.parse_dtype)
]
TensorParallelSize = Annotated[int, _count(_ENGINE, "Devices that share the model.", "N")]
MaxModelLen = Annotated[int | None, _count(_ENGINE, "Longest prompt and answer, in tokens; default: the model's.", "N")]
MaxNumSeqs = Annotated[int, _count(_ENGINE, "Most sequences that run at once.", "N")]
MaxNumBatchedTokens = Annotated[int | None, _count(_ENGINE, "Most tokens of one step.", "N")]
BlockSize = Annotated[int, _count(_ENGINE, "Tokens of one KV-cache block.", "N")]
GpuMemoryUtilization = Annotated[float, _real(_ENGINE, "Share of a GPU's memory that is used.", "X")]
KvCacheMemory = Annotated[int | None, _count(_ENGINE, "Bytes for the KV cache, instead of that share.", "BYTES")]
EnablePrefixCaching = Annotated[
    bool,
    _flag(
        "Prefix cache", "Share the KV blocks of equal beginnings.", "", "--enable-prefix-caching/--no-prefix-caching"
    ),
]
LimitMmPerPrompt = Annotated[
    dict[str, int],
    _flag(_ENGINE, 'Most images of one prompt: image=4, or {"image": 4}.', "LIMIT", parser=read_limits),
]
MmProcessorKwargs = Annotated[
    dict[str, Any],
    _flag(
        _ENGINE,
        'Settings in place of the image processor\'s own: {"max_pixels": 1003520}.',
        "JSON",
        parser=read_settings,
    ),
]
EnforceEager = Annotated[bool, _flag(_ENGINE, "Never capture CUDA graphs.", "", "--enforce-eager")]
Seed = Annotated[int, _count(_ENGINE, "What requests without a seed draw from.", "N")]

Host = Annotated[str, _flag(_SERVER, "Address to listen on; 0.0.0.0 for all.", "ADDRESS")]
Port = Annotated[int, _count(_SERVER, "Port to listen on; 0 for any free one.", "N")]
Uds = Annotated[str | None, _flag(_SERVER, "Unix socket to listen on, in place of host and port.", "PATH")]
RootPath = Annotated[str, _flag(_SERVER, "What a proxy in front puts before every path, as /aphrodite.", "PATH")]
DisablePlayground = Annotated[bool, _flag(_SERVER, "No page at / and /playground.", "", "--disable-playground")]
ApiKey = Annotated[list[str] | None, _flag(_SERVER, "A key that clients must send; repeatable.", "KEY")]
CorsOrigins = Annotated[list[str] | None, _flag(_SERVER, "Origin of pages that may call; repeatable.", "ORIGIN")]
SslCertfile = Annotated[str | None, _flag(_SERVER, "Certificate for https, in PEM.", "FILE")]
SslKeyfile = Annotated[str | None, _flag(_SERVER, "The certificate's key, in PEM.", "FILE")]
MaxBodyBytes = Annotated[int, _count(_SERVER, "Longest body of a request.", "BYTES")]
MaxLogprobs = Annotated[int, _count(_SERVER, "Most candidates beside a token that a request may ask for.", "N")]
MaxQueue = Annotated[int, _count(_SERVER, "Most requests that wait; more get 429.", "N")]
MaxConnections = Annotated[int, _count(_SERVER, "Most connections that are open at once.", "N")]
MaxConnectionsPerAddress = Annotated[int, _count(_SERVER, "Most of them from one address.", "N")]
RequestTimeout = Annotated[float, _real(_SERVER, "Seconds that a request may take.", "SECONDS")]
StepTimeout = Annotated[
    float | None,
    _real(_SERVER, "Seconds until a hanging engine is restarted; default: by its speed, 60 at least.", "SECONDS"),
]
ShutdownTimeout = Annotated[float, _real(_SERVER, "Seconds to finish what runs after SIGTERM.", "SECONDS")]

ChatTemplate = Annotated[str | None, _flag(_CHAT, "A Jinja file, or the Jinja itself; default: the model's.", "FILE")]
ChatTemplateContentFormat = Annotated[
    config.ContentFormat, _flag(_CHAT, "auto, string or openai: what it takes as content.", "NAME")
]
TrustRequestChatTemplate = Annotated[
    bool, _flag(_CHAT, "Take templates and their arguments from requests.", "", "--trust-request-chat-template")
]
ToolCallParser = Annotated[
    str | None,
    _flag(_CHAT, f"How calls are written: {', '.join(CALL_FORMATS)}, none; default: by the template.", "NAME"),
]
ReasoningParser = Annotated[
    str | None,
    _flag(_CHAT, f"How thoughts are marked: {', '.join(REASONING_TAGS)}, none; default: by the template.", "NAME"),
]

ImageFetchTimeout = Annotated[float, _real(_IMAGES, "Seconds that fetching an image may take.", "SECONDS")]
MaxImageBytes = Annotated[int, _count(_IMAGES, "Largest image file.", "BYTES")]
MaxImagePixels = Annotated[int, _count(_IMAGES, "Largest picture, width times height.", "N")]
MaxResizedPixels = Annotated[
    int,
    _count(_IMAGES, "Let requests bring mm_processor_kwargs, which make a picture of so many pixels at most.", "N"),
]
ImageMaxRedirects = Annotated[int, _count(_IMAGES, "Redirects that are followed.", "N")]
AllowedImageHosts = Annotated[
    list[str] | None, _flag(_IMAGES, "Host that may have a private address; repeatable.", "HOST")
]
AllowedLocalMediaPath = Annotated[str | None, _flag(_IMAGES, "Folder that file:// URLs may point into.", "DIR")]

LogLevel = Annotated[config.LogLevel, _flag(_LOGS, "debug, info, warning or error; never prompts.", "NAME")]
LogFormat = Annotated[config.LogFormat, _flag(_LOGS, "text or json.", "NAME")]
OtlpEndpoint = Annotated[
    str | None,
    _flag(_LOGS, "A collector of OpenTelemetry that gets a span a request: http://localhost:4318.", "URL"),
]
