"""What a grant is: its keys, and a conversation that ends in a token.

    flow = grant.flow(expired)            a generator; it does no I/O
    step = next(flow)                   Ask an HTTP server, Run a command, Read a file, get a Code
    step = flow.send(answer)            … and so on, until it returns a Token
           flow.throw(error)            when a step failed (`TokenError`); most flows let it pass

The frozen dataclass *is* the YAML under `auth:`; a field's annotation is its check. A new grant is one
file beside this one, one row in `registry.py`, one test and one paragraph of `docs/configuration.md`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, SecretStr

from authproxy.errors import BadTokenReply, CredentialRejected, TokenError, TokenUnavailable
from authproxy.grants.inject import Place, UsualPlace
from authproxy.grants.refusal import (
    Checks,
    failure_in,
    is_no_to_refresh_token,
    no_field_in,
    no_token_in,
    page_instead,
)
from authproxy.grants.reply import (
    MAX_LIFETIME,
    find,
    is_page,
    jwt_expiry,
    read_json,
    read_lifetime,
    read_moment,
    read_text,
    retry_after,
    scope_in,
    token_in,
)
from authproxy.grants.reply_places import ReplyPointers, TokenPlace, token_at
from authproxy.grants.steps import Answer, Flow
from authproxy.masking import leaves
from authproxy.net.tls_settings import TLSSettings
from authproxy.tokens.template import TOKEN, UNUSABLE
from authproxy.tokens.token import Token
from authproxy.values import Duration, HeaderName, SecretHeaderValue

NAMES = frozenset({  # keys in capitals or not, with _, - or nothing in between
    "user", "username", "userid", "login", "email", "emailaddress", "account", "accountid", "clientid",
    "tenant", "tenantid", "realm", "domain", "service", "audience", "resource", "scope", "granttype",
    "responsetype", "name", "type", "method", "lang", "language", "locale", "accept", "acceptlanguage",
    "contenttype", "useragent",
})  # fmt: skip
BOUND_TOKEN_TYPES = frozenset({"dpop", "mac", "pop"})  # useless without the key they are bound to

NOT_PRINTABLE = "contains a character other than printable ASCII, of which tokens are made (RFC 6749 A.12)"

_TOKEN = re.compile(r"[\x20-\x7e]+\Z")


# ── fields that grants share ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyHint:
    """What to tell the user when the token endpoint answers `status`, or with `contains` in its body."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    say: str
    """What to tell the user. Example: this account needs a one-time password"""
    status: int | None = None
    """The status that it is for; any when left out. Example: 423"""
    contains: str | None = None
    """A text in the body that it is for; any when left out. Example: MFA_REQUIRED"""

    def fits(self, answer: Answer) -> bool:
        return self.status in {None, answer.status} and (
            self.contains is None or self.contains.encode() in answer.body
        )


def _plain_scheme(value: str) -> str:
    if value and not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", value):
        raise ValueError('should be one word, such as Bearer, or "" for the bare token')
    return value


Scheme = Annotated[str, AfterValidator(_plain_scheme)]


