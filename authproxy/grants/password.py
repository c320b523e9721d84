"""`password`: a user's name and password, traded in at the token endpoint (RFC 6749 §4.3)."""

from dataclasses import dataclass
from typing import ClassVar

from authproxy.grants.oauth import OAuthGrant
from authproxy.grants.steps import Flow
from authproxy.values import Username, UserPassword


@dataclass(frozen=True, slots=True, kw_only=True)
class Password(OAuthGrant):
    """The proxy hands over the user's name and password (RFC 6749 §4.3)."""

    credential_check: ClassVar[str] = "check `username` and `password`"

    username: Username
    """The user's name. Example: ${API_USERNAME}"""
    password: UserPassword
    """The user's password. Example: ${API_PASSWORD}"""

    def obtain(self) -> Flow:
        answer = yield from self.ask(
            grant_type="password", username=self.username, password=self.password.get_secret_value()
        )
        return self.read_login(answer, self.response)
