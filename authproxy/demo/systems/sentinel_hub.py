"""Sentinel Hub: a Keycloak realm of the vendor's own, with OAuth clients that users register."""

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import DemoRoute
from authproxy.demo.systems.keycloak import RealmClient


class SentinelHub(RealmClient):
    """Tokens and the API are on one host."""

    name = "sentinel-hub"
    token_lifetime = 3600
    token_path = "/auth/realms/main/protocol/openid-connect/token"  # noqa: S105 - a place

    def routes(self, base_url: str) -> list[DemoRoute]:
        client = {"preset": "sentinel-hub", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        client["token_url"] = f"{base_url}{self.token_path}"
        return [DemoRoute("sentinel-hub", client, "/api/v1/catalog/1.0.0/collections")]
