"""Which grants there are: the word behind `grant:`, and the class whose fields are its keys.

A new one is a file beside this one and a row in `CLASSES`.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from authproxy.grants.grant import Grant

PACKAGE = "authproxy.grants"
CLASSES = {
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
        module, _, kind = CLASSES[name].partition(":")
        found: type[Grant] = getattr(import_module(f"{PACKAGE}.{module}"), kind)
        return found

    def __contains__(self, name: object) -> bool:
        return name in CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(CLASSES)

    def __len__(self) -> int:
        return len(CLASSES)


def grant_name(grant: Grant) -> str | None:
    """Return what stands behind `grant:` for `grant`; None for one that only a preset has."""
    kinds = {f"{kind.__module__.removeprefix(f'{PACKAGE}.')}:{kind.__name__}" for kind in type(grant).__mro__}
    return next((name for name, kind in CLASSES.items() if kind in kinds), None)


GRANTS = _Grants()
"""The word behind `grant:`, and the class whose fields are its keys."""
