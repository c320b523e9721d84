"""GitHub's API: personal access tokens, and Apps, which trade a signed JWT for a token of an installation."""

from datetime import UTC, datetime

from aiohttp import web

from authproxy.demo.keys import is_timely, private_key, verified
from authproxy.demo.standin import NO_STORE, DemoRoute, Endpoint, Received
from authproxy.demo.systems.handed_out import HandedOut

MAX_JWT_SECONDS = 600.0  # seconds
DOCUMENTATION = "https://docs.github.com/rest"


class GitHub(HandedOut):
    """It wants to know which program asks, and answers an App only for its own installations."""

    name = "github"
    token_lifetime = 3600  # of an installation's token
    app = "Iv1.demo"
    installation = "42"

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {"/app/installations/*/access_tokens": ("POST", self.installation_token)}

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        token = {"preset": "github-token", "token": self.handed_out}
        app = {"preset": "github-app", "client_id": self.app, "installation_id": self.installation}
        return [
            DemoRoute("github", token, "/user"),
            DemoRoute("github-app", app | {"private_key": private_key()}, "/installation/repositories"),
        ]

    def installation_token(self, received: Received) -> web.Response:
        if "User-Agent" not in received.headers:
            return _no_user_agent()
        scheme, token = received.credential or ("", "")
        claims = verified(token) if scheme == "bearer" else None
        if claims is None or claims.get("iss") != self.app:
            return _no(401, "A JSON web token could not be decoded")
        if not is_timely(claims, self.clock(), MAX_JWT_SECONDS):
            return _no(401, "'Expiration time' claim ('exp') is too far in the future")
        if received.path.split("/")[3] != self.installation:
            return _no(404, "Not Found")
        ends = datetime.fromtimestamp(self.clock() + self.lifetime, UTC)
        made = {"token": self.tokens.hand_out(self.lifetime), "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}
        return web.json_response(made | {"permissions": {"metadata": "read"}}, status=201, headers=NO_STORE)

    def sent(self, received: Received) -> str | None:
        scheme, token = received.credential or ("", "")
        return token if scheme in {"bearer", "token"} else None

    def refusal(self, received: Received) -> web.Response | None:
        if "User-Agent" not in received.headers:
            return _no_user_agent()
        return super().refusal(received)

    def challenge(self, error: str = "", description: str = "") -> web.Response:  # noqa: ARG002
        return _no(401, "Bad credentials")


def _no(status: int, message: str) -> web.Response:
    document = {"message": message, "documentation_url": DOCUMENTATION, "status": str(status)}
    return web.json_response(document, status=status)


def _no_user_agent() -> web.Response:
    words = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"
    return web.Response(status=403, text=f"{words} ({DOCUMENTATION}).\n")
