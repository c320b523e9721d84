"""The user's own certificate authority, of `tls: auto`: where it is kept, and when another one follows it.

    STATE/authority/ca.pem         the root's certificate, for clients to trust
                    authority.pem  both certificates, and the issuer's key, encrypted
                    authority.key  what that is encrypted with, or where in the keyring it is
                    former.pem     roots that were followed by another one
                    lock           held while one is made
                    *.garbage      what was found in a file's place and could not be read

All of it is 0600. Everything in here blocks; what fails raises `StoreError`.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from authproxy import logs
from authproxy.capabilities import FILE_LOCKS
from authproxy.errors import StoreError
from authproxy.places import NO_HOME, Stamp, stamp_of, state_directory
from authproxy.times import rfc3339
from authproxy.tokens.source import Clock
from authproxy.tokens.stores import disk
from authproxy.tokens.stores.keys import Keyring, find_secret, installed_keyring

if TYPE_CHECKING:
    from cryptography import x509

    from authproxy.net.authority import Authority, Permitted

NAME = "authproxy local authority"
OF = "local authority"  # in words
HINT = "set XDG_STATE_HOME to a directory that can be written to, or `tls: {cert_file: …, key_file: …}`"
TRUST_IT = "authproxy trust --install"
LOCK_SECONDS = 20.0  # a keyring may have to be unlocked meanwhile
LIFETIME = timedelta(days=365)
FOLLOWED = timedelta(days=14)  # before its end another one takes its place: two lifetimes of a leaf
ENDS_SOON = timedelta(days=45)  # before its end it is told, and `trust --install` makes another one


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things are valid, and how long before their end something follows them."""

    authority: timedelta = LIFETIME
    followed: timedelta = FOLLOWED
    leaf: timedelta = timedelta(days=7)
    renewed: timedelta = timedelta(days=3)


LIFETIMES = Lifetimes()


def permitted() -> "Permitted":
    """Return what this authority may sign for: this machine, by names that mean no other (RFC 6761 §6.3)."""
    from authproxy.net.authority import Permitted

    return Permitted(("localhost",), (ip_network("127.0.0.0/8"), ip_network("::1/128")))


def default_directory() -> Path:
    """Return where the user's authority is kept. Raises `StoreError`."""
    directory = state_directory()
    if directory is None:
        raise StoreError(f"the {OF} has no place to be kept: {NO_HOME}", hint=f"set HOME; or {HINT}")
    return directory / "authority"


def public_file() -> Path | None:
    """Return the file with the root's certificate; None where there is no authority yet."""
    try:
        path = default_directory() / "ca.pem"
    except StoreError:
        return None
    return path if path.is_file() else None


