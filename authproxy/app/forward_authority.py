"""The authority of forward mode: for the hosts of the routes' upstreams alone, for as long as we live.

    hosts ─▶ authorities ─▶ leaves       server contexts, for who serves
                         ─▶ files        ca.pem, and bundle.pem: that and what is trusted anyway, for clients

Its key is in memory only. A configuration with other hosts gets another authority for those beside the first:
what clients have been told to trust goes on being right. It has nothing to do with that of `tls: auto`.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Self

from authproxy import logs
from authproxy.app.runtime_files import RuntimeFiles
from authproxy.config.model import Config, ForwardCA
from authproxy.errors import ConfigError, StoreError
from authproxy.net.authority import Authority, Permitted, address_of, imported, make_authority
from authproxy.net.bundle import composed, configured_roots
from authproxy.net.given_authority import UnusableCertificate, UnusableKey, read_authority
from authproxy.net.leaves import Leaves, NotPermitted, certified_name, end_of, left
from authproxy.net.name_constraints import permit
from authproxy.times import rfc3339
from authproxy.tokens.source import Clock
from authproxy.values import split_url

NAME = "authproxy forward authority"
LIFETIME = timedelta(days=365)
FOLLOWED = timedelta(days=30)  # before its end another one is made, for clients to know it in time
LOOK_SECONDS = 3600.0  # between two looks whether it is time
TELL_AGAIN = timedelta(days=1)
MAX_HOSTS = 250  # of one authority: what it permits is part of each handshake

CERT = "forward.ca.cert_file"
KEY = "forward.ca.key_file"
CERTIFICATE = "ca.pem"
BUNDLE = "bundle.pem"
NO_FILES = "clients of the forward proxy find no file with its authority: GET /forward-ca.pem has it"
ANOTHER = "the forward proxy has another authority, which clients that are running do not trust yet"
READ_AGAIN = "they have to read the bundle again: as a rule, be started again"


Exported = tuple[bool, list[list[bytes]]]
"""What travels to another process of ours: whether the authority is one of the user's own, and what it is."""


class ForwardAuthority:
    """`authorities` that sign for the hosts of a configuration, and their `files`, which clients read.

    `given` says that it is one of the user's own. What `before` has made of the same goes on being used.
    """

    def __init__(
        self,
        authorities: Iterable[Authority],
        files: RuntimeFiles,
        *,
        given: bool = False,
        before: "ForwardAuthority | None" = None,
        clock: Clock = time.time,
    ) -> None:
        known = {each.certificates: each for each in before.authorities} if before is not None else {}
        self.authorities: tuple[Authority, ...] = tuple(
            known.get(each.certificates, each) for each in authorities
        )
        self.files = files
        self.given = given
        self._clock = clock
        self._told = datetime.fromtimestamp(clock(), UTC)  # what is so at the start, the configuration tells
        is_same = before is not None and before.authorities == self.authorities
        self.leaves: Leaves = before.leaves if before and is_same else Leaves(self.authorities, clock=clock)

    @classmethod
    def of(
        cls,
        config: Config,
        *,
        before: "ForwardAuthority | None" = None,
        files: RuntimeFiles | None = None,
        clock: Clock = time.time,
    ) -> Self:
        """Return the authority for `config`, with all that the one `before` has. No file is written yet.

        Raises `ConfigError` where the user's own cannot be used.
        """
        now = datetime.fromtimestamp(clock(), UTC)
        files = files or (before.files if before is not None else RuntimeFiles())
        hosts = forward_hosts(config)
        if config.forward is not None and isinstance(config.forward.ca, ForwardCA):
            given = _read(config, config.forward.ca, hosts, now)
            return cls([given], files, given=True, before=before, clock=clock)
        known = (
            [each for each in before.authorities if end_of(each) > now] if before and not before.given else []
        )
        return cls([*known, *made_for(lacking(hosts, known, now), now)], files, before=before, clock=clock)

    def exported(self) -> Exported:
        """Return what `imported` takes, in another process of ours."""
        return self.given, [each.exported() for each in self.authorities]

    @classmethod
    def imported(
        cls, exported: Exported, files: RuntimeFiles, *, before: "ForwardAuthority | None" = None
    ) -> Self:
        """Return what another process has made, and `exported`."""
        given, authorities = exported
        return cls(map(imported, authorities), files, given=given, before=before)

    def __repr__(self) -> str:
        return f"<ForwardAuthority: {len(self.authorities)} authorities, {self.files!r}>"

    def lacks(self, config: Config) -> bool:
        """Tell whether another authority should be made for some host, in time before the one it has ends.

        Of an authority of the user's own it is only told that it ends.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        if not self.given:
            return bool(lacking(forward_hosts(config), self.authorities, now))
        self._tell_of_its_end(now)
        return False

    def _tell_of_its_end(self, now: datetime) -> None:
        """Warn, once a day, when the user's own authority ends soon."""
        end = end_of(self.authorities[0])
        if end - now < FOLLOWED and now - self._told >= TELL_AGAIN:
            self._told = now
            logs.warning("the forward proxy's authority (forward.ca) ends soon", at=rfc3339(end.timestamp()))

    @property
    def root_pem(self) -> bytes:
        """What clients are to trust: the certificates of all roots."""
        return b"".join(dict.fromkeys(each.root_pem for each in self.authorities))

    @property
    def cert_file(self) -> Path:
        """The file with that. Raises `StoreError` before it was staged."""
        return self.files.path(CERTIFICATE)

    @property
    def bundle_file(self) -> Path:
        """The file with that, and with what is trusted anyway. Raises `StoreError` as well."""
        return self.files.path(BUNDLE)

    def stage(self) -> None:
        """Write the files, for `publish` to put in their places.

        Raises `StoreError` where what there is cannot be replaced. Where there never was any it is only said:
        on a file system that is read-only the admin listener still has the certificate.
        """
        if not self.files.is_kept_here:
            return
        roots = self.root_pem
        try:
            self.files.stage({CERTIFICATE: roots, BUNDLE: composed(roots + configured_roots())})
        except StoreError as error:
            if self.files.are_there:
                raise
            logs.error(NO_FILES, cause=error.detail, hint=error.hint)

    def publish(self) -> None:
        """Put the files in their places, and say so. Raises `StoreError`."""
        replaced = self.files.publish()
        if CERTIFICATE not in replaced or not self.root_pem:  # no upstream speaks TLS
            return
        if replaced[CERTIFICATE]:
            logs.warning(ANOTHER, bundle=str(self.bundle_file), hint=READ_AGAIN)
        else:
            logs.info("have clients of the forward proxy trust this CA bundle", bundle=str(self.bundle_file))

    def abandon(self) -> None:
        """Have the files as they were before `stage`."""
        self.files.abandon()

    def close(self) -> None:
        """Remove the files."""
        self.files.close()


