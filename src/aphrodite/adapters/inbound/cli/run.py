"""`aphrodite run MODEL`: serve a model over HTTP."""

import logging
from pathlib import Path

import typer

from aphrodite.adapters.inbound.cli import options
from aphrodite.adapters.inbound.cli.pasted_flags import notes_of
from aphrodite.domain.config import EngineConfig, ServerConfig
from aphrodite.domain.errors import ConfigError

_logger = logging.getLogger(__name__)

_ENGINE = EngineConfig(model="none")  # for the defaults
_SERVER = ServerConfig()


def run(
    context: typer.Context,
    model: options.Model,
    config: options.ConfigFile = None,  # noqa: ARG001 - its values arrive as the defaults of the others
    tokenizer: options.Tokenizer = None,
    revision: options.Revision = None,
    download_dir: options.DownloadDir = None,
    hf_token: options.HfToken = None,
    generation_config: options.GenerationConfig = _ENGINE.generation_config,
    load_format: options.LoadFormat = _ENGINE.load_format,
    trust_remote_code: options.TrustRemoteCode = _ENGINE.trust_remote_code,
    served_model_name: options.ServedModelName = None,
    backend: options.Backend = _ENGINE.backend,
    device: options.Device = _ENGINE.device,
    dtype: options.Dtype = _ENGINE.dtype,
    tensor_parallel_size: options.TensorParallelSize = _ENGINE.tensor_parallel_size,
    max_model_len: options.MaxModelLen = None,
    max_num_seqs: options.MaxNumSeqs = _ENGINE.max_num_seqs,
    max_num_batched_tokens: options.MaxNumBatchedTokens = None,
    block_size: options.BlockSize = _ENGINE.block_size,
    gpu_memory_utilization: options.GpuMemoryUtilization = _ENGINE.gpu_memory_utilization,
    kv_cache_memory: options.KvCacheMemory = None,
    enable_prefix_caching: options.EnablePrefixCaching = _ENGINE.enable_prefix_caching,
    enforce_eager: options.EnforceEager = _ENGINE.enforce_eager,
    limit_mm_per_prompt: options.LimitMmPerPrompt = _ENGINE.limit_mm_per_prompt,
    mm_processor_kwargs: options.MmProcessorKwargs = _ENGINE.mm_processor_kwargs,
    seed: options.Seed = _ENGINE.seed,
    host: options.Host = _SERVER.host,
    port: options.Port = _SERVER.port,
    uds: options.Uds = None,
    root_path: options.RootPath = _SERVER.root_path,
    disable_playground: options.DisablePlayground = _SERVER.disable_playground,
    api_key: options.ApiKey = None,
    cors_origins: options.CorsOrigins = None,
    ssl_certfile: options.SslCertfile = None,
    ssl_keyfile: options.SslKeyfile = None,
    max_body_bytes: options.MaxBodyBytes = _SERVER.max_body_bytes,
    max_logprobs: options.MaxLogprobs = _SERVER.max_logprobs,
    max_queue: options.MaxQueue = _SERVER.max_queue,
    max_connections: options.MaxConnections = _SERVER.max_connections,
    max_connections_per_address: options.MaxConnectionsPerAddress = _SERVER.max_connections_per_address,
    request_timeout: options.RequestTimeout = _SERVER.request_timeout,
    step_timeout: options.StepTimeout = None,
    shutdown_timeout: options.ShutdownTimeout = _SERVER.shutdown_timeout,
    chat_template: options.ChatTemplate = None,
    chat_template_content_format: options.ChatTemplateContentFormat = _SERVER.chat_template_content_format,
    trust_request_chat_template: options.TrustRequestChatTemplate = _SERVER.trust_request_chat_template,
    tool_call_parser: options.ToolCallParser = None,
    reasoning_parser: options.ReasoningParser = None,
    image_fetch_timeout: options.ImageFetchTimeout = _SERVER.image_fetch_timeout,
    max_image_bytes: options.MaxImageBytes = _SERVER.max_image_bytes,
    max_image_pixels: options.MaxImagePixels = _SERVER.max_image_pixels,
    max_resized_pixels: options.MaxResizedPixels = _SERVER.max_resized_pixels,
    image_max_redirects: options.ImageMaxRedirects = _SERVER.image_max_redirects,
    allowed_image_hosts: options.AllowedImageHosts = None,
    allowed_local_media_path: options.AllowedLocalMediaPath = None,
    log_level: options.LogLevel = _SERVER.log_level,
    log_format: options.LogFormat = _SERVER.log_format,
    otlp_endpoint: options.OtlpEndpoint = None,
) -> None:
    """Serve a model over an OpenAI-compatible HTTP API.

    Each flag may also come from the environment, as APHRODITE_PORT for --port, or from --config FILE.
    Flags go before the environment, and that before the file. Most flags of vLLM are taken, too.
    """
    # The libraries behind it take a second to load; --help and mistakes need not wait for them.
    from aphrodite import bootstrap
    from aphrodite.adapters.inbound.http.server import serve

    server_config = ServerConfig(
        host=host,
        port=port,
        uds=uds,
        root_path=root_path,
        disable_playground=disable_playground,
        served_model_name=tuple(served_model_name or ()),
        api_key=tuple(api_key or ()),
        cors_origins=tuple(cors_origins or ()),
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        max_body_bytes=max_body_bytes,
        max_logprobs=max_logprobs,
        max_queue=max_queue,
        max_connections=max_connections,
        max_connections_per_address=max_connections_per_address,
        request_timeout=request_timeout,
        step_timeout=step_timeout,
        shutdown_timeout=shutdown_timeout,
        chat_template_content_format=chat_template_content_format,
        trust_request_chat_template=trust_request_chat_template,
        tool_call_parser=tool_call_parser,
        reasoning_parser=reasoning_parser,
        image_fetch_timeout=image_fetch_timeout,
        max_image_bytes=max_image_bytes,
        max_image_pixels=max_image_pixels,
        max_resized_pixels=max_resized_pixels,
        image_max_redirects=image_max_redirects,
        allowed_image_hosts=tuple(allowed_image_hosts or ()),
        allowed_local_media_path=allowed_local_media_path,
        log_level=log_level,
        log_format=log_format,
        otlp_endpoint=otlp_endpoint,
    )
    engine_config = EngineConfig(
        model=model,
        tokenizer=tokenizer,
        backend=backend,
        device=device,
        dtype=dtype,
        revision=revision,
        download_dir=download_dir,
        hf_token=hf_token,
        generation_config=generation_config,
        trust_remote_code=trust_remote_code,
        load_format=load_format,
        tensor_parallel_size=tensor_parallel_size,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        block_size=block_size,
        gpu_memory_utilization=gpu_memory_utilization,
        kv_cache_memory=kv_cache_memory,
        enable_prefix_caching=enable_prefix_caching,
        enforce_eager=enforce_eager,
        limit_mm_per_prompt=limit_mm_per_prompt,
        mm_processor_kwargs=mm_processor_kwargs,
        chat_template=None if chat_template is None else read_chat_template(chat_template),
        seed=seed,
    )
    parts = bootstrap.build_server(engine_config, server_config)
    for note in notes_of(context):
        _logger.warning("%s", note)
    serve(parts, engine_config, server_config)


def read_chat_template(value: str) -> str:
    """The template itself, be `value` its file or its text. Raises ConfigError."""
    if "{" in value or "\n" in value:
        return value
    try:
        return Path(value).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--chat-template must be a file that can be read, or a Jinja template; got {value[:200]!r}."
        ) from error
