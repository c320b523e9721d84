"""Google's APIs, as a service account."""

from typing import Any

from aiohttp import web

from authproxy.demo.keys import is_timely, private_key
from authproxy.demo.standin import DemoRoute, Received, oauth_error
from authproxy.demo.systems.signed_login import SignedLogin, address

MAX_JWT_SECONDS = 3600.0  # seconds
SCOPES = "https://www.googleapis.com/auth/"


class Google(SignedLogin):
    """One service account, which may act for nobody else."""

    name = "google"
    token_lifetime = 3599
    token_path = "/token"  # noqa: S105 - a place
    bad_signature = "Invalid JWT Signature."
    account = "demo@project.iam.gserviceaccount.com"

    def routes(self, base_url: str) -> list[DemoRoute]:
        account = {
            "client_email": self.account,
            "private_key": private_key(),
            "scope": f"{SCOPES}devstorage.read_only",
        }
        account |= {"preset": "google-service-account", "token_url": f"{base_url}{self.token_path}"}
        return [DemoRoute("google", account, "/storage/v1/b?project=demo")]

    def wrong_claims(self, claims: dict[str, Any], received: Received) -> web.Response | None:
        if claims.get("iss") != self.account:
            return oauth_error(400, "invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") != f"{address(received)}{self.token_path}":
            return oauth_error(400, "invalid_grant", "Invalid JWT: Failed audience check.")
        if not is_timely(claims, self.clock(), MAX_JWT_SECONDS):
            words = (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            )
            return oauth_error(400, "invalid_grant", words)
        if "sub" in claims:
            words = "Client is unauthorized to retrieve access tokens using this method."
            return oauth_error(401, "unauthorized_client", words)
        if not all(each.startswith(SCOPES) for each in str(claims.get("scope") or "none").split(" ")):
            return oauth_error(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return None

    def grant(self, received: Received) -> web.Response:  # noqa: ARG002
        return self.access_token(token_type="Bearer")  # noqa: S106 - a type

    def challenge(self, error: str = "", description: str = "") -> web.Response:
        words = "Request had invalid authentication credentials."
        said = {"code": 401, "message": words, "status": "UNAUTHENTICATED"}
        return web.json_response({"error": said}, status=401, headers=self.bearer(error, description))
