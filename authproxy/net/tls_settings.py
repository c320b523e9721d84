"""How TLS is spoken to a server: the keys under `tls` of a route, and of its `auth`."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, ConfigDict

from authproxy.values import ReadableFile

_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?\.?\Z")
_IPV6 = re.compile(r"\[[0-9a-f:.]+\]\Z")


def host_name(value: str) -> str:
    """Return a host's name in lower case. Raises ValueError for what is none."""
    host = value.lower()
    if not _NAME.match(host) and not _IPV6.match(host):
        raise ValueError("should be a host name without scheme, port or path")
    return host


Host = Annotated[str, AfterValidator(host_name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSSettings:
    """How a server's certificate is checked, and which one is shown to it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    verify: bool = True
    """Whether the certificate is verified. `false` lets anyone on the way read the credential.
    Example: false"""
    ca_file: ReadableFile | None = None
    """Certificates to trust instead of the system's, PEM. Example: /etc/ssl/company-ca.pem"""
    cert_file: ReadableFile | None = None
    """The client certificate, PEM. Example: client.pem"""
    key_file: ReadableFile | None = None
    """Its private key, PEM; needs `cert_file`. Example: client.key"""
    server_name: Host | None = None
    """The name to ask for and to check, if it is not the host in the URL. Example: api.internal"""

    def __post_init__(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")

    @property
    def files(self) -> list[str]:
        """The files that are read."""
        return [each for each in (self.ca_file, self.cert_file, self.key_file) if each is not None]
