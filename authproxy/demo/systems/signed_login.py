"""What Google and Salesforce have in common: a signed assertion is traded in (RFC 7523 §2.1)."""

from typing import Any, ClassVar

from aiohttp import web

from authproxy.demo.keys import verified
from authproxy.demo.standin import Endpoint, Received, StandIn, oauth_error
from authproxy.grants.requests import FORM

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class SignedLogin(StandIn):
    """One key that the vendor knows the public half of."""

    token_path: ClassVar[str]
    bad_signature: ClassVar[str]
    """What the vendor says to an assertion that is none, or that another key signed."""

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {self.token_path: ("POST", self.token_for_assertion)}

    def token_for_assertion(self, received: Received) -> web.Response:
        form = received.form
        if received.media_type != FORM:
            return oauth_error(400, "invalid_request", f"Send {FORM}")
        if form.get("grant_type") != GRANT_TYPE:
            return oauth_error(400, "unsupported_grant_type", "grant type not supported")
        claims = verified(form.get("assertion", ""))
        if claims is None:
            return oauth_error(400, "invalid_grant", self.bad_signature)
        return self.wrong_claims(claims, received) or self.grant(received)

    def wrong_claims(self, claims: dict[str, Any], received: Received) -> web.Response | None:
        """Return the answer to an assertion that says something wrong, or None."""
        raise NotImplementedError

    def grant(self, received: Received) -> web.Response:
        raise NotImplementedError


def address(received: Received) -> str:
    """Return the URL under which this stand-in was asked, without a path."""
    return f"http://{received.headers['Host']}"
