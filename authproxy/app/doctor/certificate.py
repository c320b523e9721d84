"""What a server's certificate says, and what is wrong with it: names, dates, who signed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from authproxy.masking import scrub
from authproxy.net.failures import NO_TLS, Failure

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Name

SOON = timedelta(days=14)
MAX_NAMES = 4  # that are told of a certificate for many


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """Who a certificate is for, who signed it, and when it is valid."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    def summary(self, now: datetime) -> str:
        """Return all of it in a line."""
        return f"{self.subject}, signed by {self.issuer}, {self._validity(now)}"

    def _validity(self, now: datetime) -> str:
        left = self.not_after - now
        until = f"valid until {self.not_after:%Y-%m-%d}"
        if left < timedelta(0):
            return f"expired on {self.not_after:%Y-%m-%d}"
        soon = ": renew it soon" if left < SOON else ""
        return f"{until} ({_days(left)} left{soon})"


def read_certificate(der: bytes | None) -> CertificateFacts | None:
    """Return what the certificate in `der` says; None where there is none, or nobody can read it."""
    if not der:
        return None
    from cryptography import x509

    try:
        found = x509.load_der_x509_certificate(der)
        return CertificateFacts(
            subject=_name(found.subject) or "a certificate without a name",
            issuer=_name(found.issuer) or "an authority without a name",
            names=_names(found),
            not_before=found.not_valid_before_utc,
            not_after=found.not_valid_after_utc,
        )
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def explain(failure: Failure, host: str, facts: CertificateFacts | None, now: datetime) -> str:
    """Return in one sentence why there is no TLS with `host`."""
    if facts is None:
        return f"no TLS with {host}: {NO_TLS[failure][0]}"
    age = abs(now - facts.not_after)
    said = {
        Failure.AUTHORITY: f"the certificate of {host} is signed by {facts.issuer}, "
        "an authority that is not trusted here",
        Failure.EXPIRED: f"the certificate of {host} expired on {facts.not_after:%Y-%m-%d}, "
        f"{_days(age)} ago by this machine's clock",
        Failure.NOT_YET_VALID: f"the certificate of {host} is valid from {_moment(facts.not_before)} on, "
        f"and this machine's clock says {_moment(now)}",
        Failure.OTHER_NAME: f"the certificate is for {_few(facts.names) or facts.subject}, not for {host}",
    }
    return said.get(failure, f"no TLS with {host}: {NO_TLS[failure][0]}")


def utc_now() -> datetime:
    return datetime.now(UTC)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _days(span: timedelta) -> str:
    days = span // timedelta(days=1)
    return f"{days} day{'' if days == 1 else 's'}"


def _few(names: tuple[str, ...]) -> str:
    more = [f"{len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return ", ".join([*names[:MAX_NAMES], *more])


def _name(name: "Name") -> str:
    """Return the common name, else the organisation, of a subject or an issuer."""
    from cryptography.x509.oid import NameOID

    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME):
        if found := name.get_attributes_for_oid(oid):
            return f'"{scrub(str(found[0].value), ())}"'
    return ""


def _names(certificate: "Certificate") -> tuple[str, ...]:
    """Return the DNS names and addresses that it is for."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*(scrub(each, ()) for each in found.get_values_for_type(x509.DNSName)), *map(str, addresses))
