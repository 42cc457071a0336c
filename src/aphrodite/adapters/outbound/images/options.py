"""What fetching may do and take."""

from dataclasses import dataclass
from pathlib import Path

from aphrodite.adapters.outbound.images.urls import normal_host
from aphrodite.domain.errors import ConfigError, ImageUrlError


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """Limits of image fetching. Raises ConfigError for a value out of its range."""

    timeout_s: float = 10.0  # of one fetch in all: host names, redirects, the last byte
    max_image_bytes: int = 20 * 1024 * 1024
    max_redirects: int = 0
    allowed_hosts: frozenset[str] = frozenset()  # trusted at whatever address; others only at public ones
    allowed_local_media_path: Path | None = None  # file: URLs under this folder are read

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < float("inf"):
            raise ConfigError("APHRODITE_IMAGE_FETCH_TIMEOUT must be a number of seconds above 0.")
        if self.max_image_bytes < 1:
            raise ConfigError("--max-image-bytes must be at least 1.")
        if self.max_redirects < 0:
            raise ConfigError("--image-max-redirects must be at least 0.")
        object.__setattr__(self, "allowed_hosts", frozenset(_host(host) for host in self.allowed_hosts))
        folder = self.allowed_local_media_path
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"--allowed-local-media-path must be a folder; {folder} is none.")


def _host(host: str) -> str:
    try:
        return normal_host(f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host)
    except ImageUrlError as error:
        raise ConfigError(f"--allowed-image-hosts takes host names and addresses, no ports; got {host!r}.") from error