def forward_hosts(config: Config) -> list[str]:
    """Return the names and addresses of the routes' https upstreams, as certificates have them."""
    hosts = {}
    for route in config.routes:
        url = split_url(route.upstream)
        if url.scheme == "https" and url.hostname and (name := _certified(url.hostname)) is not None:
            hosts[name] = True
    return sorted(hosts)


def _read(config: Config, ca: ForwardCA, hosts: Iterable[str], now: datetime) -> Authority:
    """Return the user's own authority. Raises `ConfigError`."""
    try:
        found = read_authority(Path(ca.cert_file).read_bytes(), Path(ca.key_file).read_bytes(), now)
    except UnusableKey as error:
        raise ConfigError([config.fault(KEY, str(error))]) from error
    except UnusableCertificate as error:
        raise ConfigError([config.fault(CERT, str(error))]) from error
    except OSError as error:
        key = KEY if error.filename == ca.key_file else CERT
        raise ConfigError([config.fault(key, f"the file cannot be read: {error.strerror}")]) from error
    foreign = [host for host in hosts if not permit(found.certificates, host)]
    if foreign:
        message = f"does not permit certificates for {', '.join(foreign)} (its name constraints)"
        raise ConfigError([config.fault(CERT, message)])
    return found


def lacking(hosts: Iterable[str], authorities: Sequence[Authority], now: datetime) -> list[str]:
    """Return those of `hosts` for which none of `authorities` may sign for long enough."""
    lasting = [each for each in authorities if left(each, now) >= FOLLOWED]
    return [host for host in hosts if not any(permit(each.certificates, host) for each in lasting)]


def made_for(hosts: Sequence[str], now: datetime) -> list[Authority]:
    """Return new authorities, as few as will do, that may sign for `hosts` and no others."""
    parts = (hosts[start : start + MAX_HOSTS] for start in range(0, len(hosts), MAX_HOSTS))
    return [make_authority(NAME, _permitted(part), lifetime=LIFETIME, now=now) for part in parts]


def _permitted(hosts: Iterable[str]) -> Permitted:
    addresses = {host: address_of(host) for host in hosts}
    return Permitted(
        tuple(host for host, address in addresses.items() if address is None),
        tuple(ip_network(address) for address in addresses.values() if address is not None),
    )


def _certified(host: str) -> str | None:
    try:
        return certified_name(host)
    except NotPermitted:
        return None
