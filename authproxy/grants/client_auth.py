"""How the proxy proves to a token endpoint which client it is (RFC 6749 §2.3, RFC 8414 §2).

The style is configured, never found out by failing once: a failed try is a strike against the account.
"""

from collections.abc import Callable
from typing import Literal
from urllib.parse import quote_plus

from authproxy.grants.base import basic_value

ClientAuthName = Literal["client_secret_basic", "client_secret_basic_raw", "client_secret_post", "none"]


def _basic(client_id: str, secret: str, headers: dict[str, str], _parameters: dict[str, str]) -> None:
    # RFC 6749 §2.3.1: form-encoded first, so that a colon in the id stays apart from the separator.
    headers["Authorization"] = f"Basic {basic_value(quote_plus(client_id), quote_plus(secret))}"


def _basic_raw(client_id: str, secret: str, headers: dict[str, str], _parameters: dict[str, str]) -> None:
    headers["Authorization"] = f"Basic {basic_value(client_id, secret)}"


def _post(client_id: str, secret: str, _headers: dict[str, str], parameters: dict[str, str]) -> None:
    parameters |= {"client_id": client_id, "client_secret": secret}


def _none(client_id: str, _secret: str, _headers: dict[str, str], parameters: dict[str, str]) -> None:
    if client_id:
        parameters["client_id"] = client_id


CLIENT_AUTH: dict[ClientAuthName, Callable[[str, str, dict[str, str], dict[str, str]], None]] = {
    "client_secret_basic": _basic,
    "client_secret_basic_raw": _basic_raw,
    "client_secret_post": _post,
    "none": _none,
}
