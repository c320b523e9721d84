"""What a configuration may say. A class is a mapping in the file, its fields are the keys.

    Config ─┬─ listen, admin, access, tls, limits, log …
            └─ routes ── Route ─┬─ upstream, allow, retry, timeouts …
                                └─ grant   made from `auth` (authproxy.grants)

Everything is frozen: a changed file makes another Config. `FileKeys` and `RouteKeys` are what stands in the
file; `Config` and `Route` add what the reader makes of it.
"""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
)

from authproxy.errors import Fault
from authproxy.grants.base import Grant
from authproxy.http_proxy import Setting, read_proxy
from authproxy.values import (
    ACCESS_KEY,
    PASSPHRASE,
    UNSAFE_IN_URL,
    URL,
    Address,
    Duration,
    HeaderName,
    LocalPath,
    ReadableFile,
    SecretHeaderValue,
    Size,
    any_spelling,
    split_url,
)

KEYS = ConfigDict(extra="forbid", use_attribute_docstrings=True)

FRAMING_HEADERS = frozenset({
    "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
"""What belongs to one connection (RFC 9110 §7.6.1) or frames a message: the proxy writes these itself."""

_NAME = re.compile(r"[a-z0-9-]+\Z")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?\.?\Z")
_IPV6 = re.compile(r"\[[0-9a-f:.]+\]\Z")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?\Z")
_PATH = re.compile(r"(/[^/?#%\\\x00-\x20\x7f]+)+\Z|/\Z")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # a token (RFC 9110 §9.1)
_PATTERN = re.compile(r"!?/[^?#\x00-\x20\x7f]*\Z")


# ── values of this file alone ────────────────────────────────────────────────────────────────────


def _matches(pattern: re.Pattern[str], message: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not pattern.match(value):
            raise ValueError(message)
        return value

    return check


def _host(value: str) -> str:
    host = value.lower()
    if not _HOST.match(host) and not _IPV6.match(host):
        raise ValueError("should be a host name without scheme, port or path")
    return host


def _accepted_host(value: str) -> str:
    return value if value == "*" else _host(value)


def _origin(value: str) -> str:
    origin = value.lower()
    if not _ORIGIN.match(origin):
        raise ValueError(
            "should be an origin such as https://app.example.com: scheme, host and port, no path"
        )
    return origin


def _mount(value: str) -> str:
    if not _PATH.match(value):
        raise ValueError(
            "should be a path that begins with / and does not end with one, without query, fragment or %"
        )
    if {".", ".."} & set(value.split("/")):
        raise ValueError("should not contain . or .. segments")
    return value


def _upstream(value: str) -> str:
    if split_url(value).query or "?" in value:
        raise ValueError("should not contain a query (?)")
    return value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _off_is_none(value: Any) -> Any:
    return None if value is False else {} if value is True else value


def _none_is_none(value: Any) -> Any:
    return None if value == "none" else value


def _whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a whole number")  # noqa: TRY004 - pydantic would take true for 1
    return value


def _some_time(value: float) -> float:
    if value <= 0:
        raise ValueError("should be more than 0")
    return value


def _http_proxy(value: Any) -> Setting:
    if value is None or value is False or value == "none":
        return None if value is None else "none"
    if not isinstance(value, str):
        raise ValueError("should be a URL such as http://proxy.example:3128, or none")  # noqa: TRY004 - as above
    _refuse_spaces(value)
    read_proxy(value)
    return SecretStr(value)


def _refuse_spaces(url: str) -> None:
    if UNSAFE_IN_URL.search(url):  # some are dropped unasked, and a password would be another one
        raise ValueError("should not contain spaces, control characters or backslashes")


def _redis_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("should begin with redis://, rediss:// or unix://")
    _refuse_spaces(value.get_secret_value())
    return value


RouteName = Annotated[
    str, AfterValidator(_matches(_NAME, "should hold lower-case letters, digits and hyphens only"))
]
Host = Annotated[str, AfterValidator(_host)]
AcceptedHost = Annotated[str, AfterValidator(_accepted_host)]
Origin = Annotated[str, AfterValidator(_origin)]
MountPath = Annotated[str, AfterValidator(_mount)]
Upstream = Annotated[URL, AfterValidator(_upstream)]
Method = Annotated[str, AfterValidator(_matches(_METHOD, "should be a method, such as GET"))]
PathPattern = Annotated[
    str, AfterValidator(_matches(_PATTERN, "should be a pattern that begins with / or !/, such as /v2/**"))
]
Count = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Status = Annotated[int, Field(ge=400, le=599), BeforeValidator(_whole)]
Passphrase = Annotated[SecretStr, PASSPHRASE]
HTTPProxy = Annotated[
    Setting,
    PlainValidator(_http_proxy),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"const": False}, {"type": "null"}]}),
]
RedisURL = Annotated[SecretStr, AfterValidator(_redis_url)]
Timeout = Annotated[Duration, AfterValidator(_some_time)]


