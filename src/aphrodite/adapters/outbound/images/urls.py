"""An http(s) URL, taken apart once: what is checked is what is connected to.

The parser takes less than a browser does. Where parsers are known to disagree (backslashes, blanks, control characters,
percent signs in the host, numbers that only some read as an address) the URL is refused instead of guessed at.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NoReturn
from urllib.parse import quote, urljoin

import idna

from aphrodite.domain.errors import ImageUrlError

_MAX_CHARS = 8192
_MAX_HOST_CHARS = 253  # RFC 1035
_DEFAULT_PORTS = {"http": 80, "https": 443}

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\\ud800-\udfff]")
_PARTS = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE)  # RFC 3986, appendix B
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]+)(?::([0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A URL that is safe to take to a connection as it stands."""

    scheme: str  # http or https
    host: str  # ASCII, lower case, without brackets or a trailing dot
    port: int
    target: str  # path and query, ASCII

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def join(self, location: str) -> "HttpUrl":
        """Where a redirect from here to `location` leads. Raises ImageUrlError."""
        if _UNSAFE.search(location):
            _refuse_characters()
        try:
            joined = urljoin(str(self), location)
        except ValueError as error:  # the standard library's parser, on brackets and some Unicode
            raise ImageUrlError("The image URL redirects to an address that is not a valid URL.") from error
        return parse_http_url(joined)


def parse_http_url(text: str) -> HttpUrl:
    """Take an http:// or https:// URL apart.

    Raises ImageUrlError for anything else, for user names and passwords, and for every form that parsers differ on.
    """
    if len(text) > _MAX_CHARS:
        raise ImageUrlError(f"The image URL is longer than {_MAX_CHARS} characters.")
    if _UNSAFE.search(text):
        _refuse_characters()
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ImageUrlError("The image URL must look like http://host/path or https://host/path.")
    scheme, authority, path, query = parts[1].lower(), parts[2], parts[3], parts[4] or ""
    if "@" in authority:
        raise ImageUrlError("The image URL holds a user name or a password; remove them.")
    place = _AUTHORITY.fullmatch(authority)
    if place is None:
        raise ImageUrlError("The host or the port of the image URL is not valid.")
    port = int(place[2]) if place[2] else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise ImageUrlError("The port of the image URL must be between 1 and 65535.")
    target = quote((path or "/") + query, safe="%/:?#[]@!$&'()*+,;=~")
    return HttpUrl(scheme, normal_host(place[1]), port, target)


def normal_host(host: str) -> str:
    """A host's one spelling: ASCII, lower case, no trailing dot; IPv6 without brackets, in its shortest form.

    Raises ImageUrlError for what is neither a host name nor an address in its usual form.
    """
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1])
    name = _ascii(host).lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise ImageUrlError("The host of the image URL is not a valid host name.")
    if _NUMBER.fullmatch(labels[-1]):  # an address, or one of the spellings that some resolvers take for one
        try:
            return str(IPv4Address(name))
        except AddressValueError as error:
            raise ImageUrlError(
                "The host of the image URL is a number but not an IPv4 address of four decimal parts."
            ) from error
    return name


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    if len(host) > _MAX_HOST_CHARS:  # before the conversion, which takes its time on long ones
        raise ImageUrlError("The host of the image URL is not a valid host name.")
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except UnicodeError as error:  # idna.IDNAError is one
        raise ImageUrlError("The host of the image URL is not a valid international host name.") from error


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError as error:
        raise ImageUrlError("The host of the image URL is not a valid IPv6 address.") from error
    if address.scope_id is not None:
        raise ImageUrlError("The IPv6 address of the image URL has a zone; remove it.")
    return str(address)


def _refuse_characters() -> NoReturn:
    raise ImageUrlError("The image URL holds a blank, a control character or a backslash; percent-encode them.")
