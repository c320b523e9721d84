"""What authorities may sign for: the name constraints of their certificates (RFC 5280 §4.2.1.10), judged.

They are judged as clients judge them, of the whole chain and the root included: a client that minds the
root's refuses what the root does not permit, and one that does not will find the same in what is below it.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from cryptography import x509

from authproxy.net.authority import Address, address_of


def permit(certificates: Iterable[x509.Certificate], host: str) -> bool:
    """Tell whether all of `certificates` permit one for `host`: a name in lower case, or an address."""
    address = address_of(host)
    return all(_permits(each, address if address is not None else host) for each in certificates)


def _permits(certificate: x509.Certificate, host: Address | str) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    kind = x509.DNSName if isinstance(host, str) else x509.IPAddress
    permitted = [each for each in found.permitted_subtrees or () if isinstance(each, kind)]
    excluded = [each for each in found.excluded_subtrees or () if isinstance(each, kind)]
    if any(_is_below(host, each) for each in excluded):
        return False
    return not permitted or any(_is_below(host, each) for each in permitted)


def _is_below(host: Address | str, subtree: x509.GeneralName) -> bool:
    """Tell whether `host` is in a subtree of its own kind; a name is below itself, and "" is above all."""
    base = subtree.value
    if isinstance(base, IPv4Network | IPv6Network):
        return host in base
    name, base = str(host), str(base).lower()
    return not base or name == base or name.endswith(base if base.startswith(".") else f".{base}")
