"""The Copernicus Data Space Ecosystem, whose accounts are those of a realm of Keycloak."""

from authproxy.demo.accounts import PASSWORD, USERNAME
from authproxy.demo.standin import DemoRoute
from authproxy.demo.systems.password_realm import PasswordRealm


class Copernicus(PasswordRealm):
    """Tokens and the API, here on one host."""

    name = "copernicus"
    token_lifetime = 600
    refresh_lifetime = 3600
    token_path = "/auth/realms/CDSE/protocol/openid-connect/token"  # noqa: S105 - a place
    client_id = "cdse-public"

    def routes(self, base_url: str) -> list[DemoRoute]:
        token_url = f"{base_url}{self.token_path}"
        user = {"preset": "copernicus-dataspace", "username": USERNAME, "password": PASSWORD}
        return [DemoRoute("copernicus", user | {"token_url": token_url}, "/odata/v1/Products?$top=1")]
