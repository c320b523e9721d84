"""What most vendors have in common: a client that gets tokens for itself (RFC 6749 §4.4).

What differs is where the client says who it is, what else it must ask for, and the words for no.
"""

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import unquote_plus

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET, is_login
from authproxy.demo.standin import Endpoint, Received, StandIn, oauth_error
from authproxy.grants.requests import FORM


class OAuthClient(StandIn):
    """A token for a client."""

    token_lifetime = 3600
    token_path: ClassVar[str]
    grant_type: ClassVar[str] = "client_credentials"
    takes_basic: ClassVar[bool] = False
    takes_post: ClassVar[bool] = False

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {self.token_path: ("POST", self.client_token)}

    def client_token(self, received: Received) -> web.Response:
        form = received.form
        if received.media_type != FORM:
            return oauth_error(400, "invalid_request", f"Send {FORM}")
        if not any(is_login(each, CLIENT_ID, CLIENT_SECRET) for each in self._clients(received)):
            return self.wrong_client(received)
        if form.get("grant_type") != self.grant_type:
            return self.wrong_grant()
        return self.wrong_request(received) or self.access_token(**self.more(form))

    def _clients(self, received: Received) -> Iterator[tuple[str, str]]:
        """Yield who the client says it is. With the vendors' own secrets both readings of Basic are one."""
        if self.takes_basic and received.basic is not None:
            name, secret = received.basic
            yield name, secret
            yield unquote_plus(name), unquote_plus(secret)
        form = received.form
        if self.takes_post and {"client_id", "client_secret"} <= form.keys():
            yield form["client_id"], form["client_secret"]

    # ── a vendor's own words ─────────────────────────────────────────────────────────────────────

    def wrong_client(self, received: Received) -> web.Response:  # noqa: ARG002
        return oauth_error(401, "invalid_client", "Unknown client, or a wrong secret")

    def wrong_grant(self) -> web.Response:
        return oauth_error(400, "unsupported_grant_type", f"Only {self.grant_type} is supported")

    def wrong_request(self, received: Received) -> web.Response | None:  # noqa: ARG002
        """Return the answer to a client that asks for what it cannot have, or None."""
        return None

    def more(self, form: dict[str, str]) -> dict[str, object]:  # noqa: ARG002
        """Return what else is in a token reply."""
        return {}
