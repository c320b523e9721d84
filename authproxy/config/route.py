"""A route of a configuration: its keys, and the grant that is made from its `auth`.

`RouteKeys` is what stands in the file; `RouteConfig` adds what the reader makes of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
)

from authproxy.config.document import Item
from authproxy.config.env_templates import template, variable_name
from authproxy.config.rewrite import Rewrite
from authproxy.config.stand_in import KEYS, Method, StandIn, matches
from authproxy.grants.grant import Grant
from authproxy.grants.source import Reread
from authproxy.grants.transport import Transport
from authproxy.net.http_proxy import Setting, read_proxy
from authproxy.net.tls_settings import Host, TLSSettings
from authproxy.values import (
    PASSPHRASE,
    UNSAFE_IN_URL,
    URL,
    Address,
    Duration,
    HeaderName,
    SecretHeaderValue,
    Size,
    Switch,
    any_spelling,
    split_url,
)

FRAMING_HEADERS = frozenset({
    "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
"""What belongs to one connection (RFC 9110 §7.6.1) or frames a message: the proxy writes these itself."""


SWITCH_OR_MAPPING = "should be true, false or a mapping"
MAX_KEPT_BODY = 16 << 20  # bytes
_NAME = re.compile(r"[a-z0-9-]+\Z")
_PATH = re.compile(r"(/[^/?#%\\\x00-\x20\x7f]+)+\Z|/\Z")
_REDIRECT = re.compile(
    r"(/|https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?/)[^?#\x00-\x20\x7f]*\Z"
)
_PATTERN = re.compile(r"!?/[^?#\x00-\x20\x7f]*\Z")


# ── values of this file alone ────────────────────────────────────────────────────────────────────


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
        raise ValueError(
            "should not contain a query (?): clients send their own; a key for the API belongs under `auth`"
        )
    return value


def off_is_none(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if value is not None and not isinstance(value, dict):
        raise ValueError(SWITCH_OR_MAPPING)
    return value


def _off_is_nothing(value: Any) -> Any:
    if value is True:
        raise ValueError("should be a list of logins, such as [{path: /v1/oauth}], or false")
    return () if value is False else value


def whole_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a whole number")  # noqa: TRY004 - pydantic would take true for 1
    return value


def none_is_none(value: Any) -> Any:
    return None if value == "none" else value


def _kept_size(value: int | None) -> int | None:
    if value is not None and value > MAX_KEPT_BODY:
        raise ValueError("should be at most 16MiB: all kept bodies together have 32 MiB")
    return value or None


def _some_time(value: float) -> float:
    if value <= 0:
        raise ValueError("should be more than 0")
    return value


def _http_proxy(value: Any) -> Setting:
    if value is None or value is False or value == "none":
        return None if value is None else "none"
    if not isinstance(value, str):
        raise ValueError("should be a URL such as http://proxy.example:3128, or none")  # noqa: TRY004 - as above
    refuse_spaces(value)
    read_proxy(value)
    return SecretStr(value)


def refuse_spaces(url: str) -> None:
    if UNSAFE_IN_URL.search(url):  # some are dropped unasked, and a password would be another one
        raise ValueError("should not contain spaces, control characters or backslashes")


RouteName = Annotated[
    str, AfterValidator(matches(_NAME, "should contain only lower-case letters, digits and hyphens"))
]
MountPath = Annotated[str, AfterValidator(_mount)]
Upstream = Annotated[URL, AfterValidator(_upstream)]
PathPattern = Annotated[
    str, AfterValidator(matches(_PATTERN, "should be a pattern that begins with / or !/, such as /v2/**"))
]
Count = Annotated[int, Field(ge=1), BeforeValidator(whole_number)]
Status = Annotated[int, Field(ge=201, le=599), BeforeValidator(whole_number)]
RedirectPattern = Annotated[
    str,
    AfterValidator(
        matches(
            _REDIRECT,
            "should be a pattern for a path, such as /login**, or for a URL: https://sso.example/**",
        )
    ),
]
VARIABLES_OR_NULL = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
Passphrase = Annotated[SecretStr, PASSPHRASE]
ProxySetting = Annotated[
    Setting,
    PlainValidator(_http_proxy),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"const": False}, {"type": "null"}]}),
]
Timeout = Annotated[Duration, AfterValidator(_some_time)]
VariableName = Annotated[str, AfterValidator(variable_name)]
VariableValue = Annotated[str, AfterValidator(template)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """Headers to set and to remove."""

    __pydantic_config__ = KEYS

    set: dict[HeaderName, SecretHeaderValue] = field(default_factory=dict)
    """Headers to set; existing ones are replaced. Values are treated as secrets. Headers that belong to one
    connection or frame a message cannot be set, nor can the one that `auth` sets.
    Example: {X-Team: geo}"""
    remove: tuple[HeaderName, ...] = ()
    """Headers to remove, in any spelling (`X_Team` for `X-Team`). What is removed is the client's: `set` and
    `auth` add theirs afterwards. Example: [Cookie]"""

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
class AllowKeys:
    """The requests that may pass; any other is answered 403 and goes nowhere."""

    __pydantic_config__ = KEYS

    methods: tuple[Method, ...] | None = None
    """Methods, spelled exactly as clients send them; every method when left out. Example: [GET, HEAD]"""
    paths: tuple[PathPattern, ...] | None = None
    """Patterns for the decoded path after the route's prefix: `*` is any text within a segment, `**` any
    depth, a leading `!` refuses. The first that fits decides; what fits none is refused.
    Example: ["!/v2/admin/**", "/v2/**"]"""
    hint: str | None = None
    """What to tell a client that is refused. Example: ask the team for write access"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a request is repeated with a new token."""

    __pydantic_config__ = KEYS

    statuses: tuple[Status, ...] = (401,)
    """The upstream's statuses that mean: this token is not accepted. One below 400, such as 203, has only
    GET, HEAD and OPTIONS repeated: another request may have been applied. Example: [401, 403]"""
    redirects: tuple[RedirectPattern, ...] = ()
    """Redirects that mean the same: patterns for the path of a `Location` on the upstream, `https://…` ones
    for one elsewhere. Only GET, HEAD and OPTIONS are repeated. Example: ["/login**", "https://sso.example/**"]"""
    methods: Literal["all", "idempotent"] = "all"
    """Which methods are repeated. Example: idempotent"""
    max_body: Size = 1 << 20
    """The longest body that is kept for this; a request with a longer one is not repeated. Example: 8MiB"""
    cooldown: Duration = 30.0
    """After a repeated request was refused too, how long further refusals fetch no token. Example: 1m"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the upstream may take."""

    __pydantic_config__ = KEYS

    connect: Timeout = 10.0
    """To accept a connection, TLS included. Example: 5s"""
    response: Timeout = 60.0
    """To start its response. Example: 2m"""
    idle: Timeout = 300.0
    """Between two pieces of a body or of a tunnel. A client that sends nothing of its body for so long is
    answered 408, an upstream that takes nothing of it 504. Example: 1h"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect:
    """What the inspector keeps of requests besides their headers."""

    __pydantic_config__ = KEYS

    bodies: Annotated[
        Size | None,
        AfterValidator(_kept_size),
        BeforeValidator(none_is_none, json_schema_input_type=Size | Literal["none"] | None),
    ] = None
    """How much is kept of each body, up to 16MiB, or `none`. All kept bodies together have 32 MiB.
    Example: 64KiB"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteKeys:
    """A route as the file has it, `auth` aside."""

    __pydantic_config__ = KEYS

    name: RouteName
    """Unique; lower-case letters, digits and hyphens. Example: orders"""
    path: MountPath = "/"
    """The prefix, on a segment boundary: `/up42` is for `/up42` and `/up42/x`, not for `/up42x`.
    Example: /orders"""
    host: Host | None = None
    """The `Host` it answers to, with or instead of `path`. Example: orders.localhost"""
    listen: Address | None = None
    """An address of this route's own, written as in the top level's `listen`. Every request there is this
    route's, and no prefix is taken off. With `path` or `host` it is mounted with the other routes as well,
    with neither it is there alone. Example: 127.0.0.1:8091"""
    upstream: Upstream
    """Where requests go: scheme, host, and optionally port and base path.
    Example: https://api.example.com/v2"""
    strip_path: Switch = True
    """Whether `path` is taken off before the rest is put under the upstream's base path. Example: false"""
    headers: HeaderRules = field(default_factory=HeaderRules)
    """Changes to request headers. Example: {set: {X-Team: geo}, remove: [Cookie]}"""
    response_headers: HeaderRules = field(default_factory=HeaderRules)
    """Changes to response headers. Example: {remove: [Server]}"""
    allow: AllowKeys | None = None
    """Least privilege: the requests that may pass. Any other is answered 403 and goes nowhere.
    Example: {methods: [GET, HEAD], paths: ["/items/**"]}"""
    retry: Annotated[Retry | None, BeforeValidator(off_is_none, json_schema_input_type=Retry | bool)] = field(
        default_factory=Retry
    )
    """When a request is repeated with a new token; `false` for never. Example: {statuses: [401, 403]}"""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """How long the upstream may take. Example: {connect: 5s, response: 2m}"""
    tls: TLSSettings = field(default_factory=TLSSettings)
    """TLS towards the upstream. Example: {ca_file: /etc/ssl/company-ca.pem}"""
    http_proxy: ProxySetting = None
    """The HTTP proxy on the way to the upstream and to the token endpoint:
    `http://[USER:PASSWORD@]HOST:PORT`, or `none`. By default the one that the environment names
    (HTTPS_PROXY, HTTP_PROXY, NO_PROXY). Example: "http://proxy.example.com:3128"
    """
    preserve_host: Switch = False
    """Whether the client's `Host` is sent instead of the upstream's. Example: true"""
    rewrite: Annotated[
        Rewrite | None, BeforeValidator(off_is_none, json_schema_input_type=Rewrite | bool)
    ] = field(default_factory=Rewrite)
    """Whether redirects, links and cookies that point at the upstream come back pointing at the proxy; with
    `bodies`, URLs in JSON as well. Example: {bodies: [application/json]}"""
    env: Annotated[dict[VariableName, VariableValue], WithJsonSchema(VARIABLES_OR_NULL)] = field(
        default_factory=dict
    )
    """Variables that `authproxy exec` and `authproxy env` set for a program. In a value `{url}` is the
    route's address, `{host}` and `{port}` are parts of it, and `{placeholder}` stands in for a token; `{{`
    and `}}` are braces. A value that holds a secret of the configuration is refused.
    Example: {ORDERS_BASE_URL: "{url}/v2", ORDERS_TOKEN: "{placeholder}"}"""
    stand_in: Annotated[
        tuple[StandIn, ...],
        BeforeValidator(_off_is_nothing, json_schema_input_type=tuple[StandIn, ...] | Literal[False]),
    ] = ()
    """The logins of clients that insist on one of their own: answered here with a placeholder, and never
    forwarded. `false` takes away those of the preset. Example: [{path: /v1/oauth}]"""
    insecure: Switch = False
    """Must be true to send a credential over plain http to another machine. Example: true"""
    max_connections: Count = 256
    """Connections to the upstream at the same time. Example: 32"""
    prefetch: Switch = False
    """Whether the token is fetched at the start instead of at the first request. Example: true"""
    inspect: Inspect = field(default_factory=Inspect)
    """What the inspector keeps of requests besides their headers. Example: {bodies: 64KiB}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig(RouteKeys):
    """A route, its `auth` made into a grant.

    `key` is the credential's: routes with the same key share a token. `reread` reads the grant's files and
    commands again and returns the grant as it is now, or None when it cannot be made; it is None when
    there is nothing to read again. `runs_commands` says that it may run some. `auth` is for people: what the
    grant was made from, secrets masked. `variables` are where the values of `env` stand. `is_shared` tells
    whether it is mounted on the top level's listeners, rather than at its own address alone.
    """

    grant: Grant = field(repr=False)
    key: str
    is_shared: bool = True
    preset: str | None = None
    warnings: tuple[str, ...] = ()
    auth: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)
    reread: Reread | None = field(default=None, repr=False, compare=False)
    runs_commands: bool = field(default=False, compare=False)
    variables: Mapping[str, Item] = field(default_factory=dict, repr=False, compare=False)

    @property
    def transport(self) -> Transport:
        """How its token requests go."""
        return transport_of(self, self.grant)


def transport_of(keys: RouteKeys, grant: Grant) -> Transport:
    """Return how the token requests of `grant` go: by its `tls`, or to the upstream's host by the route's."""
    if grant.tls is not None:
        return Transport(keys.http_proxy, grant.tls)
    return Transport(keys.http_proxy, keys.tls, split_url(keys.upstream).hostname)
