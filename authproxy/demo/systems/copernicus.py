"""The Copernicus Data Space Ecosystem, whose accounts are those of a realm of Keycloak."""

from authproxy.demo.systems.password_realm import PasswordRealm


class Copernicus(PasswordRealm):
    """Tokens and the API, here on one host."""

    name = "copernicus"
    preset = "copernicus-dataspace"
    example = "/odata/v1/Products?$top=1"
    token_lifetime = 600
    refresh_lifetime = 3600
    token_path = "/auth/realms/CDSE/protocol/openid-connect/token"  # noqa: S105 - a place
    client_id = "cdse-public"
