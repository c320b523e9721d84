"""GitLab's API, which has a header of its own for its tokens, and takes them as Bearer too."""

from aiohttp import web

from authproxy.demo.standin import DemoRoute, Received
from authproxy.demo.systems.handed_out import HandedOut


class GitLab(HandedOut):
    """One access token, of a user, a project or a group."""

    name = "gitlab"

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        return [DemoRoute("gitlab", {"preset": "gitlab-token", "token": self.handed_out}, "/api/v4/user")]

    def sent(self, received: Received) -> str | None:
        scheme, token = received.credential or ("", "")
        return received.headers.get("PRIVATE-TOKEN", token if scheme == "bearer" else None)

    def challenge(self, error: str = "", description: str = "") -> web.Response:  # noqa: ARG002
        return web.json_response({"message": "401 Unauthorized"}, status=401)
