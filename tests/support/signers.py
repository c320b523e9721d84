"""Certificates of authorities as users have them, with whatever extensions a test wants."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def usage(**uses):
    return x509.KeyUsage(**{**dict.fromkeys(USAGES, False), **uses})


CA = x509.BasicConstraints(ca=True, path_length=None)
SIGNS = usage(key_cert_sign=True)


class Signer:
    """A certificate and its key; `above` has signed it, or it has itself."""

    def __init__(
        self, name, above=None, *, key=None, extensions=(CA, SIGNS), begins=NOW - DAY, ends=NOW + DAY
    ):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = above or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectKeyIdentifier(name.encode().ljust(20)), critical=False)
        )
        if above is not None:
            of = x509.AuthorityKeyIdentifier(above.name_bytes, None, None)
            builder = builder.add_extension(of, critical=False)
        for each in extensions:
            builder = builder.add_extension(each, critical=True)
        self.name_bytes = name.encode().ljust(20)
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, kind=serialization.PrivateFormat.PKCS8, passphrase=None):
        encryption = (
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        )
        return self.key.private_bytes(serialization.Encoding.PEM, kind, encryption)
