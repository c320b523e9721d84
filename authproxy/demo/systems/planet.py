"""Planet's APIs, with the key that a user finds in the account's settings."""

from aiohttp import web

from authproxy.demo.standin import DemoRoute, Received
from authproxy.demo.systems.handed_out import HandedOut


class Planet(HandedOut):
    """The key comes as a scheme of its own, as the name of a Basic credential, or in the query."""

    name = "planet"

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        return [DemoRoute("planet", {"preset": "planet", "api_key": self.handed_out}, "/data/v1/item-types")]

    def sent(self, received: Received) -> str | None:
        scheme, key = received.credential or ("", "")
        if scheme == "api-key":
            return key
        return received.basic[0] if received.basic is not None else received.query.get("api_key")

    def challenge(self, error: str = "", description: str = "") -> web.Response:  # noqa: ARG002
        message = "Please enter your API key, or email and password."
        return web.json_response({"message": message, "errors": []}, status=401)
