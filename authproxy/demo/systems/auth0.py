"""Auth0: a token is for one API, and the client must be authorized for that."""

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import DemoRoute, Received, oauth_error
from authproxy.demo.systems.oauth_client import OAuthClient


class Auth0(OAuthClient):
    """A tenant with one API and one machine-to-machine application."""

    name = "auth0"
    token_lifetime = 86400
    token_path = "/oauth/token"  # noqa: S105 - a place
    takes_basic = takes_post = True
    audience = "https://orders.example.com/"

    def routes(self, base_url: str) -> list[DemoRoute]:
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "audience": self.audience}
        where = {"domain": "demo.eu.auth0.com", "token_url": f"{base_url}{self.token_path}"}
        return [DemoRoute("auth0", {"preset": "auth0-m2m"} | where | client, "/orders")]

    def wrong_client(self, received: Received) -> web.Response:  # noqa: ARG002
        return oauth_error(401, "access_denied", "Unauthorized")

    def wrong_grant(self) -> web.Response:
        return oauth_error(403, "unauthorized_client", "Grant type not allowed for the client.")

    def wrong_request(self, received: Received) -> web.Response | None:
        audience = received.form.get("audience")
        if audience is None:
            words = "No audience parameter was provided, and no default audience has been configured"
            return oauth_error(403, "access_denied", words)
        if audience != self.audience:
            return oauth_error(403, "access_denied", f"Service not found: {audience}")
        return None

    def more(self, form: dict[str, str]) -> dict[str, object]:  # noqa: ARG002
        return {"token_type": "Bearer", "scope": "read:orders"}
