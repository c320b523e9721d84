"""What has a Java program use a proxy, and trust it: a PKCS#12 trust store, and options of its machine.

Java reads none of the variables that other programs do, its proxies have no user information, and a trust
store that is named replaces its own.
"""

import contextlib
import re
import warnings
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore

from authproxy import logs
from authproxy.app.forward_authority import ForwardAuthority
from authproxy.values import bracketed

VARIABLE = "JAVA_TOOL_OPTIONS"
PASSWORD = "changeit"  # noqa: S105 - as that of Java's own: nothing in there is secret, but a store wants one
TRUST_STORE = "javax.net.ssl.trustStore"
STORE = "roots.p12"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SPECIAL = frozenset(" \t\n\r\f\v\"'")


def java_variables(
    proxy: str, authority: ForwardAuthority, environ: Mapping[str, str], *, direct: Iterable[str]
) -> dict[str, str]:
    """Return the variable that has Java use `proxy`, a URL, and trust `authority` and what is trusted anyway.

    The trust store is made beside the files of `authority`. `direct` are entries of NO_PROXY. Raises
    `StoreError`.
    """
    before = environ.get(VARIABLE, "")
    if f"-D{TRUST_STORE}=" in before:
        logs.warning("the trust store that JAVA_TOOL_OPTIONS names is not used: there can only be one")
    authority.files.stage({STORE: trust_store(authority.bundle_file.read_bytes())})
    authority.files.publish()
    parts = urlsplit(proxy)
    options = {
        TRUST_STORE: str(authority.files.path(STORE)),
        f"{TRUST_STORE}Type": "PKCS12",
        f"{TRUST_STORE}Password": PASSWORD,
        **{f"{scheme}.proxyHost": parts.hostname or "" for scheme in ("https", "http")},
        **{f"{scheme}.proxyPort": str(parts.port) for scheme in ("https", "http")},
        "http.nonProxyHosts": "|".join(non_proxy_hosts(direct)),  # for https too
    }
    own = [quoted(f"-D{name}={value}") for name, value in options.items()]
    return {VARIABLE: " ".join([*([before] if before.strip() else []), *own])}


def non_proxy_hosts(entries: Iterable[str]) -> list[str]:
    """Return entries of NO_PROXY as Java has them: a name is for itself alone.

    Blocks of addresses, and ports, it does not have: what they are for goes to the proxy.
    """
    found: list[str] = []
    for entry in entries:
        name = entry.removeprefix("*").removeprefix(".").strip("[]")
        try:
            found.append(bracketed(str(ip_address(name))))
        except ValueError:
            if name and "/" not in name and ":" not in name:
                found += [name, f"*.{name}"]
    return list(dict.fromkeys(found))


def quoted(option: str) -> str:
    """Return an option as a virtual machine reads it back from its variable, whatever is in it.

    Between quotation marks of one kind all but that mark is itself (HotSpot, arguments.cpp).
    """
    if not _SPECIAL.intersection(option):
        return option
    return '"' + option.replace('"', '"\'"\'"') + '"'


def trust_store(pem: bytes) -> bytes:
    """Return a PKCS#12 trust store with the certificates of `pem`; those that cannot be read are left out."""
    found: list[PKCS12Certificate] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old roots are not all as they should be
        for number, each in enumerate(_CERTIFICATE.findall(pem), 1):
            with contextlib.suppress(ValueError):
                certificate = x509.load_pem_x509_certificate(each)
                found.append(PKCS12Certificate(certificate, f"root-{number}".encode()))
    return serialize_java_truststore(found, BestAvailableEncryption(PASSWORD.encode()))
