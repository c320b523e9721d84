"""What the grants that talk to an OAuth 2.0 token endpoint have in common (RFC 6749).

A refresh token, when the expired token brought one, goes first; when the server refuses it, in whatever
words, the grant's own way follows at once (§6, §5.2).
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import quote_plus, urlencode

from authproxy.errors import BadTokenReply
from authproxy.grants.client_auth import CLIENT_AUTH, NEEDS, SIGNED, ClientAuthName, client_check
from authproxy.grants.discovery import GIVE_ENDPOINTS, Issuer, Server
from authproxy.grants.grant import Grant, HeaderMap, SecretMap, refreshed_or_obtained
from authproxy.grants.refusal import Checks
from authproxy.grants.reply_places import ReplyPointers
from authproxy.grants.requests import FORM, Parameters, basic_value, in_pairs, with_defaults, with_query
from authproxy.grants.signing import (
    ASSERTION_LIFETIME,
    CLOCK_SKEW,
    SYMMETRIC,
    Algorithm,
    SigningKey,
    choose_algorithm,
    kind_of,
    read_key,
    secret_key,
    sign,
)
from authproxy.grants.steps import Answer, Ask, ClientCertificate, Discover, Flow, Now, Step
from authproxy.tokens.token import Token
from authproxy.values import URL, ClientID, ClientSecret, Duration, ReadableFile

SIGNING_KEYS = frozenset({"key", "key_id", "algorithm", "audience_claim", "assertion_lifetime", "clock_skew"})
"""The keys about signed assertions."""

MADE_FOR_A_REQUEST = ("client_assertion", "assertion")
"""Parameters that are as good as a secret, and stand in no configuration."""

Asking = Generator[Step, Any, Answer]
"""A part of a conversation that ends in the token endpoint's answer."""

