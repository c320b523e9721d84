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

from authproxy.app.runtime_files import RuntimeFiles
from authproxy.config.model import Config
from authproxy.net.authority import Authority, Permitted, address_of, make_authority
from authproxy.net.bundle import composed, configured_roots
from authproxy.net.leaves import Leaves, NotPermitted, certified_name, end_of
from authproxy.net.name_constraints import permit
from authproxy.tokens.source import Clock
from authproxy.values import split_url

NAME = "authproxy forward authority"
LIFETIME = timedelta(days=365)
FOLLOWED = timedelta(days=30)  # before its end another one is made, for clients to know it in time
MAX_HOSTS = 250  # of one authority: what it permits is part of each handshake

CERTIFICATE = "ca.pem"
BUNDLE = "bundle.pem"


class ForwardAuthority:
    """`authorities` that sign for the hosts of a configuration, and their `files`, which clients read."""

    def __init__(
        self,
        authorities: Sequence[Authority],
        files: RuntimeFiles,
        *,
        clock: Clock = time.time,
    ) -> None:
        self.authorities = tuple(authorities)
        self.files = files
        self.leaves = Leaves(self.authorities, clock=clock)

    @classmethod
    def of(
        cls,
        config: Config,
        *,
        before: "ForwardAuthority | None" = None,
        files: RuntimeFiles | None = None,
        clock: Clock = time.time,
    ) -> Self:
        """Return the authority for `config`, with all that the one `before` has. No file is written yet."""
        known = before.authorities if before is not None else ()
        now = datetime.fromtimestamp(clock(), UTC)
        new = made_for(lacking(forward_hosts(config), known, now), now)
        files = files or (before.files if before is not None else RuntimeFiles())
        return cls([*known, *new], files, clock=clock)

    def __repr__(self) -> str:
        return f"<ForwardAuthority: {len(self.authorities)} authorities, {self.files!r}>"

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
        """Write the files, for `publish` to put in their places. Raises `StoreError`."""
        if self.files.is_kept_here:
            roots = self.root_pem
            self.files.stage({CERTIFICATE: roots, BUNDLE: composed(roots + configured_roots())})

    def publish(self) -> None:
        """Put the files in their places. Raises `StoreError`."""
        self.files.publish()

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


def lacking(hosts: Iterable[str], authorities: Sequence[Authority], now: datetime) -> list[str]:
    """Return those of `hosts` for which none of `authorities` may sign for long enough."""
    lasting = [each for each in authorities if end_of(each) - now >= FOLLOWED]
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
