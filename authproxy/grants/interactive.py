"""What the grants that need a person have in common: the login is a conversation of its own.

    flow()     the refresh token, and else `LoginRequired`: what the proxy does by itself
    login()    the same kind of conversation, with a user in it; it ends in a token too

Whoever runs the login puts its token where the source of tokens looks: into the cache, or the store.
"""

from dataclasses import dataclass

from authproxy.errors import LoginRequired
from authproxy.grants.oauth import OAuthGrant
from authproxy.grants.steps import Flow
from authproxy.tokens.token import Token
from authproxy.values import is_loopback, split_url


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractiveGrant(OAuthGrant):
    """A grant that needs a person once, and goes on by its refresh token."""

    @property
    def needs_person(self) -> bool:
        return True

    @property
    def must_last(self) -> bool:
        return True

    @property
    def comes_back_to(self) -> str | None:
        """The redirect URI that the configuration demands; None leaves it to whoever runs the login."""
        return None

    def obtain(self) -> Flow:
        yield from ()
        raise LoginRequired("a user must log in before a token can be obtained", hint="log in")

    def login(self, redirect_uri: str | None = None) -> Flow:
        """Hold the conversation with the user; `redirect_uri` is where a browser can come back to.

        Raises `TokenError`.
        """
        raise NotImplementedError

    def advice(self, token: Token) -> str | None:
        """Return what the user should know of the token that a login brought, if anything."""
        if token.refresh_token is not None:
            return None
        return (
            "the server issued no refresh token, so the login ends when its token expires; "
            "many servers issue one if scope includes offline_access"
        )


def leads_to_loopback(redirect_uri: str | None) -> bool:
    """Tell whether `authproxy login` can listen where the browser comes back to; None leaves that to it."""
    if redirect_uri is None:
        return True
    parts = split_url(redirect_uri)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")