if TYPE_CHECKING:
    from joserfc.jwk import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthGrant(Grant):
    """The keys of every OAuth grant, and the request they make."""

    credential_check: ClassVar[str] = ""
    """What to check when the server turns down what the grant is about, if that is not the client itself."""

    token_url: URL | None = None
    """The token endpoint: https, or on loopback, unless the route has `insecure: true`. This or `issuer` is
    required. Example: https://login.example.com/oauth/token"""
    issuer: Issuer | None = None
    """The authorization server, which publishes its endpoints (OpenID Connect discovery, RFC 8414); instead
    of `token_url`. Example: https://login.example.com"""
    client_id: ClientID | None = None
    """The client's ID. Example: ${CLIENT_ID}"""
    client_secret: ClientSecret | None = None
    """The client's secret. Example: ${CLIENT_SECRET}"""
    client_auth: ClientAuthName | None = None
    """How the client authenticates; by default `client_secret_basic` with a secret, else `none`.
    Example: client_secret_post"""
    key: SigningKey | None = None
    """The private key that assertions are signed with: PEM without a passphrase, or a JWK (RFC 7517).
    Example: ${file:client-key.pem}"""
    key_id: str | None = None
    """The key's ID (`kid`), as the server knows it; the JWK's own by default. Example: key-2026"""
    algorithm: Algorithm | None = None
    """The signature algorithm; by default one that suits the key. Example: PS256"""
    audience_claim: str | None = None
    """The audience (`aud`) of signed assertions; by default the issuer or the token endpoint.
    Example: https://login.example.com"""
    assertion_lifetime: Duration | None = None
    """How long signed assertions last, from `iat` to `exp`; four minutes by default. Example: 1m"""
    clock_skew: Duration | None = None
    """How far `iat` is dated back, for servers whose clock is behind; ten seconds by default. Example: 30s"""
    cert_file: ReadableFile | None = None
    """The client's certificate for `tls_client_auth`, PEM; read anew for each token request.
    Example: client.pem"""
    key_file: ReadableFile | None = None
    """Its private key, PEM without a passphrase, if it is in a separate file. Example: client.key"""
    scope: str | tuple[str, ...] | None = None
    """The scopes to ask for, as one string or a list. Example: orders.read orders.write"""
    audience: str | tuple[str, ...] | None = None
    """The audience to ask for, or a list of them. Example: https://api.example.com"""
    resource: str | tuple[str, ...] = ()
    """The resources to ask for (RFC 8707), as one string or a list. Example: https://api.example.com/v2"""
    params: SecretMap = field(default_factory=dict)
    """Further request parameters. Example: {service: geo}"""
    params_in: Literal["body", "query"] = "body"
    """Whether parameters, `grant_type` included, are sent in the body or the query. Example: query"""
    headers: HeaderMap = field(default_factory=dict)
    """Further headers of the token request. Example: {X-Tenant: geo}"""
    response: ReplyPointers = field(default_factory=ReplyPointers)
    """Where the reply has the token and the rest: JSON Pointers (RFC 6901). Example: {token: /data/token}"""

    def __post_init__(self) -> None:
        if self.token_url is None and self.issuer is None:
            raise ValueError("needs token_url, or issuer to discover it from")
        if self.token_url is not None and self.issuer is not None:
            raise ValueError("takes token_url or issuer, not both")
        self._check_client()
        self._check_signing()

    def _check_client(self) -> None:
        style = self.style
        if any(getattr(self, key) is None for key in NEEDS[style]):
            raise ValueError(f"client_auth {style} needs {' and '.join(NEEDS[style])}")
        if style != "tls_client_auth" and (self.cert_file or self.key_file) is not None:
            raise ValueError("cert_file and key_file are for client_auth: tls_client_auth")
        if style == "tls_client_auth" and (self.token_url or "").startswith("http:"):
            raise ValueError("client_auth tls_client_auth needs a token_url with https")

    def _check_signing(self) -> None:
        if self.style == "client_secret_jwt" and self.client_secret is not None:
            choose_algorithm(secret_key(self.client_secret.get_secret_value()), self.algorithm)
        if self.key is not None:
            key = self.private_key()
            if self.style != "client_secret_jwt":
                choose_algorithm(key, self.algorithm)
            if self.style == "private_key_jwt" and kind_of(key) == SYMMETRIC:
                raise ValueError("client_auth private_key_jwt needs a private key, not a shared one")
        for name in sorted(SIGNING_KEYS - self.signing_keys()):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is for client_auth: private_key_jwt")
        if self.assertion_seconds - self.skew_seconds < 1:
            raise ValueError("assertion_lifetime should be longer than clock_skew, by at least a second")

    def signing_keys(self) -> frozenset[str]:
        """Return the keys about signing that have a meaning here."""
        if self.style == "private_key_jwt":
            return SIGNING_KEYS
        return SIGNING_KEYS - {"key"} if self.style in SIGNED else frozenset()

    @property
    def style(self) -> ClientAuthName:
        """How the client proves who it is."""
        return self.client_auth or self.default_client_auth

    @property
    def default_client_auth(self) -> ClientAuthName:
        """Basic when there is a secret, as every server must support it (RFC 6749 §2.3.1)."""
        return "none" if self.client_secret is None else "client_secret_basic"

    # ── the conversation ─────────────────────────────────────────────────────────────────────────

    def flow(self, expired: Token | None) -> Flow:
        if expired is None or expired.refresh_token is None:
            return self.obtain()
        return refreshed_or_obtained(self.refresh(expired.refresh_token, expired.scope), self.obtain())

    def obtain(self) -> Flow:
        """Hold the grant's own conversation, without a refresh token."""
        raise NotImplementedError

    def refresh(self, refresh_token: str, scope: str | None = None) -> Flow:
        """Trade `refresh_token` in; it stays good unless another one comes back (RFC 6749 §6).

        `scope` is what was granted with it: whoever asks for more is refused. None: all that was wished for.
        """
        asked = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        answer = yield from self.ask_plainly({**asked, **self.wanted(scope)})
        return self.read_refreshed(answer, self.response, refresh_token, scope)

    def ask(self, **parameters: str) -> Asking:
        """Send the token request with `parameters`, and what the keys say is to be asked for."""
        return (yield from self.ask_plainly({**parameters, **self.wanted()}))

    def ask_plainly(self, parameters: Parameters, endpoint: str = "token_url") -> Asking:
        """Send `parameters`, who we are, and the extra keys to one of the server's endpoints."""
        server = yield from self.server()
        url = self.endpoint(server, endpoint)
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        sent: dict[str, str | tuple[str, ...]] = dict(parameters)
        proof = yield from self._proof(server)
        CLIENT_AUTH[self.style](self.client_id or "", proof, headers, sent)
        sent |= {name: value.get_secret_value() for name, value in self.params.items()}
        made = tuple(str(sent[name]) for name in MADE_FOR_A_REQUEST if name in sent)
        pairs = in_pairs(sent) + [("resource", each) for each in self.resources]
        headers = with_defaults(headers, {"Accept": "application/json"})
        shown = ClientCertificate(self.cert_file, self.key_file) if self.cert_file is not None else None
        setting = endpoint if getattr(self, endpoint, None) is not None else "issuer"
        if self.params_in == "query":
            url = with_query(url, pairs)
            answer: Answer = yield Ask("POST", url, headers, None, shown, made, setting)
            return answer
        headers = with_defaults(headers, {"Content-Type": FORM})
        answer = yield Ask("POST", url, headers, urlencode(pairs).encode(), shown, made, setting)
        return answer

    def server(self) -> Generator[Step, Any, Server]:
        """Return the server's endpoints: those of the configuration, over those it publishes."""
        own: dict[str, Any] = dict(self.urls())
        if self.issuer is None:
            return Server(**own)
        found: Server = yield Discover(self.issuer)
        return replace(found, **own)

    def endpoint(self, server: Server, endpoint: str) -> str:
        """Return the URL of one of the server's endpoints; raise `BadTokenReply` if it has none."""
        url = getattr(server, endpoint)
        if endpoint == "token_url" and self.style == "tls_client_auth":
            url = server.token_url_with_certificate or url
        if url is None:
            raise BadTokenReply(f"{self.issuer} publishes no {endpoint}", hint=GIVE_ENDPOINTS)
        return str(url)

    def _proof(self, server: Server) -> Generator[Step, Any, str]:
        secret = self.client_secret.get_secret_value() if self.client_secret else ""
        if self.style not in SIGNED:
            return secret
        claims = {"iss": self.client_id, "sub": self.client_id}
        key = secret_key(secret) if self.style == "client_secret_jwt" else self.private_key()
        return (yield from self.signed(claims, server, key))

    def signed(self, claims: Mapping[str, Any], server: Server, key: "Key") -> Generator[Step, Any, str]:
        """Return `claims` as a JWT for `server` (RFC 7523 §3), signed with `key`."""
        now: float = yield Now()
        audience = self.audience_claim or server.issuer or server.token_url
        return sign(
            {"aud": audience} | dict(claims),
            key,
            now=now,
            key_id=self.key_id,
            algorithm=self.algorithm,
            lifetime=self.assertion_seconds,
            skew=self.skew_seconds,
        )

    @property
    def assertion_seconds(self) -> float:
        return ASSERTION_LIFETIME if self.assertion_lifetime is None else self.assertion_lifetime

    @property
    def skew_seconds(self) -> float:
        return CLOCK_SKEW if self.clock_skew is None else self.clock_skew

    def private_key(self) -> "Key":
        return read_key(self.key.get_secret_value() if self.key else "")

    @property
    def checks(self) -> Checks:
        return self.oauth_checks()

    def oauth_checks(self) -> Checks:
        """Return what there is to check of every OAuth grant."""
        client = client_check(self.style)
        return Checks(
            credential=self.credential_check or client,
            client=client,
            request="check what the server wants to be sent, and where: `params`, `params_in`, `headers`",
            clock=self.style in SIGNED,
        )

    # ── what the keys say ────────────────────────────────────────────────────────────────────────

    def wanted(self, granted: str | None = None) -> dict[str, str | tuple[str, ...]]:
        """Return the scope and the audience to ask for, if they are given; `granted` is asked for instead."""
        scope = granted
        if scope is None:
            scope = self.scope if isinstance(self.scope, str | None) else " ".join(self.scope)
        wanted = {"scope": scope, "audience": self.audience}
        return {name: value for name, value in wanted.items() if value}

    @property
    def resources(self) -> list[str]:
        """What RFC 8707 calls resources."""
        return [self.resource] if isinstance(self.resource, str) else list(self.resource)

    def secrets(self) -> list[str]:
        found = Grant.secrets(self)
        if self.client_id is not None and self.client_secret is not None:
            client_id, secret = self.client_id, self.client_secret.get_secret_value()
            found += [basic_value(client_id, secret), basic_value(quote_plus(client_id), quote_plus(secret))]
        return found

    def urls(self) -> Iterator[tuple[str, str]]:
        """Yield the URLs of the configuration by their keys, which are those of `Server` too."""
        for key in ("issuer", "token_url"):
            if (url := getattr(self, key)) is not None:
                yield key, url
