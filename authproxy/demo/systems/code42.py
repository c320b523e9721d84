"""CrashPlan / Code42: API clients, users with and without one-time passwords, and Basic."""

import re
import time

import pyotp
from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME, is_login
from authproxy.demo.standin import NO_STORE, DemoRoute, Endpoint, Received, same
from authproxy.demo.systems.api_client import ApiClient
from authproxy.tokens.source import Clock


class Code42(ApiClient):
    """Three ways to a token, of which Basic is no token at all."""

    name = "code42"
    token_path = "/api/v3/oauth/token"  # noqa: S105 - a place
    user_token_lifetime = 1800
    user_token_path = "/api/v3/auth/jwt"  # noqa: S105
    totp_secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105
    totp_user = "totp@example.com"

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:
        super().__init__(lifetime=lifetime, clock=clock)
        self.user_lifetime = self.user_token_lifetime if lifetime is None else lifetime
        self._totp = pyotp.TOTP(self.totp_secret)
        self._steps_used: set[int] = set()

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return super().endpoints | {self.user_token_path: ("GET", self.user_token)}

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002 - tokens come from the upstream itself
        user = {"password": PASSWORD}
        client = {"preset": "code42-api-client", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        totp = {"preset": "code42-user", "username": self.totp_user, "totp": self.totp_secret} | user
        basic = {"preset": "code42-basic", "username": USERNAME} | user
        return [
            DemoRoute("code42", client, "/api/v1/Computer?active=true"),
            DemoRoute("code42-user", totp, "/api/v1/User/my"),
            DemoRoute("code42-basic", basic, "/api/v4/user"),
        ]

    def user_token(self, received: Received) -> web.Response:
        if (failure := self._login_failure(received)) is not None:
            return failure
        token = self.tokens.hand_out(self.user_lifetime)
        if received.query.get("useBody", "").lower() == "true":  # its own SDK says True
            return web.json_response({"data": {"v3_user_token": token}}, headers=NO_STORE)
        reply = web.Response(headers=NO_STORE)
        # The vendor sets a cookie instead, which its API does not take afterwards.
        reply.set_cookie("C42_JWT_API_TOKEN", token, httponly=True)
        return reply

    def refusal(self, received: Received) -> web.Response | None:
        if received.credential is not None and received.credential[0] == "basic":
            if not _takes_basic(received.path):
                return self.challenge("invalid_token", "This API takes no Basic credential")
            return self._login_failure(received)
        return super().refusal(received)

    def _login_failure(self, received: Received) -> web.Response | None:
        if is_login(received.basic, USERNAME, PASSWORD):
            return None
        if not is_login(received.basic, self.totp_user, PASSWORD):
            return _code42_error("INVALID_CREDENTIALS", "The username or the password is wrong")
        code = received.headers.get("totp-auth")
        if code is None:
            return _code42_error("TIME_BASED_ONE_TIME_PASSWORD_REQUIRED", "Send a code in totp-auth")
        if not self._accepts(code):
            return _code42_error("TIME_BASED_ONE_TIME_PASSWORD_INVALID", "The code is wrong, old or used")
        return None

    def _accepts(self, code: str) -> bool:
        """Tell whether `code` is of now, or of the step before or after, and was not used (RFC 6238 §5.2)."""
        now = int(self.clock()) // self._totp.interval
        for step in (now - 1, now, now + 1):
            if step not in self._steps_used and same(self._totp.generate_otp(step), code):
                self._steps_used.add(step)
                return True
        return False


def _takes_basic(path: str) -> bool:
    version = re.match(r"/api/v(\d+)(?:/|\Z)", path)
    return version is not None and (version[1] == "1" or int(version[1]) >= 4)


def _code42_error(name: str, description: str) -> web.Response:
    headers = {"WWW-Authenticate": 'Basic realm="code42"'}
    document = {"error": [{"primaryErrorKey": name, "description": description}]}
    return web.json_response(document, status=401, headers=headers)
