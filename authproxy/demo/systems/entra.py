"""Microsoft Entra ID, in front of Microsoft Graph: each no has a number (AADSTS…)."""

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET
from authproxy.demo.standin import DemoRoute, Received, oauth_error
from authproxy.demo.systems.oauth_client import OAuthClient


class Entra(OAuthClient):
    """A tenant with one application, which may use one API."""

    name = "entra"
    token_lifetime = 3599
    token_path = "/*/oauth2/v2.0/token"  # noqa: S105 - a place
    takes_basic = takes_post = True
    tenant = "demo.onmicrosoft.com"
    scope = "https://graph.microsoft.com/.default"

    def routes(self, base_url: str) -> list[DemoRoute]:
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scope": self.scope}
        token_url = f"{base_url}{self.token_path.replace('*', self.tenant)}"
        where = {"tenant_id": self.tenant, "token_url": token_url}
        return [DemoRoute("entra", {"preset": "entra-client-credentials"} | where | client, "/v1.0/users")]

    def client_token(self, received: Received) -> web.Response:
        tenant = received.path.split("/")[1]
        if tenant != self.tenant:
            return oauth_error(400, "invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
        return super().client_token(received)

    def wrong_client(self, received: Received) -> web.Response:
        if received.form.get("client_id", CLIENT_ID) != CLIENT_ID:
            words = "AADSTS700016: Application with this identifier was not found in the directory."
            return oauth_error(400, "unauthorized_client", words)
        return oauth_error(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")

    def wrong_grant(self) -> web.Response:
        return oauth_error(400, "unsupported_grant_type", "AADSTS70003: The grant type is not supported.")

    def wrong_request(self, received: Received) -> web.Response | None:
        scope = received.form.get("scope", "")
        if not scope.endswith("/.default"):
            words = (
                "AADSTS1002012: The provided value for scope is not valid. It must have /.default suffixed."
            )
            return oauth_error(400, "invalid_scope", words)
        if scope != self.scope:
            words = "AADSTS500011: The resource principal was not found in the tenant."
            return oauth_error(400, "invalid_resource", words)
        return None

    def more(self, form: dict[str, str]) -> dict[str, object]:  # noqa: ARG002
        return {"token_type": "Bearer", "ext_expires_in": self.lifetime}

    def challenge(self, error: str = "", description: str = "") -> web.Response:
        said = {"code": "InvalidAuthenticationToken", "message": description or "Access token is empty."}
        return web.json_response({"error": said}, status=401, headers=self.bearer(error, description))