# ── the mappings of the file ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The admin listener: health, metrics and the status page."""

    __pydantic_config__ = KEYS

    listen: Address = "127.0.0.1:8081"
    """Where it listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What callers must send to be let through."""

    __pydantic_config__ = KEYS

    tokens: Annotated[tuple[Annotated[SecretStr, ACCESS_KEY], ...], Field(min_length=1)]
    """Any one of these lets a caller through."""
    header: HeaderName = "X-Authproxy-Key"
    """The header that carries it; it is not forwarded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTLS:
    """Serve HTTPS instead of HTTP."""

    __pydantic_config__ = KEYS

    cert_file: ReadableFile
    """The certificate chain, PEM."""
    key_file: ReadableFile
    """Its private key, PEM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStore:
    """Tokens end with the process."""

    __pydantic_config__ = KEYS

    type: Literal["memory"] = "memory"
    """Where tokens are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStore:
    """Tokens are kept in an encrypted file, for all processes of the machine."""

    __pydantic_config__ = KEYS

    type: Literal["file"]
    """Where tokens are kept."""
    path: LocalPath | None = None
    """The file; by default in the user's state directory."""
    key: Passphrase | None = None
    """The passphrase; by default a key of its own, in the keyring or in a file beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisStore:
    """Tokens are kept in Redis, encrypted, for all replicas."""

    __pydantic_config__ = KEYS

    type: Literal["redis"]
    """Where tokens are kept."""
    url: RedisURL
    """`redis://`, `rediss://` or `unix://`, with user, password and database if need be."""
    key: Passphrase
    """The passphrase; the same for all replicas."""
    prefix: str = "authproxy:"
    """What the names of the entries begin with."""


TokenStoreKeys = Annotated[MemoryStore | FileStore | RedisStore, Field(discriminator="type")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the proxy takes on."""

    __pydantic_config__ = KEYS

    connections: Count = 1024
    """Client connections at the same time."""
    header_bytes: Size = 32 << 10
    """The longest header section; a longer one is answered 431."""
    body_bytes: Annotated[
        Size | None,
        BeforeValidator(_none_is_none, json_schema_input_type=Size | Literal["none"] | None),
    ] = None
    """The longest request body, or `none`; a longer one is answered 413."""
    header_timeout: Timeout = 10.0
    """How long a client may take to send its header section."""
    keepalive: Duration = 75.0
    """How long an idle client connection is kept."""
    drain: Duration = 30.0
    """How long the end waits for what is in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is logged, on stderr."""

    __pydantic_config__ = KEYS

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    format: Literal["text", "json"] = "text"
    """One line of text, or one JSON object, for each event."""
    access: bool = True
    """Whether each request gets a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """Headers to set and to remove."""

    __pydantic_config__ = KEYS

    set: dict[HeaderName, SecretHeaderValue] = field(default_factory=dict)
    """Headers to add; one that is there is replaced."""
    remove: tuple[HeaderName, ...] = ()
    """Headers to take out."""

    def __post_init__(self) -> None:
        names = [name.lower() for name in self.set]
        if len(set(names)) < len(names):
            raise ValueError("set names a header twice")
        if framing := sorted(FRAMING_HEADERS.intersection(names)):
            hint = "; for Host there is preserve_host" if "host" in framing else ""
            raise ValueError(f"set should not name {', '.join(framing)}: the proxy writes that itself{hint}")
        if lost := sorted({"content-length", "host"} & {any_spelling(name) for name in self.remove}):
            raise ValueError(f"remove should not name {', '.join(lost)}: no message is whole without it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """The requests that may pass; any other is answered 403 and goes nowhere."""

    __pydantic_config__ = KEYS

    methods: tuple[Method, ...] | None = None
    """Methods, spelled exactly as clients send them; every method when left out."""
    paths: tuple[PathPattern, ...] | None = None
    """Patterns for the path after the route's prefix: `*` is any text within a segment, `**` any depth, a
    leading `!` refuses. The first that fits decides; what fits none is refused."""
    hint: str | None = None
    """What to tell a caller who is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a request is repeated with a new token."""

    __pydantic_config__ = KEYS

    statuses: tuple[Status, ...] = (401,)
    """The upstream's answers that mean: this token will not do."""
    methods: Literal["all", "idempotent"] = "all"
    """Which methods are repeated."""
    max_body: Size = 1 << 20
    """The longest body that is kept for this; a request with a longer one is not repeated."""
    cooldown: Duration = 30.0
    """After a repeated request was refused too, how long further refusals fetch no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the upstream may take."""

    __pydantic_config__ = KEYS

    connect: Timeout = 10.0
    """To accept a connection, TLS included."""
    response: Timeout = 60.0
    """To begin its answer."""
    idle: Timeout = 300.0
    """Between two pieces of a body or of a tunnel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTLS:
    """How the upstream's certificate is checked, and which one is shown to it."""

    __pydantic_config__ = KEYS

    verify: bool = True
    """Whether the certificate must be good. `false` lets anyone on the way read the credential."""
    ca_file: ReadableFile | None = None
    """Certificates to trust instead of the system's, PEM."""
    cert_file: ReadableFile | None = None
    """The client certificate, PEM."""
    key_file: ReadableFile | None = None
    """Its private key, PEM."""
    server_name: Host | None = None
    """The name to ask for and to check, if it is not the upstream's host."""

    def __post_init__(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteKeys:
    """A route as the file has it, `auth` aside."""

    __pydantic_config__ = KEYS

    name: RouteName
    """Unique; lower-case letters, digits and hyphens."""
    path: MountPath = "/"
    """The prefix, on a segment boundary."""
    host: Host | None = None
    """The `Host` it answers to, with or instead of `path`."""
    upstream: Upstream
    """Where requests go: scheme, host, and optionally port and base path."""
    strip_path: bool = True
    """Whether `path` is taken off before the rest is put under the upstream's base path."""
    headers: HeaderRules = field(default_factory=HeaderRules)
    """Changes to request headers."""
    response_headers: HeaderRules = field(default_factory=HeaderRules)
    """Changes to response headers."""
    allow: Allow | None = None
    """Least privilege: the requests that may pass."""
    retry: Annotated[Retry | None, BeforeValidator(_off_is_none, json_schema_input_type=Retry | bool)] = (
        field(default_factory=Retry)
    )
    """When a request is repeated with a new token; `false` for never."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """How long the upstream may take."""
    tls: UpstreamTLS = field(default_factory=UpstreamTLS)
    """TLS towards the upstream."""
    http_proxy: HTTPProxy = None
    """The HTTP proxy on the way to the upstream and to the token endpoint: `http://[USER:PASSWORD@]HOST:PORT`,
    or `none`. By default the one that the environment names (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)."""
    preserve_host: bool = False
    """Whether the caller's `Host` is sent instead of the upstream's."""
    rewrite: bool = True
    """Whether redirects, links and cookies that point at the upstream come back pointing at the proxy."""
    insecure: bool = False
    """Must be true to send a credential over plain http to another machine."""
    max_connections: Count = 256
    """Connections to the upstream at the same time."""
    prefetch: bool = False
    """Whether the token is fetched at the start instead of at the first request."""


Reload = Callable[[], Awaitable[Grant | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(RouteKeys):
    """A route, its `auth` made into a grant.

    `key` is the credential's: routes with the same key share a token. `reload` reads the grant's files and
    commands again and returns the grant as it is now, or None when it cannot be made; it is None when
    there is nothing to read again. `runs_commands` says that it may run some. `auth` is for people: what the
    grant was made from, secrets masked.
    """

    grant: Grant = field(repr=False)
    key: str
    preset: str | None = None
    warnings: tuple[str, ...] = ()
    auth: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)
    reload: Reload | None = field(default=None, repr=False, compare=False)
    runs_commands: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKeys:
    """The file's top level, `routes` and `defaults` aside."""

    __pydantic_config__ = KEYS

    listen: Annotated[
        tuple[Address, ...],
        Field(min_length=1),
        BeforeValidator(_one_or_more, json_schema_input_type=Address | tuple[Address, ...]),
    ] = ("127.0.0.1:8080",)
    """Where to listen, or a list of that: `HOST:PORT`, `[::1]:PORT` or `unix:/PATH`; port 0 picks one."""
    admin: Annotated[Admin | None, BeforeValidator(_off_is_none, json_schema_input_type=Admin | bool)] = (
        field(default_factory=Admin)
    )
    """The admin listener; `false` for none."""
    workers: Count | Literal["auto"] = 1
    """Processes that serve, or `auto` for one for each processor. Limits hold for each of them."""
    allowed_hosts: tuple[AcceptedHost, ...] = ()
    """`Host` names accepted besides the loopback ones and the routes' own; `*` for any."""
    allowed_origins: tuple[Origin, ...] = ()
    """Web origins whose pages may call the proxy (CORS)."""
    allow_remote: bool = False
    """Must be true to listen on other than loopback without `access`."""
    access: Access | None = None
    """What callers must send to be let through."""
    tls: ListenerTLS | None = None
    """Serve HTTPS."""
    token_store: TokenStoreKeys | None = None
    """Where tokens live on. Without it in memory, and in a file for grants that need a person."""
    limits: Limits = field(default_factory=Limits)
    """How much the proxy takes on."""
    log: Log = field(default_factory=Log)
    """What is logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(FileKeys):
    """A whole configuration, checked."""

    routes: tuple[Route, ...]
    file: str
    warnings: tuple[Fault, ...] = field(default=(), repr=False, compare=False)
    """What is no fault, but hardly meant: named at its place by `check`, `routes` and `run`."""
    admin_is_default: bool = False


# ── credentials ──────────────────────────────────────────────────────────────────────────────────


def credential_key(grant: Grant, http_proxy: Setting = None) -> str:
    """Return what is equal for equal credentials, the secrets included, and tells nothing of them."""
    document = {"grant": type(grant).__name__, "settings": _revealed(grant)}
    if http_proxy is not None:  # the token is earned through it
        document["http_proxy"] = _revealed(http_proxy)
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def credential_identity(grant: Grant, http_proxy: Setting = None) -> str:
    """Return what stays the same when only the secrets of a credential change."""
    document = {"grant": type(grant).__name__, "settings": _without_secrets(grant)}
    if isinstance(http_proxy, SecretStr):
        document["http_proxy"] = str(read_proxy(http_proxy.get_secret_value()))
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return None
    if is_dataclass(value):
        return {each.name: _without_secrets(getattr(value, each.name)) for each in fields(value) if each.repr}
    if isinstance(value, Mapping):
        return {str(name): _without_secrets(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(each) for each in value]
    return value


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if is_dataclass(value):
        return {each.name: _revealed(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _revealed(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_revealed(each) for each in value]
    return value
