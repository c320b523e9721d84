"""What the grants that talk to an OAuth 2.0 token endpoint have in common (RFC 6749).

A refresh token, when the spent token brought one, goes first; when the server says `invalid_grant` to
it, the grant's own way follows at once (§6, §5.2).
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote_plus, urlencode

from authproxy.errors import BadTokenReply, CredentialRejected
from authproxy.grants.base import (
    FORM,
    Answer,
    Ask,
    ClientCertificate,
    Discover,
    Flow,
    Grant,
    HeaderMap,
    Now,
    ReplyPointers,
    SecretMap,
    Step,
    basic_value,
    with_defaults,
    with_query,
)
from authproxy.grants.client_auth import CLIENT_AUTH, NEEDS, SIGNED, ClientAuthName
from authproxy.grants.discovery import GIVE_ENDPOINTS, Issuer, Server
from authproxy.grants.signing import (
    SYMMETRIC,
    Algorithm,
    SigningKey,
    choose_algorithm,
    kind_of,
    read_key,
    secret_key,
    sign,
)
from authproxy.tokens.token import Token
from authproxy.values import URL, ClientID, ClientSecret, ReadableFile

# What says that this refresh token, or refreshing at all, will never do: the grant's own way must. Anything
# else (`invalid_client`) would be said to that as well, and count as a second failure.
REFRESH_IS_OVER = frozenset({"invalid_grant", "unauthorized_client", "unsupported_grant_type"})

Asking = Generator[Step, Any, Answer]
"""A part of a conversation that ends in the token endpoint's answer."""

if TYPE_CHECKING:
    from joserfc.jwk import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthGrant(Grant):
    """The keys of every OAuth grant, and the request they make."""

    token_url: URL | None = None
    issuer: Issuer | None = None
    client_id: ClientID | None = None
    client_secret: ClientSecret | None = None
    client_auth: ClientAuthName | None = None
    key: SigningKey | None = None
    key_id: str | None = None
    algorithm: Algorithm | None = None
    audience_claim: str | None = None
    cert_file: ReadableFile | None = None
    key_file: ReadableFile | None = None
    scope: str | tuple[str, ...] | None = None
    audience: str | None = None
    resource: str | tuple[str, ...] = ()
    params: SecretMap = field(default_factory=dict)
    params_in: Literal["body", "query"] = "body"
    headers: HeaderMap = field(default_factory=dict)
    response: ReplyPointers = field(default_factory=ReplyPointers)

    def __post_init__(self) -> None:
        if self.token_url is None and self.issuer is None:
            raise ValueError("needs token_url, or issuer to find it by")
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
        for name in ("key", "key_id", "algorithm", "audience_claim"):
            if getattr(self, name) is not None and name not in self.signing_keys():
                raise ValueError(f"{name} is for client_auth: private_key_jwt")

    def signing_keys(self) -> frozenset[str]:
        """Return the keys about signing that have a meaning here."""
        if self.style == "private_key_jwt":
            return frozenset({"key", "key_id", "algorithm", "audience_claim"})
        return frozenset({"key_id", "algorithm", "audience_claim"} if self.style in SIGNED else ())

    @property
    def style(self) -> ClientAuthName:
        """How the client proves who it is."""
        return self.client_auth or self.default_client_auth

    @property
    def default_client_auth(self) -> ClientAuthName:
        """Basic when there is a secret, as every server must support it (RFC 6749 §2.3.1)."""
        return "none" if self.client_secret is None else "client_secret_basic"

    # ── the conversation ─────────────────────────────────────────────────────────────────────────

    def flow(self, spent: Token | None) -> Flow:
        if spent is not None and spent.refresh_token is not None:
            try:
                return (yield from self.refresh(spent.refresh_token))
            except CredentialRejected as rejection:
                if rejection.error not in REFRESH_IS_OVER:
                    raise
        return (yield from self.earn())

    def earn(self) -> Flow:
        """Hold the grant's own conversation, without a refresh token."""
        raise NotImplementedError

    def refresh(self, refresh_token: str) -> Flow:
        """Trade `refresh_token` in; it stays good unless another one comes back (RFC 6749 §6)."""
        answer = yield from self.ask(grant_type="refresh_token", refresh_token=refresh_token)
        return self.read_token(answer, self.response, keep=refresh_token)

    def ask(self, **parameters: str) -> Asking:
        """Send the token request with `parameters`, and what the keys say is to be asked for."""
        return (yield from self.ask_plainly(parameters | self.wanted()))

    def ask_plainly(self, parameters: Mapping[str, str], endpoint: str = "token_url") -> Asking:
        """Send `parameters`, who we are, and the extra keys to one of the server's endpoints."""
        server = yield from self.server()
        url = self.endpoint(server, endpoint)
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        sent = dict(parameters)
        proof = yield from self._proof(server)
        CLIENT_AUTH[self.style](self.client_id or "", proof, headers, sent)
        sent |= {name: value.get_secret_value() for name, value in self.params.items()}
        pairs = list(sent.items()) + [("resource", each) for each in self.resources]
        headers = with_defaults(headers, {"Accept": "application/json"})
        shown = ClientCertificate(self.cert_file, self.key_file) if self.cert_file is not None else None
        if self.params_in == "query":
            answer: Answer = yield Ask("POST", with_query(url, pairs), headers, client_certificate=shown)
            return answer
        headers = with_defaults(headers, {"Content-Type": FORM})
        answer = yield Ask("POST", url, headers, urlencode(pairs).encode(), shown)
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
        whole = {"aud": audience} | dict(claims)
        return sign(whole, key, now=now, key_id=self.key_id, algorithm=self.algorithm)

    def private_key(self) -> "Key":
        return read_key(self.key.get_secret_value() if self.key else "")

    # ── what the keys say ────────────────────────────────────────────────────────────────────────

    def wanted(self) -> dict[str, str]:
        """Return the scope and the audience to ask for, if they are given."""
        scope = self.scope if isinstance(self.scope, str | None) else " ".join(self.scope)
        return {name: value for name, value in (("scope", scope), ("audience", self.audience)) if value}

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
