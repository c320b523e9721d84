"""Salesforce, with an app that acts as a user who is pre-authorized for it."""

from typing import Any

from aiohttp import web

from authproxy.demo.accounts import USERNAME
from authproxy.demo.keys import is_timely, private_key
from authproxy.demo.standin import DemoRoute, Received, oauth_error
from authproxy.demo.systems.signed_login import SignedLogin, address

MAX_JWT_SECONDS = 300.0  # seconds


class Salesforce(SignedLogin):
    """One org with one app. How long a session lasts, it does not say."""

    name = "salesforce"
    token_lifetime = 7200
    token_path = "/services/oauth2/token"  # noqa: S105 - a place
    bad_signature = "invalid assertion"
    app = "3MVG9demo"

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        app = {"preset": "salesforce-jwt", "client_id": self.app, "username": USERNAME}
        return [DemoRoute("salesforce", app | {"private_key": private_key()}, "/services/data/v62.0/limits")]

    def wrong_claims(self, claims: dict[str, Any], received: Received) -> web.Response | None:
        if claims.get("iss") != self.app:
            return oauth_error(400, "invalid_client_id", "client identifier invalid")
        if claims.get("aud") != address(received):
            return oauth_error(400, "invalid_grant", "audience is invalid")
        if not is_timely(claims, self.clock(), MAX_JWT_SECONDS):
            return oauth_error(400, "invalid_grant", "expired authorization code")
        if claims.get("sub") != USERNAME:
            return oauth_error(400, "invalid_grant", "user hasn't approved this consumer")
        return None

    def grant(self, received: Received) -> web.Response:
        url = address(received)
        more = {"token_type": "Bearer", "instance_url": url, "id": f"{url}/id/demo", "scope": "api"}
        return self.access_token(expires_in=None, **more)

    def challenge(self, error: str = "", description: str = "") -> web.Response:  # noqa: ARG002
        said = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
        return web.json_response(said, status=401, headers={"WWW-Authenticate": "Token"})
