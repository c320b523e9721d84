"""`inject`: where a token goes in a request, if that is not one header with one scheme.

header   X-Api-Key: {token}              several of them, fields of the token reply among them
basic    Authorization: Basic …          a name and a password, either of which may be the token
query    ?api_key={token}
cookie   Cookie: JSESSIONID={token}
"""

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, SecretStr

from authproxy.errors import BadTokenReply
from authproxy.masking import SCHEMES
from authproxy.tokens.template import TOKEN, UNUSABLE, Template
from authproxy.tokens.token import Token
from authproxy.values import HeaderName, SecretHeaderValue, any_spelling

AUTHORIZATION = "authorization"

THE_TOKEN = SecretStr(TOKEN)
ONE_HEADER = frozenset({"scheme", "header"})
"""The keys of a grant that `inject` stands instead of."""

_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # a token (RFC 6265 §4.1.1)
_WORD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?= \Z)")


def _template(value: SecretStr) -> SecretStr:
    Template.parse(value.get_secret_value())
    return value


def _query_name(value: str) -> str:
    if not value or not value.isprintable() or not value.isascii():
        raise ValueError("should be the name of a query parameter, such as api_key")
    return value


def _cookie_name(value: str) -> str:
    if not _COOKIE_NAME.match(value):
        raise ValueError("should be the name of a cookie, such as JSESSIONID")
    return value


Text = Annotated[SecretHeaderValue, AfterValidator(_template)]
QueryName = Annotated[str, AfterValidator(_query_name)]
CookieName = Annotated[str, AfterValidator(_cookie_name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicPlace:
    """A name and a password (RFC 7617), UTF-8, either of which may hold the token."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    username: Text
    """The name, or {token}. Example: oauth2"""
    password: Text = THE_TOKEN
    """The password. Example: "{token}"
    """

    def __post_init__(self) -> None:
        username, password = _parsed(self.username), _parsed(self.password)
        if username.is_fixed and password.is_fixed:
            raise ValueError(
                "should hold {token} in one of them; for a fixed name and password: grant: basic"
            )
        if any(":" in part for part in username.parts if isinstance(part, str)):
            raise ValueError("username must not contain a colon (RFC 7617 §2)")

    def fill(self, token: Token) -> tuple[str, str]:
        """Return the name and the password for `token`. Raises `BadTokenReply` for a name with a colon."""
        username, password = _parsed(self.username).fill(token), _parsed(self.password).fill(token)
        if ":" in username:
            what = _parsed(self.username).origin_of(":", token)
            raise BadTokenReply(
                f"{what} contains a colon, which a name for Basic cannot (RFC 7617 §2)",
                title=UNUSABLE,
                hint="put it into `password`, or send it in another place of `inject`",
            )
        return username, password


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place for the token: a `header`, `basic`, a `query` parameter or a `cookie`, and the value there.

    The value may hold {token} and {response:/FIELD}, a field of the token reply.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    header: HeaderName | None = None
    """A header. Example: X-Api-Key"""
    basic: BasicPlace | None = None
    """`Authorization: Basic`, with the token for a password, or for a name.
    Example: {username: oauth2, password: "{token}"}"""
    query: QueryName | None = None
    """A parameter of the query. Servers log it; use a header where the API takes one. Example: api_key"""
    cookie: CookieName | None = None
    """A cookie. Example: JSESSIONID"""
    value: Text | None = None
    """What stands there; `{token}` when left out. Example: "Bearer {token}"
    """

    def __post_init__(self) -> None:
        if [self.header, self.basic, self.query, self.cookie].count(None) != 3:
            raise ValueError("should name one place: header, basic, query or cookie")
        if self.basic is not None and self.value is not None:
            raise ValueError("value does not go with basic, which has username and password")
        if self.basic is None and self.template.is_fixed:
            raise ValueError(
                "value should hold {token} or {response:/FIELD}; what never changes belongs under headers.set"
            )

    @property
    def template(self) -> Template:
        return _parsed(self.value if self.value is not None else THE_TOKEN)

    @property
    def header_name(self) -> str | None:
        """The header that it fills; a cookie is one of several in its own."""
        return "Authorization" if self.basic is not None else self.header

    @property
    def scheme(self) -> str | None:
        """The scheme before the token, "" for none; None where it is no credential of `Authorization`."""
        if self.basic is not None:
            return "Basic"
        if self.header is None or self.header.lower() != AUTHORIZATION:
            return None
        word = _WORD.match(self.template.words)
        return word[0] if word and word[0].lower() in SCHEMES else ""  # any other may be a secret

    @property
    def key(self) -> tuple[str, str]:
        """What is equal for two that fill the same place."""
        if (header := self.header_name) is not None:
            return "header", any_spelling(header)
        return ("query", self.query) if self.query is not None else ("cookie", self.cookie or "")

    @property
    def said(self) -> str:
        """The place, in words."""
        if self.query is not None:
            return f"the query parameter {self.query}"
        return f"the cookie {self.cookie}" if self.cookie is not None else str(self.header_name)

    @property
    def pointers(self) -> Iterator[str]:
        """The fields of the token reply that it wants."""
        for template in self._templates():
            yield from template.pointers

    def _templates(self) -> list[Template]:
        if self.basic is not None:
            return [_parsed(self.basic.username), _parsed(self.basic.password)]
        return [self.template]

    def fill(self, token: Token) -> str:
        """Return what stands there for `token`. Raises `BadTokenReply` for one that cannot."""
        if self.basic is not None:
            return f"Basic {b64encode(':'.join(self.basic.fill(token)).encode()).decode()}"
        value = self.template.fill(token)
        if self.cookie is not None and ";" in value:
            raise BadTokenReply(
                f"{self.template.origin_of(';', token)} contains a semicolon, "
                "which would end its cookie (RFC 6265 §4.1.1)",
                title=UNUSABLE,
                hint="send it in another place of `inject`, or take another field of the reply",
            )
        return value

    def shown(self) -> dict[str, object]:
        """Return the place for people, without what may be a secret in it."""
        if self.basic is not None:
            username, password = self._templates()
            return {"basic": {"username": username.shown, "password": password.shown}}
        key, name = self.key
        return {key: self.header if self.header is not None else name, "value": self.template.shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualPlace(Place):
    """The one header of `header` and `scheme`, neither of which is a secret."""

    @property
    def scheme(self) -> str | None:
        usual = self.header is not None and self.header.lower() == AUTHORIZATION
        return self.template.words.removesuffix(" ") if usual else None

    def shown(self) -> dict[str, object]:
        return {"header": self.header, "value": f"{self.template.words}{TOKEN}"}


def _parsed(text: SecretStr) -> Template:
    return Template.parse(text.get_secret_value())