class LocalAuthority:
    """The authority that is kept in `directory`; `clock` is in epoch seconds.

    Nothing is touched before the first use.
    """

    def __init__(
        self,
        directory: Path,
        *,
        lifetimes: Lifetimes = LIFETIMES,
        keyring: Callable[[], Keyring | None] = installed_keyring,
        clock: Clock = time.time,
    ) -> None:
        self.directory = directory
        self.public = directory / "ca.pem"
        self.lifetimes = lifetimes
        self._former = directory / "former.pem"
        self._sealed = directory / "authority.pem"
        self._key = directory / "authority.key"
        self._keyring = keyring
        self._clock = clock
        self._secret: tuple[tuple[int, int], bytes] | None = None  # with what tells its file from another one
        self._read: tuple[Stamp, Authority] | None = None

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def find(self) -> "Authority | None":
        """Return the authority as it is kept now; None where there is none, or none that can be read."""
        with _told():
            stamp = stamp_of(self._sealed)
            if self._read is None or self._read[0] != stamp:
                found = self._unsealed()
                self._read = (stamp, found) if found is not None else None
            if self._read is None:
                return None
            return self._read[1]

    def get(self, *, lasts: timedelta | None = None) -> "Authority":
        """Return the authority; make one where there is none, or none that `lasts` for so long."""
        least = lasts if lasts is not None else self.lifetimes.followed
        with _told():
            disk.check_parent(self.directory)
            disk.make_directory(self.directory)
            found = self.find()
            if found is not None and self.left(found) >= least and self._is_public(found):
                return found
            if not FILE_LOCKS:
                raise StoreError(f"the {OF} cannot be kept: {FILE_LOCKS.lack}", hint=HINT)
            with disk.exclusive(self.directory / "lock", seconds=LOCK_SECONDS):
                found = self.find()  # another process may have made it meanwhile
                if found is None or self.left(found) < least:
                    found = self._make(found)
                elif not self._is_public(found):  # its maker was killed in between
                    disk.replace_private(self.public, found.root_pem)
                return found

    def check(self) -> None:
        """See whether there is an authority, or could be one; nothing is made. Raises `StoreError`."""
        with _told():
            if not os.path.lexists(self._sealed):
                disk.try_directory(self.directory)

    def left(self, authority: "Authority") -> timedelta:
        """Return how long `authority` is still valid; nothing for one that is not yet, by our clock."""
        now = self.now()
        if authority.issuer.not_valid_before_utc > now:
            return timedelta()
        return authority.issuer.not_valid_after_utc - now

    def roots(self) -> "list[x509.Certificate]":
        """Return the certificates that clients may have been told to trust, the one at work first."""
        from cryptography import x509

        found: list[x509.Certificate] = []
        for path in (self.public, self._former):
            with contextlib.suppress(ValueError):
                found += x509.load_pem_x509_certificates(disk.read_own(path) or b"")
        return list(dict.fromkeys(found))

    def _unsealed(self) -> "Authority | None":
        from authproxy.net.authority import unsealed

        content = disk.read_private(self._sealed)
        seen = disk.identity(self._key)
        if content is None or seen is None:
            return None
        if self._secret is None or self._secret[0] != seen:
            self._secret = seen, find_secret(self._key, self._keyring, of=OF)
        try:
            return unsealed(content, self._secret[1].hex().encode())
        except (ValueError, TypeError):
            return None

    def _make(self, before: "Authority | None") -> "Authority":
        from authproxy.net.authority import make_authority

        if before is None and self._sealed.exists():
            aside = self._sealed.with_name(self._sealed.name + ".garbage")
            disk.move_private(self._sealed, aside)
            logs.warning(f"{OF} unreadable", file=str(self._sealed), moved_to=str(aside))
        secret = find_secret(self._key, self._keyring, of=OF)
        made = make_authority(NAME, permitted(), lifetime=self.lifetimes.authority, now=self.now())
        followed = (disk.read_own(self.public) or b"") + (disk.read_own(self._former) or b"")
        if followed:
            disk.replace_private(self._former, followed)
        disk.replace_private(self._sealed, made.sealed(secret.hex().encode()))
        disk.replace_private(self.public, made.root_pem)
        self._read = (stamp_of(self._sealed), made)
        end = rfc3339(made.root.not_valid_after_utc.timestamp())
        facts = {"file": str(self.public), "sha256": made.fingerprint, "until": end, "hint": TRUST_IT}
        if followed:
            logs.warning(f"another {OF} was made: clients refuse it until they trust it as well", **facts)
        else:
            logs.info(f"a {OF} was made: clients have to trust it, once", **facts)
        return made

    def _is_public(self, authority: "Authority") -> bool:
        """Tell whether clients find its certificate where they look for it."""
        return disk.read_own(self.public) == authority.root_pem


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say of what the system refuses what can be done about it here."""
    try:
        yield
    except StoreError as error:
        by_the_system = isinstance(error.__cause__, OSError)
        if error.hint is not None and not by_the_system:
            raise
        raise StoreError(f"the {OF}: {error.detail}", hint=HINT) from error
