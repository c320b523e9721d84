"""Spotify's Web API, for what needs no user."""

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import DemoRoute, Received, oauth_error
from authproxy.demo.systems.oauth_client import OAuthClient


class Spotify(OAuthClient):
    """One app of the developer's dashboard."""

    name = "spotify"
    token_path = "/api/token"  # noqa: S105 - a place
    takes_basic = True

    def routes(self, base_url: str) -> list[DemoRoute]:
        client = {"preset": "spotify-client-credentials", "client_id": CLIENT_ID}
        client |= {"client_secret": CLIENT_SECRET, "token_url": f"{base_url}{self.token_path}"}
        return [DemoRoute("spotify", client, "/v1/artists/4Z8W4fKeB5YxbusRsdQVPb")]

    def wrong_client(self, received: Received) -> web.Response:  # noqa: ARG002
        return oauth_error(400, "invalid_client", "Invalid client")

    def more(self, form: dict[str, str]) -> dict[str, object]:  # noqa: ARG002
        return {"token_type": "Bearer"}

    def challenge(self, error: str = "", description: str = "") -> web.Response:  # noqa: ARG002
        message = "Invalid access token" if error else "No token provided"
        headers = {"WWW-Authenticate": 'Bearer realm="spotify"'}
        return web.json_response({"error": {"status": 401, "message": message}}, status=401, headers=headers)
