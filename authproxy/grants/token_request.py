"""`token_request`: any endpoint that answers one request with a token."""

import json as jsonlib
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, BeforeValidator, ConfigDict, SecretStr

from authproxy.grants.assertion import HeaderAssertion
from authproxy.grants.grant import Grant, HeaderMap, SecretMap, is_name, refreshed_or_obtained
from authproxy.grants.refusal import Checks
from authproxy.grants.reply_places import ReplyPointers
from authproxy.grants.requests import FORM, base32, basic_value, with_defaults, with_query
from authproxy.grants.steps import Answer, Ask, Code, Flow, Step, UseUp
from authproxy.masking import Leaf, leaves, without_query
from authproxy.tokens.token import Token
from authproxy.values import JSON_TEXT, OTHERWISE_READ, URL, BasicPassword, BasicUsername, HeaderName

CODE_WANTED = "the server wants a one-time code besides: set `totp`, with the secret of the second factor"
CODE_REFUSED = (
    "the one-time code was not accepted: check that `totp` holds the secret of this account's second factor, "
    "that this machine's clock is right, and that no other authproxy used a code in the last half minute "
    "(with one `token_store` they share a token)"
)
CODE_IS_OLD = (
    "the one-time code was not accepted: it is good for half a minute, and once; set `totp` to the secret of "
    "the second factor, from which new codes are made"
)
BASIC_CHECK = "check `basic.username` and `basic.password`"
FIELDS_CHECK = "check the name and the password in `form`, `json` or `query`"
REQUEST_CHECK = "check what the server wants to be sent: `form` or `json`, `params_in`, `method`, `headers`"
SHORTEST_SECRET = 4  # characters of a JSON body's text; what is shorter is a switch or a language

