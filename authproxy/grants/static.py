"""`static` and `basic`: the credential stands in the configuration; `none`: there is none."""

import time
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import SecretStr

from authproxy.grants.grant import Grant, Scheme
from authproxy.grants.requests import basic_value
from authproxy.grants.steps import Flow
from authproxy.tokens.token import Token
from authproxy.values import STATIC_TOKEN, BasicPassword, BasicUsername


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGrant(Grant):
    """Plain forwarding: nothing is added."""

    can_be_rejected: ClassVar[bool] = False
    is_stored: ClassVar[bool] = False

    @property
    def needs_token(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Static(Grant):
    """A token handed out by hand. It holds until its source (`${file:…}`) changes."""

    in_configuration: ClassVar[bool] = True
    can_be_rejected: ClassVar[bool] = False
    is_stored: ClassVar[bool] = False

    token: Annotated[SecretStr, STATIC_TOKEN]
    """The token, as it was issued. Example: ${API_TOKEN}"""

    def flow(self, expired: Token | None) -> Flow:  # noqa: ARG002 - there is only this one
        yield from ()
        value = self.token.get_secret_value().strip()
        return Token(self.make_token(value, asked_at=time.time(), place="the configuration").value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic(Grant):
    """RFC 7617, with UTF-8 (§2.1)."""

    in_configuration: ClassVar[bool] = True
    can_be_rejected: ClassVar[bool] = False
    is_stored: ClassVar[bool] = False

    scheme: Scheme = "Basic"
    """The authentication scheme before the token."""
    username: BasicUsername
    """The user's name. Example: ${API_USERNAME}"""
    password: BasicPassword
    """The user's password. Example: ${API_PASSWORD}"""

    def flow(self, expired: Token | None) -> Flow:  # noqa: ARG002
        yield from ()
        return Token(basic_value(self.username, self.password.get_secret_value()))
