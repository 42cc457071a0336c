"""`aphrodite chat`: talk to a running server from the terminal."""

import base64
import json
import mimetypes
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Annotated, Any

import typer

from aphrodite.domain.errors import ConfigError, ServerTalkError

_TIMEOUT_S = 600.0  # between two pieces of an answer


def chat(
    question: Annotated[str | None, typer.Argument(help="Asked once; without it you are asked for questions.")] = None,
    image: Annotated[Path | None, typer.Option(help="Picture that the first question is about.")] = None,
    url: Annotated[str, typer.Option(help="The server.", envvar="APHRODITE_URL")] = "http://localhost:2242",
    model: Annotated[str | None, typer.Option(help="One of the server's models; default: the first.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told beforehand.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 for the likeliest answer.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The server's key.", envvar="APHRODITE_API_KEY")] = None,
) -> None:
    """Talk to a running server. End with Ctrl-D or an empty line."""
    server = _Server(url, api_key)
    settings = {"model": model or server.first_model(), "max_tokens": max_tokens, "temperature": temperature}
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    picture = None if image is None else _image_part(image)
    while asked := question or _ask():
        text = {"type": "text", "text": asked}
        messages.append({"role": "user", "content": asked if picture is None else [text, picture]})
        picture = None  # it stays in the conversation
        answer = ""
        for piece in server.answer({"messages": messages} | settings):
            typer.echo(piece, nl=False)
            answer += piece
        typer.echo()
        messages.append({"role": "assistant", "content": answer})
        if question is not None:
            return


class _Server:
    def __init__(self, url: str, api_key: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--url must start with http:// or https://, got {url!r}.")
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def first_model(self) -> str:
        with self._open("/v1/models") as response:
            name: str = json.load(response)["data"][0]["id"]
        return name

    def answer(self, request: dict[str, Any]) -> Iterator[str]:
        """The pieces of an answer, as they come."""
        with self._open("/v1/chat/completions", request | {"stream": True}) as response:
            try:
                for line in response:
                    _, is_data, data = line.decode().partition("data: ")
                    if not is_data or data.strip() == "[DONE]":
                        continue
                    event = json.loads(data)
                    if "error" in event:
                        raise ServerTalkError(event["error"]["message"])
                    yield from (choice["delta"].get("content") or "" for choice in event["choices"])
            except (OSError, HTTPException) as error:
                raise ServerTalkError("The connection to the server broke off.") from error

    def _open(self, path: str, body: dict[str, Any] | None = None) -> HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers)
        try:
            response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise ServerTalkError(_message(error)) from error
        except (OSError, HTTPException) as error:
            raise ServerTalkError(
                f"No server can be reached at {self._url}; start one with: aphrodite run demo (or another model)"
            ) from error
        return response


def _message(error: urllib.error.HTTPError) -> str:
    try:
        message: str = json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"The server answers with status {error.code}."
    return message


def _image_part(path: Path) -> dict[str, Any]:
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise ConfigError(f"--image cannot be read: {path}: {error.strerror}.") from error
    kind, _ = mimetypes.guess_type(path.name)
    return {"type": "image_url", "image_url": {"url": f"data:{kind or 'image/png'};base64,{data}"}}


def _ask() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""