_ONE_TIME_CODE = re.compile(rb"\b(?:t?otp|2fa|mfa)\b|one.?time|two.?factor|second.?factor", re.IGNORECASE)
_LIKE_A_CODE = re.compile(r"[\d\s-]{1,9}\Z")  # no secret is as short
_CODE = re.compile(r"\d{6,8}\Z")
_BASE32 = re.compile(r"[A-Z2-7]{8,}=*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicLogin:
    """Who asks for the token, sent as Basic with UTF-8 (RFC 7617)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    username: BasicUsername
    """The user's name. Example: ${API_USERNAME}"""
    password: BasicPassword
    """The user's password. Example: ${API_PASSWORD}"""


def _base32_secret(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not _is_base32(_without_gaps(secret)):
        raise ValueError("should be base32: letters and the digits 2 to 7")
    return secret


def _one_time_code(code: SecretStr | None) -> SecretStr | None:
    if code is not None and not _CODE.match(code.get_secret_value()):
        raise ValueError("should be a one-time code of 6 to 8 digits, or the secret (base32)")
    return code


def _is_base32(text: str) -> bool:
    try:
        return bool(_BASE32.match(text)) and bool(base32(text))
    except ValueError:  # of a length that no whole bytes have
        return False


def _without_gaps(secret: SecretStr) -> str:
    return re.sub(r"[\s-]", "", secret.get_secret_value()).upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimePassword:
    """A second factor: the `secret` (base32, RFC 6238) from which codes are made, or one `code`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    header: HeaderName
    """The header that carries the code. Example: totp-auth"""
    secret: Annotated[SecretStr | None, AfterValidator(_base32_secret), OTHERWISE_READ] = None
    """The second factor's secret (base32), from which codes are made (RFC 6238). Example: ${TOTP_SECRET}"""
    code: Annotated[SecretStr | None, AfterValidator(_one_time_code), OTHERWISE_READ] = None
    """One code of 6 to 8 digits, which is used once; instead of `secret`. Example: "123456"
    """

    def __post_init__(self) -> None:
        if (self.secret is None) == (self.code is None):
            raise ValueError("needs either secret or code")


def _code_or_secret(value: Any) -> Any:
    """Let a preset's plain `totp` be either: a few digits are a code, else it is the secret."""
    if isinstance(value, dict) and "value" in value:
        rest = {key: each for key, each in value.items() if key != "value"}
        text = value["value"]
        if not isinstance(text, str):
            raise ValueError("should be a string; put it in quotes")
        return rest | ({"code": text} if _LIKE_A_CODE.match(text) else {"secret": text})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPointers(ReplyPointers):
    """As for OAuth, but a refresh token is looked for only where it is said to be."""

    refresh_token: str | tuple[str, ...] | None = None
    """The refresh token; not looked for when left out. Example: /data/refresh"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest(Grant):
    """One request to any login endpoint, one token."""

    url: URL
    """The login endpoint. Example: https://api.example.com/session"""
    method: str = "POST"
    """The method of the login request. Example: PUT"""
    headers: HeaderMap = field(default_factory=dict)
    """Further headers of the login request. Example: {X-Tenant: geo}"""
    query: SecretMap = field(default_factory=dict)
    """Parameters in the query. Example: {useBody: "true"}"""
    form: SecretMap | None = None
    """Parameters as a form in the body. Example: {user: "${API_USERNAME}", pass: "${API_PASSWORD}"}"""
    json: Annotated[Any, JSON_TEXT] = field(default=None, repr=False)
    """The body, as JSON; instead of `form`. Example: {user: "${API_USERNAME}", secret: "${API_PASSWORD}"}"""
    params_in: Literal["body", "query"] = "body"
    """`query` puts `form` into the query. Example: query"""
    basic: BasicLogin | None = None
    """The user name and password, sent as Basic.
    Example: {username: "${API_USERNAME}", password: "${API_PASSWORD}"}"""
    jwt: HeaderAssertion | None = None
    """A JWT that says who asks, signed for each request and sent as Bearer, instead of `basic`.
    Example: {issuer_claim: app-1, key: "${PRIVATE_KEY}"}"""
    totp: Annotated[OneTimePassword | None, BeforeValidator(_code_or_secret)] = None
    """The second factor: the header, and a secret or a single code.
    Example: {header: totp-auth, secret: "${TOTP_SECRET}"}"""
    response: LoginPointers = field(default_factory=LoginPointers)
    """Where the reply has the token and the rest: JSON Pointers (RFC 6901).
    Example: {token: /data/token, expires_in: /data/ttl}"""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]+", self.method):
            raise ValueError("method should be a word in capitals, such as POST")
        if self.form is not None and self.json is not None:
            raise ValueError("form and json cannot be used together (`form: null` removes the preset's form)")
        if self.basic is not None and self.jwt is not None:
            raise ValueError("basic and jwt cannot be used together: both are sent as Authorization")

    def flow(self, expired: Token | None) -> Flow:
        if expired is not None and expired.refresh_token is not None:
            return refreshed_or_obtained(self._refresh(expired.refresh_token), self._obtain())
        return self._obtain()

    def _obtain(self) -> Flow:
        code = yield from self._one_time_code()
        proof = "" if self.jwt is None else (yield from self.jwt.signed())
        answer: Answer = yield self._login(code, proof)
        return self.read_login(answer, self.response, more_secrets=(code,))

    def _one_time_code(self) -> Generator[Step, Any, str]:
        if self.totp is None:
            return ""
        if self.totp.code is not None:
            code = self.totp.code.get_secret_value()
            yield UseUp(code, without_query(self.url))
            return code
        made: str = yield Code(_without_gaps(self.totp.secret or SecretStr("")))
        return made

    def _login(self, one_time_code: str, proof: str) -> Ask:
        headers = self._headers()
        if proof:
            headers["Authorization"] = f"Bearer {proof}"
        if self.basic is not None:
            password = self.basic.password.get_secret_value()
            headers["Authorization"] = f"Basic {basic_value(self.basic.username, password)}"
        if self.totp is not None:
            headers[self.totp.header] = one_time_code
        query, form = _pairs(self.query), _pairs(self.form or {})
        if self.json is not None:
            body: bytes | None = jsonlib.dumps(self.json).encode()
            headers = with_defaults(headers, {"Content-Type": "application/json"})
        elif self.form is not None and self.params_in == "body":
            body = urlencode(form).encode()
            headers = with_defaults(headers, {"Content-Type": FORM})
        else:
            body = None
            query += form
        made = (proof,) if proof else ()
        return Ask(self.method, with_query(self.url, query), headers, body, secrets=made, setting="url")

    def _refresh(self, refresh_token: str) -> Flow:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        headers = {"Content-Type": FORM} | self._headers()
        answer: Answer = yield Ask("POST", self.url, headers, urlencode(form).encode(), setting="url")
        return self.read_refreshed(answer, self.response, refresh_token)

    def _headers(self) -> dict[str, str]:
        return with_defaults(dict(_pairs(self.headers)), {"Accept": "application/json"})

    @property
    def checks(self) -> Checks:
        return Checks(
            credential=BASIC_CHECK if self.basic is not None else FIELDS_CHECK,
            request=REQUEST_CHECK,
            clock=self.totp is not None and self.totp.secret is not None,
        )

    def hint_for(self, answer: Answer) -> str | None:
        exact = next((hint.say for hint in self.hints if hint.contains and hint.fits(answer)), None)
        if exact is None and 400 <= answer.status < 500 and _ONE_TIME_CODE.search(answer.body):
            return self._about_the_code()
        return exact or Grant.hint_for(self, answer)

    def _about_the_code(self) -> str:
        if self.totp is None:
            return CODE_WANTED
        return CODE_REFUSED if self.totp.code is None else CODE_IS_OLD

    def secrets(self) -> list[str]:
        found = Grant.secrets(self)
        if self.basic is not None:
            found.append(basic_value(self.basic.username, self.basic.password.get_secret_value()))
        texts = [str(leaf.value) for leaf in leaves(self.json) if _may_be_secret(leaf)]
        return found + [text for text in texts if len(text) >= SHORTEST_SECRET]

    def urls(self) -> Iterator[tuple[str, str]]:
        yield "url", self.url


def _may_be_secret(leaf: Leaf) -> bool:
    """Tell whether it may be one in a JSON body, of which nobody says what is."""
    return isinstance(leaf.value, str | int) and not isinstance(leaf.value, bool) and not is_name(leaf.name)


def _pairs(values: SecretMap) -> list[tuple[str, str]]:
    return [(name, value.get_secret_value()) for name, value in values.items()]
