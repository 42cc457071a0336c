"""Flags that people bring from vLLM, and from the Aphrodite before this one: what `aphrodite run` makes of them.

The table is all there is to know: the command line, --config and the documentation's table are made from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aphrodite.domain.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherFlag:
    """A flag that is another name of ours, has no effect, or cannot be used."""

    names: tuple[str, ...]  # without dashes
    ours: str = ""  # what it is another name of; "" for the other two kinds
    words: Mapping[str, str] = field(default_factory=dict)  # values of theirs that have another name here
    harmless: tuple[str, ...] = ()  # values without effect; others are refused
    is_ignored: bool = False  # without effect whatever its value
    is_switch: bool = False  # takes no value
    reason: str = ""  # why it has no effect, or what to use in its place

    def note(self, value: str | None) -> str:
        """What the log says where it has no effect. Raises ConfigError where it cannot be used."""
        shown = f"--{self.names[0]}" + ("" if self.is_switch or value is None else f" {value[:100]}")
        is_off = self.is_switch and value is not None and value.lower() == "false"
        if self.is_ignored or is_off or (value is not None and value.strip().lower() in self.harmless):
            return f"{shown} has no effect: {self.reason}."
        raise ConfigError(f"{shown} cannot be used: {self.reason}.")


def _same(ours: str, *names: str, **words: str) -> OtherFlag:
    return OtherFlag(names=names, ours=ours, words=words)


def _ignored(reason: str, *names: str) -> OtherFlag:
    return OtherFlag(names=names, reason=reason, is_ignored=True)


def _ignored_switch(reason: str, *names: str) -> OtherFlag:
    return OtherFlag(names=names, reason=reason, is_ignored=True, is_switch=True)


def _refused(reason: str, *names: str, harmless: tuple[str, ...] = ()) -> OtherFlag:
    return OtherFlag(names=names, reason=reason, harmless=harmless)


def _refused_switch(reason: str, *names: str) -> OtherFlag:
    return OtherFlag(names=names, reason=reason, is_switch=True)


TABLE = (
    # Other names
    _same("tensor-parallel-size", "tp"),
    _same("gpu-memory-utilization", "gmu"),
    _same("no-prefix-caching", "no-enable-prefix-caching"),
    _same("kv-cache-memory", "kv-cache-memory-bytes"),
    _same("cors-origins", "allowed-origins"),
    _same("api-key", "api-keys"),
    _same("log-level", "uvicorn-log-level", critical="error", trace="debug"),
    # Without effect
    _ignored_switch("prompts always run in chunks", "enable-chunked-prefill"),
    _ignored("steps are shared out by turns", "max-num-partial-prefills", "max-long-partial-prefills"),
    _ignored("steps are shared out by turns", "long-prefill-token-threshold", "scheduler-delay-factor"),
    _ignored("a step is planned while the one before runs", "num-scheduler-steps"),
    _ignored_switch("a step is planned while the one before runs", "async-scheduling", "disable-async-output-proc"),
    _ignored("a preempted request is computed again, nothing is swapped", "swap-space"),
    _ignored_switch("the KV cache is always paged", "use-v2-block-manager", "disable-hybrid-kv-cache-manager"),
    _ignored("the backend chooses what it compiles; --enforce-eager does without CUDA graphs", "compilation-config"),
    _ignored("CUDA graphs depend on the number of rows alone", "max-seq-len-to-capture", "cuda-graph-sizes"),
    _ignored("the backend chooses its kernels", "attention-backend", "mm-encoder-attn-backend", "mm-encoder-tp-mode"),
    _ignored_switch("the backend chooses its kernels", "disable-custom-all-reduce", "disable-cascade-attn"),
    _ignored_switch("steps are tried at start-up in any case", "skip-mm-profiling"),
    _ignored_switch("the engine always has a process of its own", "disable-frontend-multiprocessing"),
    _ignored_switch("what is asked is never logged", "enable-log-requests", "disable-log-requests"),
    _ignored("what is asked is never logged", "max-log-len"),
    _ignored_switch("figures are at /metrics", "disable-log-stats", "enable-server-load-tracking"),
    _ignored_switch("--log-level warning leaves out the line of each request", "disable-uvicorn-access-log"),
    _ignored_switch("usage always has them", "enable-prompt-tokens-details"),
    _ignored_switch("x-request-id is always sent", "enable-request-id-headers"),
    _ignored_switch("there are no such pages; /openapi.json is data alone", "disable-fastapi-docs"),
    _ignored_switch("a request's tools are always taken", "enable-auto-tool-choice"),
    _ignored("one library keeps answers to their form", "guided-decoding-backend", "structured-outputs-config"),
    _ignored_switch("it is always there", "enable-tokenizer-info-endpoint", "launch-kobold-api"),
    _ignored("pictures are cached within limits of their own", "mm-processor-cache-gb", "mm-processor-cache-type"),
    _ignored_switch("pictures are cached within limits of their own", "disable-mm-preprocessor-cache"),
    _ignored("safetensors are mapped, and read tensor by tensor", "safetensors-load-strategy", "ignore-patterns"),
    _ignored("safetensors are mapped, and read tensor by tensor", "max-parallel-loading-workers"),
    # Without effect for some values
    _refused("models are served to answer, not to embed or classify", "task", "runner", harmless=("generate", "auto")),
    _refused("the tokenizer is the model's own", "tokenizer-mode", harmless=("auto", "hf")),
    _refused("config.json is read as transformers writes it", "config-format", harmless=("auto", "hf")),
    _refused("every model runs in this engine's own code", "model-impl", harmless=("auto", "vllm", "aphrodite")),
    _refused("use --tensor-parallel-size", "pipeline-parallel-size", "pp", harmless=("1",)),
    _refused("start several servers behind a load balancer", "data-parallel-size", "dp", harmless=("1",)),
    _refused("start several servers behind a load balancer", "api-server-count", harmless=("1",)),
    _refused("one process drives all devices", "distributed-executor-backend", harmless=("mp", "uni")),
    _refused("the KV cache has the model's number format, see --dtype", "kv-cache-dtype", harmless=("auto",)),
    _refused("clients take turns, requests of one go by priority", "scheduling-policy", harmless=("fcfs", "priority")),
    _refused("a preempted request is computed again", "preemption-mode", harmless=("recompute",)),
    _refused("the answer's role is assistant", "response-role", harmless=("assistant",)),
    _refused("use a smaller --dtype, or --tensor-parallel-size", "cpu-offload-gb", harmless=("0", "0.0")),
    _refused(
        "any header and method goes for --cors-origins", "allowed-headers", "allowed-methods", harmless=('["*"]',)
    ),
    # Not to be used
    _refused("pass a checkpoint in 16 bits, or a .gguf file", "quantization", "q"),
    _refused_switch("merge the adapter into the model, and pass that folder", "enable-lora"),
    _refused("merge the adapter into the model, and pass that folder", "lora-modules", "max-loras", "max-lora-rank"),
    _refused("there is no speculative decoding", "speculative-config", "speculative-model", "num-speculative-tokens"),
    _refused("write it into config.json in the model's folder", "hf-overrides", "rope-scaling", "rope-theta"),
    _refused("write it into config.json in the model's folder", "hf-config-path"),
    _refused("--revision counts for all of a repository", "code-revision", "tokenizer-revision"),
    _refused("put a generation_config.json into a folder for --generation-config", "override-generation-config"),
    _refused("use --kv-cache-memory", "num-gpu-blocks-override"),
    _refused("keys and values stay on the device that computed them", "kv-transfer-config"),
    _refused_switch("start the server when it is needed", "enable-sleep-mode"),
    _refused_switch("no model with experts is supported", "enable-expert-parallel"),
    _refused_switch("use --max-model-len with the window's length", "disable-sliding-window"),
    _refused_switch("use --limit-mm-per-prompt image=0", "language-model-only"),
    _refused_switch("use --max-num-seqs 1", "single-user-mode"),
    _refused("requests have logit_bias and their sampling parameters", "logits-processors", "logits-processor-pattern"),
    _refused("pictures come from any public host; --allowed-image-hosts adds others", "allowed-media-domains"),
    _refused("use --log-level and --log-format", "log-config-file"),
    _refused("use --otlp-endpoint, which speaks OTLP over HTTP: port 4318", "otlp-traces-endpoint"),
    _refused_switch("what is answered is never logged", "enable-log-outputs"),
    _refused_switch('requests ask for it: "stream_options": {"include_usage": true}', "enable-force-include-usage"),
    _refused_switch("pages send the key in a header, not in cookies", "allow-credentials"),
    _refused("put a reverse proxy in front", "middleware", "ssl-ca-certs", "ssl-cert-reqs", "ssl-ciphers"),
    _refused_switch("put a reverse proxy in front, or start the server again", "enable-ssl-refresh"),
)
BY_NAME: Mapping[str, OtherFlag] = {name: flag for flag in TABLE for name in flag.names}


def flag_of(name: str) -> OtherFlag | None:
    """The entry for a flag without its dashes: switches have a --no-..., and JSON may be written --flag.key value."""
    found = BY_NAME.get(name) or BY_NAME.get(name.partition(".")[0])
    if found is None and name.startswith("no-"):
        positive = BY_NAME.get(name.removeprefix("no-"))
        found = positive if positive is not None and positive.is_switch else None
    return found


def rows() -> Iterator[tuple[str, str]]:
    """Of the documentation's table: the flag, and what becomes of it here."""
    for flag in TABLE:
        name = ", ".join(f"`{'-' if len(name) < 4 else '--'}{name}`" for name in flag.names)
        if flag.ours:
            yield name, f"`--{flag.ours}`"
        elif flag.is_ignored:
            yield name, f"no effect: {flag.reason}"
        elif flag.harmless:
            yield name, f"{' or '.join(f'`{value}`' for value in flag.harmless)}; else refused: {flag.reason}"
        else:
            yield name, f"refused: {flag.reason}"
