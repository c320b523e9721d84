"""When two routes have the same credential, and when a credential is the same as before.

Both are hashes, so that they can name an entry of the token store and a rejection.
"""

import hashlib
import json
from typing import Any

from pydantic import SecretStr

from authproxy.grants.grant import Grant
from authproxy.grants.transport import DIRECT, Transport
from authproxy.masking import Leaf, as_data
from authproxy.net.http_proxy import read_proxy


def credential_key(grant: Grant, transport: Transport = DIRECT) -> str:
    """Return what is equal for equal credentials, the secrets included, and tells nothing of them."""
    document = {"grant": type(grant).__name__, "settings": as_data(grant, _revealed)}
    if transport.http_proxy is not None:  # the token is obtained through it
        document["http_proxy"] = as_data(transport.http_proxy, _revealed)
    if (tls := transport.tls_of_its_own(url for _, url in grant.urls())) is not None:
        document["tls"] = as_data(tls, _revealed)
    return _digest(document)


def credential_identity(grant: Grant, transport: Transport = DIRECT) -> str:
    """Return what stays the same when only the secrets of a credential change."""
    settings = as_data(
        grant, lambda leaf: None if leaf.is_secret else leaf.value, keep=lambda field, _: field.repr
    )
    document = {"grant": type(grant).__name__, "settings": settings}
    if isinstance(transport.http_proxy, SecretStr):
        document["http_proxy"] = str(read_proxy(transport.http_proxy.get_secret_value()))
    return _digest(document)


def _revealed(leaf: Leaf) -> Any:
    return leaf.value.get_secret_value() if isinstance(leaf.value, SecretStr) else leaf.value


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()
