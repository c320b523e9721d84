"""UP42, which has its tokens from a realm of Keycloak."""

from authproxy.demo.accounts import PASSWORD, USERNAME
from authproxy.demo.standin import DemoRoute
from authproxy.demo.systems.password_realm import PasswordRealm


class Up42(PasswordRealm):
    """Tokens and the API, here on one host."""

    name = "up42"
    token_lifetime = 300
    refresh_lifetime = 1800
    token_path = "/realms/public/protocol/openid-connect/token"  # noqa: S105 - a place
    client_id = "up42-api"

    def routes(self, base_url: str) -> list[DemoRoute]:
        token_url = f"{base_url}{self.token_path}"
        user = {"preset": "up42", "username": USERNAME, "password": PASSWORD, "token_url": token_url}
        return [DemoRoute("up42", user, "/v2/assets")]
