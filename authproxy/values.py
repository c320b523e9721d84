"""What a configuration's values may look like: durations, sizes, URLs, secrets.

Each is a plain type with a validator, so that a schema is an ordinary class with annotations. None of
the messages repeats the value: it may be a secret put in the wrong place.
"""

import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo, WithJsonSchema

from authproxy import malformed
from authproxy.capabilities import MAX_SOCKET_PATH, UNIX_SOCKETS

DEFAULT_PORTS = {"http": 80, "https": 443}

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\Z")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?\Z")
_SIZE_UNITS = {"B": 1, None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_HOST = re.compile(r"[A-Za-z0-9._\-]*\Z")

_UNSAFE_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
UNSAFE_IN_URL = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")


def _duration(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(malformed.duration_fault(value))
    return float(match[1]) * _DURATION_UNITS[match[2]]


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(malformed.size_fault(value))
    return int(match[1]) * _SIZE_UNITS[match[2]]


def split_url(url: str) -> SplitResult:
    """Split an absolute http(s) URL; raise ValueError, which never quotes it, when it is not one."""
    if url.strip() != url:
        raise ValueError("should not begin or end with whitespace; remove it")
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        port_is_right = False
    if not port_is_right or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(malformed.url_fault(url))
    if not parts.hostname.isascii():
        raise ValueError("should name an international host in its ASCII form (xn--…)")
    if UNSAFE_IN_URL.search(url):
        raise ValueError("should not contain spaces, control characters or backslashes")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "should not contain user information; give the credential under `auth`, as with `grant: basic`"
        )
    if parts.fragment or url.endswith("#"):
        raise ValueError("should not contain a fragment (#); remove it")
    return parts


def is_url(value: object) -> bool:
    """Tell whether `value` is an absolute http(s) URL."""
    try:
        return isinstance(value, str) and bool(split_url(value))
    except ValueError:
        return False


def _url(value: str) -> str:
    split_url(value)
    return value


def _header_name(value: str) -> str:
    if not _HEADER_NAME.match(value):
        raise ValueError("should be a header name: letters, digits and hyphens")
    return value


def any_spelling(name: str) -> str:
    """Return what is equal for all spellings of a header's name: to gateways `X_Api_Key` is `X-Api-Key`."""
    return name.lower().replace("_", "-")


def _header_value(value: str) -> str:
    if _UNSAFE_IN_HEADER.search(value):
        raise ValueError("should not contain line breaks or control characters")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("should contain only characters that a header can carry (Latin-1)") from None
    return value.strip(" \t")


def _secret_header(value: SecretStr) -> SecretStr:
    return SecretStr(_header_value(value.get_secret_value()))


def _basic_username(value: str) -> str:
    if ":" in value:
        raise ValueError("a username for Basic must not contain a colon (RFC 7617 §2)")
    return value


def _pointer(value: str) -> str:
    if value and not value.startswith("/"):
        raise ValueError(
            'should be a JSON Pointer (RFC 6901), such as /access_token; "" is the whole document'
        )
    return value


def _local_path(value: str, info: ValidationInfo) -> str:
    """Return `value` as seen from the directory of the configuration (`context["directory"]`)."""
    context: Mapping[str, Path] = info.context or {}
    if not value or "\0" in value:
        raise ValueError("should be a path")
    if _CONTROL.search(value):
        raise ValueError(f"contains a control character; {malformed.ESCAPES}")
    _as_bytes(value)
    try:
        return str(context.get("directory", Path()) / Path(value).expanduser())
    except RuntimeError:
        raise ValueError("names a home directory (~) that does not exist") from None


def _as_bytes(path: str) -> bytes:
    """Return `path` as the system takes it; raise ValueError when the locale cannot say it."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise ValueError(
            f"contains a character that file names cannot have in this locale ({encoding}); "
            "set LC_ALL=C.UTF-8"
        ) from None


def _readable(value: str, info: ValidationInfo) -> str:
    """Return the path of a file that can be read. It was joined: of a fault the directory alone is told."""
    directory = (info.context or {}).get("directory")
    try:
        with Path(value).open("rb") as file:
            file.read(1)
    except OSError as error:
        is_relative = isinstance(error, FileNotFoundError) and directory and directory in Path(value).parents
        where = f"; it was looked for in {directory}" if is_relative else ""
        raise ValueError(f"the file cannot be read: {error.strerror}{where}") from None
    return value


def bracketed(host: str) -> str:
    """Return `host` as it stands before a port (RFC 3986 §3.2.2)."""
    return f"[{host}]" if ":" in host else host


def reached_at(host: str) -> str:
    """Return the host by which this machine reaches what listens on `host`: that may be every address."""
    try:
        address = ip_address(host or "0.0.0.0")  # noqa: S104 - what an empty host means
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "::1" if address.version == 6 else "127.0.0.1"


def port_of(url: SplitResult) -> int:
    """Return the port of an http or https URL."""
    return url.port or DEFAULT_PORTS[url.scheme]


def split_address(address: str) -> tuple[str, int] | None:
    """Split `HOST:PORT` or `[HOST]:PORT`; return None for `unix:/PATH`; raise ValueError for the rest."""
    if address.startswith("unix:/") and "\0" not in address:
        return None
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    right = colon and port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536
    if not right or not (bracketed or _HOST.match(host)):
        raise ValueError(malformed.address_fault(address))
    if bracketed:
        try:
            ip_address(host[1:-1].partition("%")[0])
        except ValueError:
            raise ValueError("should contain an IPv6 address between the brackets") from None
    return host.strip("[]"), int(port)


def _address_text(value: Any) -> Any:
    """Return a port that stands alone as text, to be told as the address that it is not."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list | tuple):
        raise ValueError(f"{malformed.ADDRESS}; one address, not a list")  # noqa: TRY004 - as below
    if not isinstance(value, str):
        raise ValueError(malformed.ADDRESS)  # noqa: TRY004 - pydantic takes ValueError alone
    return value


def _address(value: str) -> str:
    if split_address(value) is not None:
        return value
    if not UNIX_SOCKETS:
        raise ValueError(f"should be HOST:PORT: {UNIX_SOCKETS.lack}")
    if len(_as_bytes(value)) > len("unix:") + MAX_SOCKET_PATH:
        raise ValueError(f"should be unix: and a path of at most {MAX_SOCKET_PATH} bytes")
    return value


@dataclass(frozen=True, slots=True)
class Charset:
    """What a text may hold that is sent to prove who we are. Goes into `Annotated`, beside the type.

    `authproxy.config.texts` judges it, as it knows where a text came from. `refused` characters are a fault,
    `odd` ones a warning; `rule` says why. An empty text is a fault when it is `filled`. White space at either
    end is a warning; when it is `bare` a fault, and nothing at all when it is `stripped` before it is sent.
    With `only_given` just the parts are judged that references gave: nobody says whether the rest is secret.
    """

    rule: str
    refused: re.Pattern[str]
    odd: re.Pattern[str] | None = None
    filled: bool = False
    bare: bool = False
    stripped: bool = False
    only_given: bool = False


_NEVER = r"\ud800-\udfff\ufeff"  # half a character, and a byte order mark
CLIENT = Charset(
    "a client's id and secret contain printable ASCII only (RFC 6749 A.1, A.2)",
    refused=re.compile(rf"[\x00-\x1f\x7f{_NEVER}]"),
    odd=re.compile(r"[^\x20-\x7e]"),  # there are servers that take it
)
USER = Charset(
    "a user's name and password contain no line break and no control character (RFC 6749 A.15, A.16)",
    refused=re.compile(rf"[\x00-\x08\x0a-\x1f\x7f{_NEVER}]"),
)
BASIC = Charset(
    "a Basic credential contains no control character (RFC 7617 §2)",
    refused=re.compile(rf"[\x00-\x1f\x7f{_NEVER}]"),
)
TOKEN = Charset(
    "a token contains printable ASCII only (RFC 6749 A.12, A.17)",
    refused=re.compile(r"[^\x20-\x7e]"),
    filled=True,
)
STATIC_TOKEN = Charset(TOKEN.rule, TOKEN.refused, filled=True, stripped=True)
ACCESS_KEY = Charset(
    "no header carries it, so that nobody could send this key",
    refused=re.compile(rf"[\x00-\x1f\x7f{_NEVER}]"),
    filled=True,
    bare=True,
)
SECRET = Charset(
    "a secret contains no control character, nor a line break at its ends",
    refused=re.compile(rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f{_NEVER}]|\A[\r\n]+|[\r\n]+\Z"),
    odd=re.compile(r"[\r\n]"),
)
PASSPHRASE = Charset(SECRET.rule, SECRET.refused, SECRET.odd, filled=True)
JSON_TEXT = Charset(SECRET.rule, SECRET.refused, SECRET.odd, only_given=True)
HEADER_TEXT = Charset("", re.compile(r"(?!)"), stripped=True)  # its own type judges the rest
OTHERWISE_READ = Charset("", re.compile(r"(?!)"), stripped=True)
"""Of a text that is not sent but read, by who knows what it should be: a key, a second factor's secret."""

_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)?$"},
    ]
}
_SIZE_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+\s*(B|KiB|MiB|GiB)?$"}]
}

Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""Seconds."""
Size = Annotated[int, BeforeValidator(_size), WithJsonSchema(_SIZE_SCHEMA)]
"""Bytes."""
URL = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "format": "uri"})]
"""An absolute http(s) URL without user information or fragment."""
HeaderName = Annotated[str, AfterValidator(_header_name)]
SecretHeaderValue = Annotated[SecretStr, AfterValidator(_secret_header), HEADER_TEXT]
Pointer = Annotated[str, AfterValidator(_pointer)]
"""A JSON Pointer, RFC 6901."""
_A_PATH = WithJsonSchema({"type": "string", "format": "path"})
LocalPath = Annotated[str, AfterValidator(_local_path), _A_PATH]
"""A path; a relative one starts from the directory of the configuration."""
ReadableFile = Annotated[str, AfterValidator(_local_path), AfterValidator(_readable), _A_PATH]
"""A path to a file that can be read now."""
ClientID = Annotated[str, CLIENT]
ClientSecret = Annotated[SecretStr, CLIENT]
Username = Annotated[str, USER]
UserPassword = Annotated[SecretStr, USER]
BasicUsername = Annotated[str, AfterValidator(_basic_username), BASIC]
BasicPassword = Annotated[SecretStr, BASIC]
GivenToken = Annotated[SecretStr, TOKEN]
"""A token that the configuration brings along, to be traded in."""
Address = Annotated[str, BeforeValidator(_address_text, json_schema_input_type=str), AfterValidator(_address)]
"""Where to listen: HOST:PORT, [HOST]:PORT or unix:/PATH."""


_IPV4_NUMBERS = re.compile(r"(?:0x[0-9a-f]+|0|[1-9][0-9]*)(?:\.(?:0x[0-9a-f]+|0|[1-9][0-9]*)){0,3}\Z")
LOOPBACK_NET = 127


def is_loopback(host: str, *, any_spelling: bool = True) -> bool:
    """Tell whether `host`, a name or an address, can only be this machine (RFC 6761 §6.3).

    With `any_spelling` 127.1 and 0x7f000001 are, as they are to all who look up a host (`inet_aton`).
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        # A zero before it makes a number octal to some and decimal to others: that may be another machine.
        if not any_spelling or not _IPV4_NUMBERS.match(name):
            return False
        try:
            return socket.inet_aton(name)[0] == LOOPBACK_NET
        except OSError:
            return False
    return unmapped(address).is_loopback


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the address of IPv4 that one of IPv6 maps (RFC 4291 §2.5.5.2), or else itself."""
    return getattr(address, "ipv4_mapped", None) or address


def is_address(host: str) -> bool:
    """Tell whether `host`, without brackets, is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
