"""Names of models: folders, files, the demo, and the hub as its own client library sees it."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import huggingface_hub
import pytest

from aphrodite.adapters.outbound.huggingface.location import HubOptions, ModelLocation, locate_model, locate_tokenizer
from aphrodite.domain.errors import ModelNotFoundError, UnsupportedModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the hub fails in another way than the tests expect."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, offline as HF_HUB_OFFLINE=1 makes it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.mark.usefixtures("no_network")
def test_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert locate_model(str(tmp_path)) == ModelLocation(tmp_path)


@pytest.mark.usefixtures("no_network")
def test_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in ("models", "./models", "../" + tmp_path.name + "/models"):
        assert (locate_model(name).folder / "config.json").is_file()


@pytest.mark.usefixtures("no_network")
def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert locate_model("~").folder == tmp_path


@pytest.mark.usefixtures("no_network")
def test_gguf_file_alone_and_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    expected = ModelLocation(tmp_path, "model.gguf")
    assert locate_model(str(tmp_path / "model.gguf")) == expected
    assert locate_model(str(tmp_path)) == expected
    assert expected.gguf_path == tmp_path / "model.gguf"
    (tmp_path / "other.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=r"several \.gguf files"):
        locate_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert locate_model(str(tmp_path)) == ModelLocation(tmp_path)


@pytest.mark.usefixtures("no_network")
def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"holds no model: it has no config\.json and no \.gguf file"):
        locate_model(str(tmp_path))
    assert locate_tokenizer(str(tmp_path)) == ModelLocation(tmp_path)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["./none", "/none", "~/none", "~nobody/none", "a\\b", "a/b/c", "none.gguf", ".."])
def test_paths_are_never_asked_of_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    with pytest.raises(ModelNotFoundError):
        locate_model(name)


@pytest.mark.usefixtures("no_network")
def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match="pass the folder"):
        locate_model(str(tmp_path / "config.json"))


def test_repository_in_the_cache(cache: Path) -> None:
    repository = cache / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert locate_model("some/model") == ModelLocation(snapshot)
    assert locate_model("some/model", HubOptions(revision=COMMIT)) == ModelLocation(snapshot)


@pytest.mark.usefixtures("cache")
def test_offline_and_not_in_the_cache() -> None:
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE keeps from downloading") as caught:
        locate_model("some/model")
    assert caught.value.__cause__ is not None


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["not a name", "a--b/c..d", "-x", "é", "x" * 200, "x" * 5000, "\0"])
def test_names_that_no_repository_has(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="neither a folder"):
        locate_model(name)


class Hub(BaseHTTPRequestHandler):
    """Of the hub's HTTP interface what a download asks for; repository "some/model" holds FILES."""

    FILES: ClassVar = {
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors": b"weights",
        "model.bin": b"x",
        "consolidated.safetensors": b"x",
    }
    TOKENS: ClassVar[list[str | None]] = []  # of the requests

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        self.TOKENS.append(self.headers.get("Authorization"))
        path = self.path.split("?")[0]
        body, headers, status = b"{}", {}, 200
        if path in ("/api/models/some/model", "/api/models/some/model/revision/main"):
            files = [{"rfilename": name} for name in self.FILES]
            body = json.dumps({"id": "some/model", "sha": COMMIT, "siblings": files}).encode()
        elif path.startswith(f"/api/models/some/model/tree/{COMMIT}"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in self.FILES.items()
            ]
            body = json.dumps(tree).encode()
        elif path.startswith("/some/model/resolve/") and path.rsplit("/", 1)[-1] in self.FILES:
            body = self.FILES[path.rsplit("/", 1)[-1]]
            headers = {"ETag": f'"{path.rsplit("/", 1)[-1]}"', "X-Repo-Commit": COMMIT}
        else:
            status = 403 if "gated" in path else 500 if "broken" in path else 404
            code = {"gated": "GatedRepo", "some/model/revision": "RevisionNotFound"}
            headers = (
                {}
                if status == 500
                else {"X-Error-Code": next((code[key] for key in code if key in path), "RepoNotFound")}
            )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield cache
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)


@pytest.mark.usefixtures("hub")
def test_download_takes_what_a_model_is_read_from() -> None:
    folder = locate_model("some/model").folder
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_a_download_goes_where_it_is_told_to_with_the_token_given(hub: Path, tmp_path: Path) -> None:
    Hub.TOKENS.clear()
    folder = locate_model("some/model", HubOptions(folder=str(tmp_path / "models"), token="hf_given")).folder
    assert (folder / "model.safetensors").is_file()
    assert folder.is_relative_to(tmp_path / "models")
    assert not hub.exists()
    assert set(Hub.TOKENS) == {"Bearer hf_given"}


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "revision", "sentence"),
    [
        ("some/other", None, "the Hugging Face hub knows no repository of that name"),
        ("some/gated", None, "is gated; accept its terms"),
        ("some/model", "v9", "has no revision v9"),
    ],
)
def test_what_the_hub_does_not_give(name: str, revision: str | None, sentence: str) -> None:
    with pytest.raises(ModelNotFoundError, match=sentence) as caught:
        locate_model(name, HubOptions(revision))
    assert "http" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.usefixtures("cache")
def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(ModelNotFoundError, match="could not be reached; pass a local folder"):
        locate_model("some/model")


@pytest.mark.usefixtures("hub")
def test_a_model_is_judged_before_its_weights_are_downloaded() -> None:
    seen: list[list[str]] = []

    def refuse(folder: Path) -> None:
        seen.append(sorted(path.name for path in folder.iterdir()))
        raise UnsupportedModelError("Not this one.")

    with pytest.raises(UnsupportedModelError):
        locate_model("some/model", check=refuse)
    assert seen == [["config.json"]]


@pytest.mark.usefixtures("hub")
def test_the_hub_in_trouble_is_not_a_hub_out_of_reach() -> None:
    with pytest.raises(ModelNotFoundError, match="answered with the status 500"):
        locate_model("some/broken")
