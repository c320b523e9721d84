"""How the proxy proves to a token endpoint which client it is (RFC 6749 §2.3, RFC 8414 §2).

    client_secret_basic, client_secret_basic_raw     in `Authorization`
    client_secret_post                               in the parameters
    client_secret_jwt, private_key_jwt               a signed assertion instead of the secret (RFC 7523 §2.2)
    tls_client_auth                                  a certificate, shown by the connection (RFC 8705 §2)
    none                                             a public client only says its name

The style is configured, never found out by failing once: a failed try is a strike against the account.
"""

from collections.abc import Callable
from typing import Literal
from urllib.parse import quote_plus

from authproxy.grants.requests import basic_value

ClientAuthName = Literal[
    "client_secret_basic",
    "client_secret_basic_raw",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "none",
]

FormParameters = dict[str, str | tuple[str, ...]]
"""The parameters of a request."""

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

NEEDS: dict[ClientAuthName, tuple[str, ...]] = {
    "client_secret_basic": ("client_id", "client_secret"),
    "client_secret_basic_raw": ("client_id", "client_secret"),
    "client_secret_post": ("client_id", "client_secret"),
    "client_secret_jwt": ("client_id", "client_secret"),
    "private_key_jwt": ("client_id", "key"),
    "tls_client_auth": ("client_id", "cert_file"),
    "none": (),
}
"""The keys without which a style cannot be."""


def client_check(style: ClientAuthName) -> str:
    """Return what to check when a server does not know the client by what it was shown."""
    keys = NEEDS[style] or ("client_id",)
    names = " and ".join(f"`{key}`" for key in keys)
    swapped = " (are they swapped?)" if "client_secret" in keys else ""
    return f"check {names}{swapped}, and whether the server takes `client_auth: {style}`"


SIGNED: frozenset[ClientAuthName] = frozenset({"client_secret_jwt", "private_key_jwt"})
"""The styles whose proof is a signed assertion, not the secret itself."""


def _basic(client_id: str, secret: str, headers: dict[str, str], _parameters: FormParameters) -> None:
    # RFC 6749 §2.3.1: form-encoded first, so that a colon in the id stays apart from the separator.
    headers["Authorization"] = f"Basic {basic_value(quote_plus(client_id), quote_plus(secret))}"


def _basic_raw(client_id: str, secret: str, headers: dict[str, str], _parameters: FormParameters) -> None:
    headers["Authorization"] = f"Basic {basic_value(client_id, secret)}"


def _post(client_id: str, secret: str, _headers: dict[str, str], parameters: FormParameters) -> None:
    parameters |= {"client_id": client_id, "client_secret": secret}


def _assertion(client_id: str, signed: str, _headers: dict[str, str], parameters: FormParameters) -> None:
    parameters |= {
        "client_id": client_id,
        "client_assertion_type": JWT_BEARER,
        "client_assertion": signed,
    }


def _name(client_id: str, _proof: str, _headers: dict[str, str], parameters: FormParameters) -> None:
    if client_id:
        parameters["client_id"] = client_id


CLIENT_AUTH: dict[ClientAuthName, Callable[[str, str, dict[str, str], FormParameters], None]] = {
    "client_secret_basic": _basic,
    "client_secret_basic_raw": _basic_raw,
    "client_secret_post": _post,
    "client_secret_jwt": _assertion,
    "private_key_jwt": _assertion,
    "tls_client_auth": _name,
    "none": _name,
}
"""Each puts the client's ID and its proof (a secret, an assertion) into the headers or the parameters."""
