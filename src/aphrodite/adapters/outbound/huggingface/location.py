"""What the name of a model means: the bundled demo, a folder, a .gguf file, or a repository on the Hugging Face hub."""

import errno
import importlib.resources
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aphrodite.domain.errors import ModelNotFoundError

DEMO = "demo"

# Everything that a model is read from; repositories often hold other formats of the same weights beside it.
_HUB_FILES = ("*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt", "*.py")
_HUB_WEIGHTS = ("*.safetensors",)
_HUB_OTHERS = ("*/*", "consolidated*")


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """Where a model's files lie."""

    folder: Path
    gguf_file: str | None = None  # its name inside `folder`; None for Hugging Face's own format
    is_from_hub: bool = False  # downloaded, its weights perhaps not yet

    @property
    def gguf_path(self) -> Path | None:
        return None if self.gguf_file is None else self.folder / self.gguf_file


@dataclass(frozen=True, slots=True)
class HubOptions:
    """How a repository is downloaded; None: as the hub's library is set up."""

    revision: str | None = None  # branch, tag or commit
    folder: str | None = None  # where repositories are stored
    token: str | None = field(default=None, repr=False)


AS_SET_UP = HubOptions()


def locate_model(
    name: str, hub: HubOptions = AS_SET_UP, check: Callable[[Path], object] | None = None
) -> ModelLocation:
    """Find a model's files, downloading them when `name` is a repository; HF_HUB_OFFLINE is respected.

    Of a repository `check` is shown the folder with everything but the weights, before those are downloaded.

    Raises ModelNotFoundError, and what `check` raises.
    """
    location = locate_tokenizer(name, hub)
    if location.is_from_hub:
        if check is not None:
            check(location.folder)
        return ModelLocation(_download(name, hub, (*_HUB_FILES, *_HUB_WEIGHTS)))
    if location.gguf_file is not None or (location.folder / "config.json").is_file():
        return location
    found = sorted(path.name for path in location.folder.glob("*.gguf"))
    if len(found) == 1:
        return ModelLocation(location.folder, found[0])
    if found:
        raise ModelNotFoundError(f"The folder {location.folder} holds several .gguf files; pass one, as {found[0]}.")
    raise ModelNotFoundError(f"The folder {location.folder} holds no model: it has no config.json and no .gguf file.")


def locate_tokenizer(name: str, hub: HubOptions = AS_SET_UP) -> ModelLocation:
    """As `locate_model`, but the folder may hold a tokenizer alone."""
    if name == DEMO:
        return _demo()
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return ModelLocation(path)
        if path.is_file():
            return _file(path)
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such home, a null character
        raise _not_found(name) from error
    if _looks_like_path(name):
        raise ModelNotFoundError(f"No model at {name}: there is no such folder or .gguf file.")
    return ModelLocation(_download(name, hub, _HUB_FILES), is_from_hub=True)


def _demo() -> ModelLocation:
    folder = Path(str(importlib.resources.files("aphrodite"))) / "demo_model"
    if not folder.is_dir():
        raise ModelNotFoundError("The bundled demo model is missing from this installation; install the package again.")
    return ModelLocation(folder)


def _file(path: Path) -> ModelLocation:
    if path.suffix.lower() != ".gguf":
        raise ModelNotFoundError(f"{path} is not a .gguf file; pass the folder that holds the model's config.json.")
    return ModelLocation(path.parent, path.name)


def _looks_like_path(name: str) -> bool:
    """True for what is never a repository `owner/name`, and so never asked of the hub."""
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or name.lower().endswith(".gguf")


def _download(name: str, hub: HubOptions, patterns: Sequence[str]) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = huggingface_hub.snapshot_download(
            name,
            revision=hub.revision,
            cache_dir=hub.folder,
            token=hub.token,
            allow_patterns=list(patterns),
            ignore_patterns=list(_HUB_OTHERS),
        )
    except errors.GatedRepoError as error:
        raise ModelNotFoundError(
            f"The model {name} is gated; accept its terms on the Hugging Face hub and log in with `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(f"The model {name} has no revision {hub.revision} on the Hugging Face hub.") from error
    except errors.HFValidationError as error:
        raise _not_found(name) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"No model named {name}: the Hugging Face hub knows no repository of that name that you can read, "
            "and there is no such folder; check the name, or log in with `hf auth login` if it is private."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(name, error.__cause__) from error
    except errors.HfHubHTTPError as error:
        raise _unreachable(name, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise ModelNotFoundError(
                f"The model {name} cannot be stored: {error.strerror}; HF_HOME or download_dir says in which folder."
            ) from error
        raise _unreachable(name, error) from error
    return Path(folder)


def _not_found(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"No model named {name}: it is neither a folder, nor a .gguf file, nor a repository on the Hugging Face hub "
        f'that you can read, nor "{DEMO}".'
    )


def _unreachable(name: str, cause: BaseException | None) -> ModelNotFoundError:
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return ModelNotFoundError(
            f"The model {name} is not on this machine, and HF_HUB_OFFLINE keeps from downloading it; pass a local "
            "folder, or unset it."
        )
    if isinstance(cause, errors.HfHubHTTPError):
        return ModelNotFoundError(
            f"The model {name} is not on this machine and the Hugging Face hub answered with the status "
            f"{cause.response.status_code}; pass a local folder, or try again later."
        )
    return ModelNotFoundError(
        f"The model {name} is not on this machine and the Hugging Face hub could not be reached; "
        "pass a local folder, or try again with a connection."
    )
