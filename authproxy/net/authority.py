"""Local certificate authorities, each for a few names and addresses and no others. No file is touched here.

    root            its key is gone as soon as it has signed one certificate, and is never written anywhere
      issuer        signs for servers only, no further authority, and only what is permitted
        leaf        what a listener shows, for some days

What is permitted (RFC 5280 §4.2.1.10) stands in the issuer, because what a trust anchor says of itself binds
nobody (§6.1); the root says the same, for those who look. A kind of names of which none is permitted is
excluded whole: left out, it would be open.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

ORGANIZATION = "authproxy"
BACKDATED = datetime.timedelta(hours=1)  # for clocks that are behind ours

# Java cannot read the exclusion of "". Where one name is permitted no other one is, and this one is excluded.
_NO_NAME = (x509.DNSName("invalid"),)
_ALL_ADDRESSES = (x509.IPAddress(ip_network("0.0.0.0/0")), x509.IPAddress(ip_network("::/0")))
_NO_USE = dict.fromkeys(
    (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    ),
    False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Permitted:
    """What an authority may sign for: `names`, each with all names below it, and addresses in `networks`."""

    names: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def covers(self, name: str) -> bool:
        """Tell whether a certificate for `name`, a host name or an address, would be accepted."""
        address = address_of(name)
        if address is not None:
            return any(address in each for each in self.networks)
        return any(name.lower() == each or name.lower().endswith(f".{each}") for each in self.names)

    def extension(self) -> x509.NameConstraints:
        """Return it as certificates say it."""
        names = tuple(map(x509.DNSName, self.names))
        permitted = [*(names or _NO_NAME), *map(x509.IPAddress, self.networks)]
        excluded = [*(() if names else _NO_NAME), *(() if self.networks else _ALL_ADDRESSES)]
        return x509.NameConstraints(permitted, excluded or None)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate with its issuer's, and its key sealed with `passphrase`; both PEM."""

    chain: bytes
    key: bytes = field(repr=False)
    passphrase: bytes = field(repr=False)
    not_before: datetime.datetime
    not_after: datetime.datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """A root's certificate, and an issuer that can sign; `between` are those from it up to the root."""

    root: x509.Certificate
    issuer: x509.Certificate
    key: SigningKey = field(repr=False)
    between: tuple[x509.Certificate, ...] = ()

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """All of its certificates, the issuer's first."""
        return tuple(dict.fromkeys((self.issuer, *self.between, self.root)))

    @property
    def root_pem(self) -> bytes:
        """What clients are to trust."""
        return _pem(self.root)

    @property
    def fingerprint(self) -> str:
        """The root's, SHA-256, in hexadecimal digits."""
        return fingerprint_of(self.root)

    def sealed(self, passphrase: bytes) -> bytes:
        """Return all of it as PEM, the key encrypted; `unsealed` takes it."""
        return _pem(self.root) + _pem(self.issuer) + _sealed(self.key, passphrase)

    def leaf(
        self, names: Iterable[str], *, lifetime: datetime.timedelta, now: datetime.datetime, passphrase: bytes
    ) -> Leaf:
        """Return a new certificate for `names`, host names and addresses, which ends with the issuer's."""
        key = ec.generate_private_key(ec.SECP256R1())
        begins = max(now - BACKDATED, self.issuer.not_valid_before_utc)
        ends = min(max(now, begins) + lifetime, self.issuer.not_valid_after_utc)
        signed = (
            _builder(_name(), key.public_key(), begins, ends)
            .issuer_name(self.issuer.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**{**_NO_USE, "digital_signature": True}), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
            .add_extension(_issued_by(self.issuer), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        above = b"".join(_pem(each) for each in self.certificates if each.issuer != each.subject)
        return Leaf(_pem(signed) + above, _sealed(key, passphrase), passphrase, begins, ends)

    def exported(self) -> list[bytes]:
        """Return all of it, DER, the key first and in the clear, for `imported` in a process of ours."""
        key = self.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = (self.root, self.issuer, *self.between)
        return [key, *(each.public_bytes(serialization.Encoding.DER) for each in chain)]


def make_authority(
    title: str, permitted: Permitted, *, lifetime: datetime.timedelta, now: datetime.datetime
) -> Authority:
    """Return a new authority for what is `permitted`; `title` begins its names, which are like no other's."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    mark = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()).digest.hex()[:8]
    name = _name(f"{title} {mark}")
    begins, ends = now - BACKDATED, now + lifetime
    root = (
        _authority(_builder(name, root_key.public_key(), begins, ends), permitted, below=1)
        .issuer_name(name)
        .sign(root_key, hashes.SHA256())
    )
    issuer = (
        _authority(
            _builder(_name(f"{title} {mark}, issuer"), key.public_key(), begins, ends), permitted, below=0
        )
        .issuer_name(name)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_issued_by(root), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return Authority(root, issuer, key)  # and with this the root's key is nowhere any more


def unsealed(content: bytes, passphrase: bytes) -> Authority:
    """Return the authority of which `content` is what `sealed` returned. Raises ValueError."""
    certificates = x509.load_pem_x509_certificates(content)
    if len(certificates) != 2:
        raise ValueError("should hold two certificates")
    begin = content.find(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    key = serialization.load_pem_private_key(content[begin:] if begin >= 0 else b"", passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("should hold a key of an elliptic curve")  # noqa: TRY004 - it is the content's fault
    root, issuer = certificates
    if key.public_key() != issuer.public_key():
        raise ValueError("the key should be that of the second certificate")
    try:
        issuer.verify_directly_issued_by(root)
    except InvalidSignature as error:
        raise ValueError("the first certificate should have signed the second one") from error
    return Authority(root, issuer, key)


def imported(exported: Sequence[bytes]) -> Authority:
    """Return the authority of which `exported` is what it has said of itself."""
    key = serialization.load_der_private_key(exported[0], None)
    assert isinstance(key, SigningKey)  # noqa: S101 - as it was when it was exported
    root, issuer, *between = map(x509.load_der_x509_certificate, exported[1:])
    return Authority(root, issuer, key, tuple(between))


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Return its SHA-256 in hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def address_of(name: str) -> Address | None:
    """Return `name` as an IP address, without an interface; None for a host name."""
    try:
        return ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return None


def permitted_by(certificate: x509.Certificate) -> Permitted:
    """Return what a certificate of an authority permits."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return Permitted()
    subtrees = found.permitted_subtrees or ()
    names = tuple(each.value for each in subtrees if isinstance(each, x509.DNSName) and each not in _NO_NAME)
    networks = (each.value for each in subtrees if isinstance(each, x509.IPAddress))
    return Permitted(names, tuple(each for each in networks if isinstance(each, IPv4Network | IPv6Network)))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _sealed(key: SigningKey, passphrase: bytes) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _name(common_name: str | None = None) -> x509.Name:
    said = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION)]
    if common_name is not None:
        said.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(said)


def _builder(
    name: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime.datetime, ends: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority(
    builder: x509.CertificateBuilder, permitted: Permitted, *, below: int
) -> x509.CertificateBuilder:
    """Have `builder` make an authority with as many others `below` it at most."""
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(x509.KeyUsage(**{**_NO_USE, "key_cert_sign": True}), critical=True)
        .add_extension(permitted.extension(), critical=True)
    )


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return what names the key of `issuer`: as it does itself (RFC 5280 §4.2.1.1), if it does."""
    try:
        found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        found = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)


def _general_name(name: str) -> x509.GeneralName:
    address = address_of(name)
    return x509.IPAddress(address) if address is not None else x509.DNSName(name)
