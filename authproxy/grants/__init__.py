"""How a token is obtained: one small file a grant, and the runner that carries out what a grant asks for."""

from authproxy.grants.authorization_code import AuthorizationCode
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.command import Command
from authproxy.grants.device_code import DeviceCode
from authproxy.grants.file import File
from authproxy.grants.grant import Grant
from authproxy.grants.jwt_bearer import JWTBearer
from authproxy.grants.password import Password
from authproxy.grants.refresh_token import RefreshToken
from authproxy.grants.static import Basic, NoGrant, Static
from authproxy.grants.token_exchange import TokenExchange
from authproxy.grants.token_request import TokenRequest

GRANTS: dict[str, type[Grant]] = {
    "none": NoGrant,
    "static": Static,
    "basic": Basic,
    "client_credentials": ClientCredentials,
    "password": Password,
    "refresh_token": RefreshToken,
    "authorization_code": AuthorizationCode,
    "device_code": DeviceCode,
    "jwt_bearer": JWTBearer,
    "token_exchange": TokenExchange,
    "token_request": TokenRequest,
    "command": Command,
    "file": File,
}
"""The word behind `grant:`, and the class whose fields are its keys."""
