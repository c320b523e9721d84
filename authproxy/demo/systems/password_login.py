"""An API of its own kind: `POST /authorization` trades a name and a password for a token."""

from aiohttp import web

from authproxy.demo.accounts import PASSWORD, USERNAME, is_login
from authproxy.demo.standin import DemoRoute, Endpoint, Received, StandIn
from authproxy.grants.requests import FORM


class PasswordLogin(StandIn):
    """Name and password, in the body or the query."""

    name = "login"
    token_lifetime = 3600

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {"/authorization": ("POST", self.authorization)}

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        user = {"preset": "password-login", "username": USERNAME, "password": PASSWORD}
        return [DemoRoute("login", user, "/items")]

    def authorization(self, received: Received) -> web.Response:
        if received.body and received.media_type != FORM:
            return web.json_response({"detail": f"Send {FORM}"}, status=415)
        sent = received.form if received.body else received.query
        if not {"username", "password"} <= sent.keys():
            return web.json_response({"detail": "username and password are required"}, status=400)
        if not is_login((sent["username"], sent["password"]), USERNAME, PASSWORD):
            return web.json_response({"detail": "Wrong username or password"}, status=401)
        return self.access_token()
