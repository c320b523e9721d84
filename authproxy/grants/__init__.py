"""How a token is obtained: one small file a grant, and the runner that carries out what a grant asks for."""

from collections.abc import Iterator, Mapping
from importlib import import_module

from authproxy.grants.grant import Grant

_CLASSES = {
    "none": "static:NoGrant",
    "static": "static:Static",
    "basic": "static:Basic",
    "client_credentials": "client_credentials:ClientCredentials",
    "password": "password:Password",
    "refresh_token": "refresh_token:RefreshToken",
    "authorization_code": "authorization_code:AuthorizationCode",
    "device_code": "device_code:DeviceCode",
    "jwt_bearer": "jwt_bearer:JWTBearer",
    "token_exchange": "token_exchange:TokenExchange",
    "token_request": "token_request:TokenRequest",
    "command": "command:Command",
    "file": "file:File",
}


class _Grants(Mapping[str, type[Grant]]):
    """Loads only the grants that a configuration names: the others would be a good part of a start."""

    def __getitem__(self, name: str) -> type[Grant]:
        module, _, kind = _CLASSES[name].partition(":")
        found: type[Grant] = getattr(import_module(f"{__name__}.{module}"), kind)
        return found

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


def grant_name(grant: Grant) -> str | None:
    """Return what stands behind `grant:` for `grant`; None for one that only a preset has."""
    kinds = {
        f"{kind.__module__.removeprefix(f'{__name__}.')}:{kind.__name__}" for kind in type(grant).__mro__
    }
    return next((name for name, kind in _CLASSES.items() if kind in kinds), None)


GRANTS = _Grants()
"""The word behind `grant:`, and the class whose fields are its keys."""
