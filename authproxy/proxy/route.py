"""A route, made ready for requests: everything that can be worked out before one comes."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from authproxy.observe.record import RouteFacts
from authproxy.observe.standing import Standing
from authproxy.proxy.allow import Allow
from authproxy.proxy.headers import RequestHeaders, ResponseHeaders
from authproxy.proxy.placeholders import Placeholders
from authproxy.proxy.renewal import Credential
from authproxy.proxy.send import Sender
from authproxy.proxy.token_endpoint import TokenEndpoints

if TYPE_CHECKING:
    from authproxy.proxy.body_rewriting import BodyRewriting
    from authproxy.proxy.stand_in import StandIn

NO_FACTS = RouteFacts("", lambda path: path)
NO_PLACEHOLDERS = Placeholders()


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Where requests under `path` go, and what is done to them.

    `strip` is the prefix that is taken off ("" for none), `base` is put before the rest. `credential` is
    None for plain forwarding; `keep_body` is in bytes, `idle_seconds` in seconds. `facts` are told of
    its requests; `standing` is how it stands with its upstream. `stand_in` answers logins here, and none is
    forwarded to `token_endpoints`: `has_logins` where there may be any. With `looks_closer` what a caller
    brings may be in the query or in a cookie. `bodies` is None where bodies are left alone.
    A reply with a status below `refusals_from` is no refusal.
    Where `response_headers` hide what we send, `unhidden` is the same route for what callers send themselves.
    """

    name: str
    host: str | None
    path: str
    strip: str
    base: str
    sender: Sender
    request_headers: RequestHeaders
    response_headers: ResponseHeaders
    credential: Credential | None
    incoming: str = "keep"
    allow: Allow | None = None
    keep_body: int = 0
    idle_seconds: float = 300.0
    stand_in: "StandIn | None" = None
    placeholders: Placeholders = NO_PLACEHOLDERS
    token_endpoints: TokenEndpoints | None = None
    bodies: "BodyRewriting | None" = None
    facts: RouteFacts = NO_FACTS
    unhidden: "Route | None" = None
    standing: Standing = field(default_factory=lambda: Standing("", lambda _name, _refusal: None))
    has_logins: bool = field(init=False)
    looks_closer: bool = field(init=False)
    refusals_from: int = field(init=False)

    def __post_init__(self) -> None:
        edits = self.credential is not None and self.credential.injection.edits
        object.__setattr__(self, "has_logins", self.stand_in is not None or self.token_endpoints is not None)
        object.__setattr__(self, "looks_closer", edits and self.incoming != "replace")
        statuses = self.credential.statuses if self.credential is not None else ()
        object.__setattr__(self, "refusals_from", min({300, *statuses}))

    @property
    def strips(self) -> bool:
        """Whether the upstream sees the path without the route's prefix."""
        return self.path == "/" or self.strip != ""

    def __repr__(self) -> str:
        return f"<Route {self.name} {self.host or ''}{self.path} to {self.sender.pool.origin}{self.base}>"