def _places(places: tuple[Place, ...]) -> tuple[Place, ...]:
    if not places:
        raise ValueError("should name a place at least; remove it, and the token goes into `header`")
    keys = [each.key for each in places]
    if twice := [each.said for each in places if keys.count(each.key) > 1]:
        raise ValueError(f"names {twice[0]} twice")
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The keys that every grant takes, and the conversation it must have."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    in_configuration: ClassVar[bool] = False
    """Whether the token itself stands in the configuration, so that only a changed source brings another."""
    can_be_rejected: ClassVar[bool] = True
    """Whether somebody may turn the credential down, and lock its account when it is tried again."""
    is_stored: ClassVar[bool] = True
    """Whether its tokens are worth storing."""

    scheme: Scheme = "Bearer"
    """The authentication scheme before the token; `""` sends the bare token. Example: Token"""
    header: HeaderName = "Authorization"
    """The header that carries the token. Example: X-Api-Key"""
    inject: Annotated[tuple[Place, ...], AfterValidator(_places)] | None = None
    """Where the token goes, instead of `scheme` and `header`: headers, Basic, the query, cookies.
    Example: [{header: Authorization, value: "Bearer {token}"}, {query: api_key}]"""
    incoming: Literal["keep", "replace", "reject"] = "keep"
    """What to do with a request that already has something in that place: `keep` forwards it as it is and
    adds nothing, `replace` replaces it, `reject` refuses the request. Example: replace"""
    refresh_before: Literal["auto"] | Duration = "auto"
    """How long before its end a token is renewed in the background; `auto` is a fifth of its lifetime, a
    minute at most. Example: 2m"""
    default_lifetime: Duration | None = None
    """How long a token lasts if neither the server nor the token itself says; without it, until it is
    refused. Example: 30m"""
    tls: TLSSettings | None = None
    """How the token endpoint's certificate is checked, and which one is shown to it; by default as the
    route's `tls` says, where the token endpoint is on the upstream's host.
    Example: {ca_file: /etc/ssl/company-ca.pem}"""
    hints: tuple[ReplyHint, ...] = ()
    """What to tell the user when the token endpoint answers a status, or with a text in its body.
    Example: [{status: 423, say: "the account is locked; ask an administrator"}]"""

    @property
    def needs_token(self) -> bool:
        """Whether anything is added to requests at all."""
        return True

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the token goes."""
        if self.inject is not None:
            return self.inject
        value = f"{self.scheme} {TOKEN}" if self.scheme else TOKEN
        return (UsualPlace(header=self.header, value=SecretStr(value)),)

    @property
    def wanted_fields(self) -> tuple[str, ...]:
        """The fields of the token reply that are sent as well, as JSON Pointers."""
        return tuple(dict.fromkeys(pointer for place in self.inject or () for pointer in place.pointers))

    @property
    def needs_person(self) -> bool:
        """Whether somebody has to log in before there is a token."""
        return False

    @property
    def must_last(self) -> bool:
        """Whether its tokens should outlive the process: a lost one costs a person a login."""
        return False

    @property
    def watched_file(self) -> str | None:
        """The file whose change means that there is another token."""
        return None

    def flow(self, expired: Token | None) -> Flow:
        """Hold the conversation that ends in a token; `expired` is the one before, if there was one.

        Raises `TokenError`.
        """
        raise NotImplementedError

    def urls(self) -> Iterator[tuple[str, str]]:
        """Yield the key and the value of every URL that gets to see a credential."""
        return iter(())

    def secrets(self) -> list[str]:
        """Return every secret in here; `scrub` knows in which spellings a server might echo it."""
        return [
            leaf.value.get_secret_value()
            for leaf in leaves(self)
            if isinstance(leaf.value, SecretStr) and not is_name(leaf.name)
        ]

    # ── reading what a token endpoint answered ───────────────────────────────────────────────────

    def read_token(
        self,
        answer: Answer,
        pointers: ReplyPointers,
        *,
        keep: str | None = None,
        scope: str | None = None,
        local_time: bool = False,
        more_secrets: tuple[str, ...] = (),
    ) -> Token:
        """Return the token that `answer` holds; `keep` is the refresh token to go on with if none comes back.

        `scope` is what it is for if the answer does not say (RFC 6749 §5.1). `local_time` says that moments
        without a zone are local time, not UTC. `more_secrets` are those in the question that are not in the
        configuration. Raises `CredentialRejected`, `BadTokenReply` or `TokenUnavailable`.
        """
        document = read_json(answer)
        if not (isinstance(pointers.token, TokenPlace) and 300 <= answer.status < 400):  # a login's way on
            self.refuse_failures(answer, document, (keep or "", *more_secrets))
        if pointers.token == "" and document is None:
            document = read_text(answer).strip()
        value, lifetime = token_at(answer, document, pointers.token)
        if not value:
            raise no_token_in(answer, document, pointers.token, self.hint_for(answer))
        token_type = find(document, pointers.token_type)
        if isinstance(token_type, str) and token_type.lower() in BOUND_TOKEN_TYPES:
            raise BadTokenReply(
                f"{answer.place} issued a {token_type} token, which is bound to a key",
                hint="have the client registered for Bearer tokens",
            )
        lifetime = read_lifetime(find(document, pointers.expires_in)) or lifetime
        if lifetime is None:
            ends_at = read_moment(find(document, pointers.expires_at), local_time=local_time)
            lifetime = read_lifetime(ends_at - answer.asked_at) if ends_at is not None else None
        refresh_at = pointers.refresh_token
        refresh_token = token_in(document, refresh_at) if refresh_at is not None else None
        return self.make_token(
            value,
            asked_at=answer.asked_at,
            lifetime=lifetime,
            refresh_token=refresh_token or keep,
            scope=scope_in(document, scope),
            place=answer.place,
            fields=self._fields_in(answer, document, may_lack=keep is not None),
        )

    def _fields_in(self, answer: Answer, document: object, *, may_lack: bool) -> tuple[tuple[str, str], ...]:
        """Return the fields of `document` that are sent as well. Raises `BadTokenReply`."""
        found = []
        for pointer in self.wanted_fields:
            value = token_in(document, pointer) or None
            if value is not None and not _TOKEN.match(value):
                raise BadTokenReply(
                    f"the field {pointer} from {answer.place} {NOT_PRINTABLE}",
                    title=UNUSABLE,
                    hint="check `{response:…}` in the route's `inject`",
                )
            if value is not None:
                found.append((pointer, value))
            elif not may_lack:
                raise no_field_in(answer, document, pointer)
        return tuple(found)

    def read_refreshed(
        self, answer: Answer, pointers: ReplyPointers, refresh_token: str, scope: str | None = None
    ) -> Token:
        """Return the token that `refresh_token` was traded in for; it stays good if no other comes back.

        Raises as `read_token` does, with `refresh_refused` set when the answer is the server's no to the
        refresh token, in whatever words; and `TokenUnavailable` for a page of HTML, which is nobody's no.
        """
        try:
            return self.read_token(answer, pointers, keep=refresh_token, scope=scope)
        except (CredentialRejected, BadTokenReply) as failure:
            if is_page(answer):
                page = page_instead(answer)
                raise TokenUnavailable(
                    page.detail,
                    title=page.title,
                    hint=page.hint,
                    retry_after=retry_after(answer.headers, answer.asked_at),
                ) from failure
            token, _ = token_at(answer, read_json(answer), pointers.token)
            failure.refresh_refused = is_no_to_refresh_token(answer, failure, has_token=bool(token))
            raise

    def read_login(
        self, answer: Answer, pointers: ReplyPointers, *, more_secrets: tuple[str, ...] = ()
    ) -> Token:
        """Return the token that a login with a name and a password brought; else as `read_token`.

        An answer without a token counts as a rejection: each endpoint has words of its own for a wrong
        password, and trying again may lock the account.
        """
        try:
            return self.read_token(answer, pointers, more_secrets=more_secrets)
        except BadTokenReply as failure:
            failure.rejects = True
            raise

    def make_token(
        self,
        value: str,
        *,
        asked_at: float,
        place: str,
        lifetime: float | None = None,
        refresh_token: str | None = None,
        scope: str | None = None,
        fields: tuple[tuple[str, str], ...] = (),
    ) -> Token:
        """Return a token, its lifetime (seconds) taken from the first that knows it.

        That is `lifetime`, then the `exp` of a JWT (RFC 7519 §4.1.4; read, not verified), then
        `default_lifetime`; else it holds until it is refused. Raises `BadTokenReply` for a token that is
        not printable, or does not go where it should.
        """
        if not _TOKEN.match(value):
            raise BadTokenReply(
                f"the token from {place} {NOT_PRINTABLE}" if value else f"the token from {place} is empty",
                title=UNUSABLE,
                hint="check where the token is taken from: it should stand there alone",
            )
        if lifetime is None and (exp := jwt_expiry(value)) is not None and exp > asked_at:
            lifetime = min(exp - asked_at, MAX_LIFETIME)
        if lifetime is None:
            lifetime = self.default_lifetime or inf
        token = Token(
            value,
            issued_at=asked_at,
            expires_at=asked_at + lifetime,
            refresh_token=refresh_token,
            scope=scope,
            fields=fields,
        )
        for each in self.places:
            if set(each.pointers) <= dict(fields).keys():
                each.fill(token)  # what no place can carry should be known before it is kept
        return token

    def refuse_failures(self, answer: Answer, document: object, more_secrets: Iterable[str] = ()) -> None:
        """Raise what a failing answer means, if it is one."""
        secrets = [*self.secrets(), *answer.secrets, *more_secrets]
        failure = failure_in(answer, document, secrets, self.hint_for(answer), self.checks)
        if failure is not None:
            raise failure

    @property
    def checks(self) -> Checks:
        """What to check when the token endpoint says no."""
        return Checks()

    def hint_for(self, answer: Answer) -> str | None:
        """Return what there is to say of `answer` in particular."""
        return next((hint.say for hint in self.hints if hint.fits(answer)), None)


def with_fields_of(token: Token, before: Token | None) -> Token:
    """Return `token` with the fields of the one `before` that a reply to a refresh does not repeat."""
    if before is None or not before.fields:
        return token
    return replace(token, fields=tuple((dict(before.fields) | dict(token.fields)).items()))


def refreshed_or_obtained(refresh: Flow, obtain: Flow) -> Flow:
    """Hold `refresh`; when that refresh token is refused, `obtain` at once, and let its failure say so."""
    try:
        return (yield from refresh)
    except TokenError as failure:
        if not failure.refresh_refused:
            raise
    try:
        return (yield from obtain)
    except TokenError as failure:
        failure.refresh_refused = True
        raise


def is_name(key: str) -> bool:
    """Tell whether what stands under `key` in a request of the configuration's own making is no secret."""
    return "".join(filter(str.isalnum, key)).lower() in NAMES


SecretMap = dict[str, SecretStr]
HeaderMap = dict[HeaderName, SecretHeaderValue]
