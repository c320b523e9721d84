"""Jira and Confluence Cloud, with the API token of an account."""

import secrets
import time
from math import inf

from aiohttp import web

from authproxy.demo.accounts import USERNAME, is_login
from authproxy.demo.standin import DemoRoute, Received, StandIn
from authproxy.tokens.source import Clock


class Atlassian(StandIn):
    """The token stands where the account's password stood once."""

    name = "atlassian"
    token_lifetime = inf

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:
        super().__init__(lifetime=lifetime, clock=clock)
        self._token = "demo-token-of-atlassian"  # noqa: S105 - made up

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        account = {"preset": "atlassian-api-token", "email": USERNAME, "token": self._token}
        return [DemoRoute("atlassian", account, "/rest/api/3/myself")]

    def refusal(self, received: Received) -> web.Response | None:
        if is_login(received.basic, USERNAME, self._token):
            return None
        message = "Client must be authenticated to access this resource."
        return web.json_response({"message": message, "status-code": 401}, status=401)

    def revoke(self) -> None:
        self._token = secrets.token_urlsafe(32)
