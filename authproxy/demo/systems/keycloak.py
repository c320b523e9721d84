"""Keycloak: a realm's client with a service account, in front of an API of one's own."""

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import DemoRoute, Received, oauth_error
from authproxy.demo.systems.oauth_client import OAuthClient


class RealmClient(OAuthClient):
    """A confidential client of a realm; it may say who it is in the header or in the body."""

    token_lifetime = 300
    takes_basic = takes_post = True

    def wrong_client(self, received: Received) -> web.Response:  # noqa: ARG002
        return oauth_error(401, "unauthorized_client", "Invalid client or Invalid client credentials")

    def wrong_grant(self) -> web.Response:
        return oauth_error(400, "unsupported_grant_type", "Unsupported grant_type")

    def more(self, form: dict[str, str]) -> dict[str, object]:  # noqa: ARG002
        return {"token_type": "Bearer", "refresh_expires_in": 0, "not-before-policy": 0, "scope": "profile"}


class Keycloak(RealmClient):
    """One realm among those that somebody might ask for."""

    name = "keycloak"
    token_path = "/realms/*/protocol/openid-connect/token"  # noqa: S105 - a place
    realm = "demo"

    def routes(self, base_url: str) -> list[DemoRoute]:
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        keycloak = {"preset": "keycloak", "server": base_url, "realm": self.realm} | client
        return [DemoRoute("keycloak", keycloak, "/orders")]

    def client_token(self, received: Received) -> web.Response:
        if received.path.split("/")[2] != self.realm:
            return web.json_response({"error": "Realm does not exist"}, status=404)
        return super().client_token(received)
