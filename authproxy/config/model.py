"""The top level of a configuration. A class is a mapping in the file, its fields are the keys.

    Config ─┬─ listen, admin, access, tls, limits, log …
            └─ routes (config/route.py)

Everything is frozen: a changed file makes another Config.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from authproxy.capabilities import UNIX_SOCKETS
from authproxy.config.route import (
    Count,
    Passphrase,
    ProxySetting,
    RouteConfig,
    Timeout,
    Timeouts,
    none_is_none,
    off_is_none,
    refuse_spaces,
    whole_number,
)
from authproxy.config.stand_in import KEYS
from authproxy.errors import Fault
from authproxy.net.tls_settings import host_name
from authproxy.places import Stamp
from authproxy.values import (
    ACCESS_KEY,
    Address,
    Duration,
    HeaderName,
    LocalPath,
    ReadableFile,
    Size,
    is_loopback,
    split_address,
)

MAX_KEEP = 10_000  # requests
AUTO: Final = "auto"  # of `tls`
EPHEMERAL: Final = "ephemeral"  # of `forward.ca`
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?\Z")


def _accepted_host(value: str) -> str:
    return value if value == "*" else host_name(value)


def _origin(value: str) -> str:
    origin = value.lower()
    if not _ORIGIN.match(origin):
        raise ValueError(
            "should be an origin such as https://app.example.com: scheme, host and port, no path"
        )
    return origin


def _word_or(word: str) -> Callable[[Any, ValidatorFunctionWrapHandler], Any]:
    """Return what takes `word`, or makes a mapping: a union would have both complain of one fault."""

    def word_or(value: Any, make: ValidatorFunctionWrapHandler) -> Any:
        if value == word:
            return word
        if not isinstance(value, dict):
            raise ValueError(f"should be `{word}`, or a mapping with cert_file and key_file")  # noqa: TRY004 - told as a fault
        return make(value)

    return word_or


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _redis_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("should begin with redis://, rediss:// or unix://")
    if value.get_secret_value().startswith("unix:") and not UNIX_SOCKETS:
        raise ValueError(f"should begin with redis:// or rediss://: {UNIX_SOCKETS.lack}")
    refuse_spaces(value.get_secret_value())
    return value


AcceptedHost = Annotated[str, AfterValidator(_accepted_host)]
WebOrigin = Annotated[str, AfterValidator(_origin)]
RedisURL = Annotated[SecretStr, AfterValidator(_redis_url)]


# ── the mappings of the file ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The admin listener: health, metrics, and what the proxy did to the last requests."""

    __pydantic_config__ = KEYS

    listen: Address = "127.0.0.1:8081"
    """Where it listens. Where all of `listen` are Unix sockets and there is no `access`, it is by default a
    Unix socket beside the first one. Example: 127.0.0.1:9081"""
    keep: Annotated[int, Field(ge=0, le=MAX_KEEP), BeforeValidator(whole_number)] = 500
    """How many of the last requests are remembered, 10,000 at most. Example: 2000"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What callers must send to be let through."""

    __pydantic_config__ = KEYS

    tokens: Annotated[tuple[Annotated[SecretStr, ACCESS_KEY], ...], Field(min_length=1)]
    """Any one of these lets a caller through. Example: ["${TEAM_KEY}"]"""
    header: HeaderName = "X-Authproxy-Key"
    """The header that carries it. It is not forwarded, and cannot be one that a route's `auth` sets.
    Example: X-Team-Key"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTLS:
    """Serve HTTPS instead of HTTP."""

    __pydantic_config__ = KEYS

    cert_file: ReadableFile
    """The certificate chain, PEM. Example: /etc/authproxy/cert.pem"""
    key_file: ReadableFile
    """Its private key, PEM. Example: /etc/authproxy/key.pem"""


if TYPE_CHECKING:
    ListenerTLSKeys = ListenerTLS | Literal["auto"]
else:
    ListenerTLSKeys = Annotated[
        ListenerTLS, WrapValidator(_word_or(AUTO), json_schema_input_type=ListenerTLS | Literal["auto"])
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardCA:
    """An authority of one's own, that signs for the routes' hosts."""

    __pydantic_config__ = KEYS

    cert_file: ReadableFile
    """The authority's certificate, PEM; what signed it may follow. Example: /etc/authproxy/ca.pem"""
    key_file: ReadableFile
    """Its private key, PEM. Example: /etc/authproxy/ca-key.pem"""


if TYPE_CHECKING:
    ForwardCAKeys = ForwardCA | Literal["ephemeral"]
