"""Incydr / CrashPlan on their `api.*` hosts."""

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import DemoRoute
from authproxy.demo.systems.api_client import ApiClient


class Incydr(ApiClient):
    """API clients only."""

    name = "incydr"
    token_path = "/v1/oauth"  # noqa: S105 - a place
    wants_grant_type = False  # its own SDK names none

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        client = {"preset": "incydr-api-client", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return [DemoRoute("incydr", client, "/v1/devices")]
