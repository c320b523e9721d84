"""A Keycloak realm with a public client, passwords, and refresh tokens that rotate: UP42, CDSE."""

import time
from typing import ClassVar

from aiohttp import web

from authproxy.demo.accounts import PASSWORD, USERNAME, is_login
from authproxy.demo.standin import DemoRoute, Endpoint, Issued, Received, StandIn, oauth_error
from authproxy.grants.requests import FORM
from authproxy.tokens.source import Clock


class PasswordRealm(StandIn):
    """It refuses in the words of Keycloak."""

    preset: ClassVar[str]
    example: ClassVar[str]
    """A path of the API that is worth asking for."""
    token_path: ClassVar[str]
    client_id: ClassVar[str]
    refresh_lifetime: ClassVar[float]
    """Seconds, as the vendor has it."""

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:
        super().__init__(lifetime=lifetime, clock=clock)
        self._refresh_tokens = Issued(clock)

    def routes(self, base_url: str) -> list[DemoRoute]:
        user = {"preset": self.preset, "username": USERNAME, "password": PASSWORD}
        return [DemoRoute(self.name, user | {"token_url": f"{base_url}{self.token_path}"}, self.example)]

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {self.token_path: ("POST", self.realm_token)}

    def realm_token(self, received: Received) -> web.Response:
        if received.media_type != FORM:
            return web.json_response({"error": "HTTP 415 Unsupported Media Type"}, status=415)
        form = received.form
        for name in ("grant_type", "client_id"):
            if name not in form:
                return oauth_error(401, "invalid_request", f"Missing form parameter: {name}")
        if form["client_id"] != self.client_id:
            return oauth_error(401, "invalid_client", "Invalid client or Invalid client credentials")
        if form["grant_type"] == "password":
            return self._for_password(form)
        if form["grant_type"] == "refresh_token":
            return self._for_refresh_token(form)
        return oauth_error(400, "unsupported_grant_type", "Unsupported grant_type")

    def _for_password(self, form: dict[str, str]) -> web.Response:
        for name in ("username", "password"):
            if name not in form:
                return oauth_error(401, "invalid_request", f"Missing parameter: {name}")
        if not is_login((form["username"], form["password"]), USERNAME, PASSWORD):
            return oauth_error(401, "invalid_grant", "Invalid user credentials")
        return self._session()

    def _for_refresh_token(self, form: dict[str, str]) -> web.Response:
        if "refresh_token" not in form:
            return oauth_error(400, "invalid_request", "No refresh token")
        if not self._refresh_tokens.redeem(form["refresh_token"]):
            return oauth_error(400, "invalid_grant", "Token is not active")
        return self._session()

    def _session(self) -> web.Response:
        return self.access_token(
            token_type="Bearer",  # noqa: S106 - a type
            refresh_token=self._refresh_tokens.hand_out(self.refresh_lifetime),
            refresh_expires_in=self.refresh_lifetime,
            scope="email profile",
        )

    def revoke(self) -> None:
        super().revoke()
        self._refresh_tokens.forget()
