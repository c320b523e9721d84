"""UP42, which has its tokens from a realm of Keycloak."""

from authproxy.demo.systems.password_realm import PasswordRealm


class Up42(PasswordRealm):
    """Tokens and the API, here on one host."""

    name = "up42"
    preset = "up42"
    example = "/v2/assets"
    token_lifetime = 300
    refresh_lifetime = 1800
    token_path = "/realms/public/protocol/openid-connect/token"  # noqa: S105 - a place
    client_id = "up42-api"
