"""The server process: from parts to an open port, and to a good end."""

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil

import uvicorn
from starlette.applications import Starlette

from aphrodite.adapters.inbound.http.app import create_app
from aphrodite.adapters.inbound.http.connection import Connection
from aphrodite.adapters.inbound.http.connections import Connections
from aphrodite.adapters.inbound.http.descriptors import num_free_descriptors
from aphrodite.adapters.inbound.http.listening import bound_socket, listen
from aphrodite.adapters.inbound.http.preparation import Preparer
from aphrodite.adapters.inbound.http.service import Service
from aphrodite.bootstrap import ServerParts
from aphrodite.cpus import num_cpus
from aphrodite.domain.config import EngineConfig, ServerConfig
from aphrodite.domain.errors import ConfigError, EngineDeadError

_logger = logging.getLogger(__name__)

_MAX_THREADS = 8
_LAST_ANSWERS_S = 5  # for errors to reach their clients once the time of requests is up
_TLS_HANDSHAKE_S = 10.0
_MAX_BACKLOG = 4096
_KEEP_ALIVE_S = 65  # longer than the minute that proxies commonly keep idle connections


def serve(parts: ServerParts, config: EngineConfig, server: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT; returns when what ran has ended.

    Raises ConfigError for an address or certificate that cannot be used, ModelError or BackendError when the engine
    cannot be built, EngineDeadError when it died too often.
    """
    with (
        bound_socket(server) as listener,
        ThreadPoolExecutor(_num_threads(), "aphrodite-prepare") as pool,
        ThreadPoolExecutor(1, "aphrodite-long-text") as long_text_pool,
        ThreadPoolExecutor(1, "aphrodite-body") as body_pool,
    ):
        service = _service(parts, config, server, pool, long_text_pool, body_pool)
        max_images = 0 if parts.reader is None else config.max_images
        http = _Server(_uvicorn_config(create_app(service, server, max_images, parts.tracer), server), server)
        with asyncio.Runner(loop_factory=http.config.get_loop_factory()) as runner:
            runner.run(_run(http, parts, server, listener))


async def _run(http: "_Server", parts: ServerParts, server: ServerConfig, listener: socket.socket) -> None:
    client = parts.client
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _interrupt, stop)
    stopped = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(_start(parts))
    tasks: list[asyncio.Task[object]] = [stopped, starting]
    try:
        await asyncio.wait({stopped, starting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return
        starting.result()
        address = listen(listener, server)
        failed = asyncio.create_task(client.failed())
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        tasks += [failed, serving]
        _logger.info("Paths: %s", ", ".join(route.path for route in getattr(http.config.app, "routes", ())))
        _logger.info("Aphrodite is ready at %s", address)
        await asyncio.wait({stopped, failed, serving}, return_when=asyncio.FIRST_COMPLETED)
        _logger.info("Shutting down: no more requests are taken, those that run may finish.")
        http.should_exit = True
        if not failed.done():
            await asyncio.wait({serving}, timeout=server.shutdown_timeout)
        await client.shutdown(timeout_s=0)
        await serving
        if failed.done():
            raise EngineDeadError(str(failed.result()))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await client.shutdown(timeout_s=0)
        await parts.fetcher.close()
        if parts.reader is not None:
            await parts.reader.close()
        if parts.tracer is not None:
            await asyncio.to_thread(parts.tracer.close)


async def _start(parts: ServerParts) -> None:
    """Start what runs in processes of its own, side by side."""
    starts = [parts.client.start()] + ([parts.reader.start()] if parts.reader is not None else [])
    await asyncio.gather(*starts)


def _interrupt(stop: asyncio.Event) -> None:
    """The first time asks for an end, the second does not wait for it; the engine ends with its parent."""
    if stop.is_set():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    stop.set()


class _Server(uvicorn.Server):
    """uvicorn's, with connections of our own.

    It leaves signals to us: uvicorn's own handling would end the process by the signal, not with exit code 0.
    """

    def __init__(self, config: uvicorn.Config, server: ServerConfig) -> None:
        super().__init__(config)
        max_open = min(server.max_connections, num_free_descriptors() // 2)
        self._connections = Connections(max_open, min(server.max_connections_per_address, ceil(max_open / 2)))
        self._backlog = min(_MAX_BACKLOG, 2 * max_open)  # connections that come before the first of them is looked at

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = [await self._take(listener) for listener in sockets or ()]
        self.started = True

    async def _take(self, listener: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        take = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
        return await take(
            self._connect,
            sock=listener,
            ssl=self.config.ssl,
            ssl_handshake_timeout=_TLS_HANDSHAKE_S if self.config.ssl else None,
            backlog=self._backlog,
        )

    def _connect(self) -> Connection:
        return Connection(self.config, self.server_state, {}, connections=self._connections)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(app: Starlette, server: ServerConfig) -> uvicorn.Config:
    uvicorn_config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=ceil(server.shutdown_timeout) + _LAST_ANSWERS_S,
        ssl_certfile=server.ssl_certfile,
        ssl_keyfile=server.ssl_keyfile,
    )
    try:
        uvicorn_config.load()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            "--ssl-certfile and --ssl-keyfile must be a certificate and its key, in PEM files."
        ) from error
    return uvicorn_config


def _service(
    parts: ServerParts,
    config: EngineConfig,
    server: ServerConfig,
    pool: Executor,
    long_text_pool: Executor,
    body_pool: Executor,
) -> Service:
    frontend, content_format = parts.frontend, server.chat_template_content_format
    preparer = Preparer(
        processor=frontend.processor,
        tokenizer=frontend.tokenizer,
        image_token=frontend.image_token,
        image_marks=frontend.image_marks,
        chat_template=parts.chat_template,
        content_format=None if content_format == "auto" else content_format,
        fetcher=parts.fetcher,
        reader=parts.reader,
        executor=pool,
        long_text_executor=long_text_pool,
        max_model_len=lambda: parts.client.limits.max_model_len,
        clock=frontend.clock,
        metrics=parts.metrics,
        max_images=config.max_images,
        max_open=server.max_queue,
    )
    return Service(
        model=config.model,
        model_names=server.served_model_name or (config.model,),
        client=parts.client,
        preparer=preparer,
        tokenizer=frontend.tokenizer,
        clock=frontend.clock,
        metrics=parts.metrics,
        default_sampling=frontend.default_sampling,
        chat_template=parts.chat_template,
        tool_call_parser=server.tool_call_parser,
        reasoning_parser=server.reasoning_parser,
        trust_request_chat_template=server.trust_request_chat_template,
        takes_processor_settings=server.max_resized_pixels > 0,
        max_logprobs=server.max_logprobs,
        body_executor=body_pool,
    )


def _num_threads() -> int:
    return min(num_cpus(), _MAX_THREADS)