else:
    ForwardCAKeys = Annotated[
        ForwardCA,
        WrapValidator(_word_or(EPHEMERAL), json_schema_input_type=ForwardCA | Literal["ephemeral"]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A forward proxy, for tools whose URLs cannot be changed: HTTPS_PROXY leads them here."""

    __pydantic_config__ = KEYS

    listen: Address = "127.0.0.1:8888"
    """Where it listens: an address of its own, plain http even with `tls`. Anything but loopback needs
    `access` or `allow_remote`. Example: 127.0.0.1:9888"""
    unmatched: Literal["tunnel", "refuse"] | None = None
    """What becomes of hosts that no route's `upstream` names: `tunnel` passes their bytes on unread, and
    plain http as it is; `refuse` answers 403. By default `tunnel` on loopback and `refuse` elsewhere, where
    `tunnel` needs `access`. Example: refuse"""
    ca: ForwardCAKeys = "ephemeral"
    """Who signs the certificates that clients get for the routes' hosts: `ephemeral`, an authority made at
    the start, for those hosts alone, whose key is in memory only; or one of your own.
    Example: {cert_file: ca.pem, key_file: ca-key.pem}"""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        place = split_address(self.listen)
        return place is None or is_loopback(place[0])

    @property
    def tunnels(self) -> bool:
        """Whether what no route is for is passed on, rather than refused."""
        return self.unmatched == "tunnel" or (self.unmatched is None and self.is_local)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStoreSettings:
    """Tokens are kept in memory, and lost with the process."""

    __pydantic_config__ = KEYS

    type: Literal["memory"] = "memory"
    """Where tokens are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStoreSettings:
    """Tokens are kept in an encrypted file, for all processes of the machine."""

    __pydantic_config__ = KEYS

    type: Literal["file"]
    """Where tokens are kept."""
    path: LocalPath | None = None
    """The file; by default `tokens` in the user's state directory. It, its key and its locks are 0600;
    links, and files that others may read, are refused. Example: /var/lib/authproxy/tokens"""
    key: Passphrase | None = None
    """The passphrase that tokens are encrypted with; by default a generated key, in the keyring or in a file
    next to it. Example: ${TOKEN_KEY}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisStoreSettings:
    """Tokens are kept in Redis, encrypted, for all replicas."""

    __pydantic_config__ = KEYS

    type: Literal["redis"]
    """Where tokens are kept."""
    url: RedisURL
    """`redis://`, `rediss://` or `unix://`, with user, password and database if need be.
    Example: rediss://:${REDIS_PASSWORD}@redis.example.com:6379/0"""
    key: Passphrase
    """The passphrase that tokens are encrypted with; the same for all replicas. Example: ${TOKEN_KEY}"""
    prefix: str = "authproxy:"
    """Prefix of the entries' names. Example: "authproxy:prod:"
    """


TokenStoreKeys = Annotated[
    MemoryStoreSettings | FileStoreSettings | RedisStoreSettings, Field(discriminator="type")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the proxy accepts."""

    __pydantic_config__ = KEYS

    connections: Count = 1024
    """Client connections at the same time. Example: 4096"""
    header_bytes: Size = 32 << 10
    """The longest header section; a longer one is answered 431. Chunk sizes and extensions may exceed their
    data by as much; more is answered 400. Example: 64KiB"""
    body_bytes: Annotated[
        Size | None,
        BeforeValidator(none_is_none, json_schema_input_type=Size | Literal["none"] | None),
    ] = None
    """The longest request body, or `none`; a longer one is answered 413. Example: 10MiB"""
    header_timeout: Timeout = 10.0
    """How long a client may take to send its header section. Example: 5s"""
    keepalive: Duration = 75.0
    """How long an idle client connection is kept. Example: 2m"""
    drain: Duration = 30.0
    """How long a shutdown waits for requests in flight. Example: 10s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is logged, on stderr."""

    __pydantic_config__ = KEYS

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum log level. Example: warning"""
    format: Literal["text", "json"] = "text"
    """One line of text, or one JSON object, for each event, on stderr. Example: json"""
    access: bool = True
    """Whether each request gets a line. Example: false"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardDefaults:
    """What of `defaults` holds for hosts that no route is for."""

    __pydantic_config__ = KEYS

    timeouts: Timeouts = field(default_factory=Timeouts)
    """How long they may take. Example: {connect: 5s, idle: 1h}"""
    http_proxy: ProxySetting = None
    """The HTTP proxy on the way to them. Example: "http://proxy.example.com:3128"
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKeys:
    """The file's top level, `routes` and `defaults` aside."""

    __pydantic_config__ = KEYS

    listen: Annotated[
        tuple[Address, ...],
        BeforeValidator(_one_or_more, json_schema_input_type=Address | tuple[Address, ...]),
    ] = ("127.0.0.1:8080",)
    """Where to listen, or a list of that: `HOST:PORT`, `[::1]:PORT` or `unix:/PATH` (mode 0600). Port 0
    picks a free one; no host means every address, of IPv4 and IPv6; a name is listened on at every
    address that it has. Anything but loopback needs `access` or `allow_remote`. Where each route is at an
    address of its own alone (`routes[].listen`), the default is `[]`, none.
    Example: ["127.0.0.1:8080", "unix:/run/authproxy/proxy.sock"]"""
    admin: Annotated[Admin | None, BeforeValidator(off_is_none, json_schema_input_type=Admin | bool)] = field(
        default_factory=Admin
    )
    """The admin listener: health, metrics, logins and the API. `false` for none. When only the default
    address is taken, a warning says so and the proxy runs without. Example: {listen: 127.0.0.1:9081}"""
    workers: Count | Literal["auto"] = 1
    """Worker processes, or `auto` for one per processor. They share the listeners and the tokens; `limits`
    and `max_connections` apply to each of them. Example: 4"""
    allowed_hosts: tuple[AcceptedHost, ...] = ()
    """`Host` names accepted besides the loopback ones, the listeners', the routes' own `host` and the
    address at which the connection came in; `*` for any. Example: [authproxy.internal]"""
    allowed_origins: tuple[WebOrigin, ...] = ()
    """Web origins whose pages may call the proxy (CORS). Example: [https://app.example.com]"""
    allow_remote: bool = False
    """Must be true to listen on anything but loopback without `access`. Example: true"""
    access: Access | None = None
    """What callers must send to be let through. Without one of these keys a request is answered 401.
    Example: {tokens: ["${TEAM_KEY}"]}"""
    tls: ListenerTLSKeys | None = None
    """Serve HTTPS instead of HTTP: with a certificate of your own, or with `auto`, which makes one for this
    machine, signed by an authority of your own that clients have to trust once (`authproxy trust`).
    Example: {cert_file: cert.pem, key_file: key.pem}"""
    forward: Annotated[
        Forward | None, BeforeValidator(off_is_none, json_schema_input_type=Forward | bool)
    ] = None
    """A forward proxy beside the routes: a listener of its own that clients name as their HTTP proxy. What
    is for the host of a route's `upstream` goes that route's way; `true` for all defaults.
    Example: {listen: 127.0.0.1:8888, unmatched: refuse}"""
    token_store: TokenStoreKeys | None = None
    """Where tokens are stored. By default in memory, and in a file for grants that need a login.
    Example: {type: redis, url: "${REDIS_URL}", key: "${TOKEN_KEY}"}"""
    limits: Limits = field(default_factory=Limits)
    """How much the proxy accepts. Example: {connections: 4096}"""
    log: Log = field(default_factory=Log)
    """What is logged. Example: {format: json}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(FileKeys):
    """A whole configuration, checked."""

    routes: tuple[RouteConfig, ...]
    file: str
    warnings: tuple[Fault, ...] = field(default=(), repr=False, compare=False)
    """What is no fault, but hardly meant: named at its place by `check`, `routes` and `run`."""
    admin_is_default: bool = False
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False, compare=False)
    """The line and the column of each key of the top level, of some below it (`log.level`, `forward.ca`), and
    of each route's `listen` and `tls`."""
    files: Mapping[Path, Stamp] = field(default_factory=dict, repr=False, compare=False)
    """Every file that was read for this, or is named to be read at the start, as it was just before."""

    @property
    def listeners(self) -> dict[str, str]:
        """The proxy's listeners, each with the name of the route whose own it is; "" for any other.

        A listener is known by its address. Several routes may have a free port each (port 0): those are known
        by address and route. The last is that of `forward`, if there is one.
        """
        forward = self.forward_listener
        last = {forward: ""} if forward is not None else {}
        return dict.fromkeys(self.listen, "") | self.own_listeners | last

    @property
    def own_listeners(self) -> dict[str, str]:
        """Those of them that are a route's own."""
        return {_own_listener(route.listen, route.name): route.name for route in self.routes if route.listen}

    @property
    def forward_listener(self) -> str | None:
        """That of `forward`; no route is mounted there."""
        return _own_listener(self.forward.listen, FORWARD) if self.forward is not None else None

    def place(self, key: str) -> str | None:
        """Return FILE:LINE:COL of a key of the top level; None where the file does not have it."""
        at = self.places.get(key)
        return f"{self.file}:{at[0]}:{at[1]}" if at is not None else None

    def fault(self, key: str, message: str) -> Fault:
        """Return a fault that only shows when the configuration is put to work."""
        line, column = self.places.get(key, (1, 1))
        return Fault(self.file, line, column, key, message)

    forward_key: SecretStr | None = field(default=None, repr=False, compare=False)
    """What callers of the forward listener must send, where it is not for `access` to say: a key made for one
    run (`exec`)."""

    for_one_program: bool = field(default=False, repr=False, compare=False)
    """Whether callers of the forward listener are told of it by their environment, for one run (`exec`)."""

    forward_defaults: ForwardDefaults = field(default_factory=ForwardDefaults)
    """What holds on the way to hosts that no route is for."""

    configured: tuple[RouteConfig, ...] = field(default=(), repr=False, compare=False)
    """All routes of the file, where only some of them are to be served: those that name placeholders."""

    secret_variables: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """Variables of the environment from which the value of a secret key came."""


_FOR = " for "
FORWARD = "the forward proxy"  # no route has a name with spaces


def _own_listener(address: str, route: str) -> str:
    place = split_address(address)
    return f"{address}{_FOR}{route}" if place is not None and place[1] == 0 else address


def address_of(listener: str) -> str:
    """Return the address of one of `Config.listeners`."""
    return listener if listener.startswith("unix:") else listener.partition(_FOR)[0]
