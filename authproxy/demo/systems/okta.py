"""Okta: a custom authorization server, with scopes of one's own."""

from typing import ClassVar

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import DemoRoute, Received, oauth_error
from authproxy.demo.systems.oauth_client import OAuthClient


class Okta(OAuthClient):
    """An org with the authorization server that every org has."""

    name = "okta"
    token_path = "/oauth2/*/v1/token"  # noqa: S105 - a place
    takes_basic = True
    server = "default"
    scopes: ClassVar = frozenset({"orders.read", "orders.write"})

    def routes(self, base_url: str) -> list[DemoRoute]:
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scope": "orders.read"}
        token_url = f"{base_url}{self.token_path.replace('*', self.server)}"
        where = {"domain": "demo.okta.com", "token_url": token_url}
        return [DemoRoute("okta", {"preset": "okta-m2m"} | where | client, "/orders")]

    def client_token(self, received: Received) -> web.Response:
        server = received.path.split("/")[2]
        if server != self.server:
            summary = f"Not found: Resource not found: {server} (AuthorizationServer)"
            return web.json_response({"errorCode": "E0000007", "errorSummary": summary}, status=404)
        return super().client_token(received)

    def wrong_request(self, received: Received) -> web.Response | None:
        asked = received.form.get("scope", "").split()
        if not asked:
            words = "The authorization server resource does not have any configured default scopes, "
            return oauth_error(400, "invalid_scope", f"{words}'scope' must be provided.")
        if not self.scopes.issuperset(asked):
            words = "One or more scopes are not configured for the authorization server resource."
            return oauth_error(400, "invalid_scope", words)
        return None

    def more(self, form: dict[str, str]) -> dict[str, object]:
        return {"token_type": "Bearer", "scope": form["scope"]}
