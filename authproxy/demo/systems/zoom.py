"""Zoom: a grant of its own, for the account that the app belongs to."""

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import DemoRoute, Received
from authproxy.demo.systems.oauth_client import OAuthClient


class Zoom(OAuthClient):
    """One account with one Server-to-Server OAuth app."""

    name = "zoom"
    token_path = "/oauth/token"  # noqa: S105 - a place
    grant_type = "account_credentials"
    takes_basic = True
    account = "demo-account"

    def routes(self, base_url: str) -> list[DemoRoute]:
        app = {"account_id": self.account, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        app |= {"preset": "zoom-server-to-server", "token_url": f"{base_url}{self.token_path}"}
        return [DemoRoute("zoom", app, "/v2/users/me")]

    def wrong_client(self, received: Received) -> web.Response:  # noqa: ARG002
        return _no("invalid_client", "Invalid client_id or client_secret")

    def wrong_grant(self) -> web.Response:
        return _no("unsupported_grant_type", "unsupported grant type")

    def wrong_request(self, received: Received) -> web.Response | None:
        if received.form.get("account_id") != self.account:
            return _no("invalid_request", "Bad Request")
        return None

    def challenge(self, error: str = "", description: str = "") -> web.Response:  # noqa: ARG002
        return web.json_response({"code": 124, "message": "Invalid access token."}, status=401)


def _no(error: str, reason: str) -> web.Response:
    return web.json_response({"reason": reason, "error": error}, status=400)
