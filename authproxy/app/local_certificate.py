"""The certificate that listeners show with `tls: auto`: made of the user's authority, and always a valid one.

It is renewed on the `SSLContext` itself: handshakes that begin from then on get the new one, and connections
that there are go on.
"""

import asyncio
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from authproxy import logs
from authproxy.app.listeners import configured_addresses
from authproxy.app.local_authority import ENDS_SOON, OF, TRUST_IT, LocalAuthority, permitted
from authproxy.capabilities import passed_as_file
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError
from authproxy.net.key_pair import UNUSABLE
from authproxy.net.tls import told_of, without_certificate
from authproxy.times import rfc3339
from authproxy.values import split_address

if TYPE_CHECKING:
    from authproxy.net.authority import Authority

ALWAYS = ("localhost", "127.0.0.1", "::1")
MAX_NAMES = 1000  # a certificate is part of each handshake, and clients take some 100 KB
LOOK_SECONDS = 60.0  # between two looks whether it is time
TELL_AGAIN = timedelta(days=1)


class LocalCertificate:
    """A certificate for `names` on `context`, signed by the authority that is `kept`.

    Raises `StoreError`, and one of `UNUSABLE`.
    """

    def __init__(self, kept: LocalAuthority, names: tuple[str, ...]) -> None:
        self.kept = kept
        self.names = names
        self.context = told_of(without_certificate())
        self.authority = kept.get()
        self._told: datetime | None = None
        self._show(self.authority)

    @property
    def is_due(self) -> bool:
        """Whether it is time for another one."""
        return self._not_after - self.kept.now() < self.kept.lifetimes.renewed

    @property
    def _until(self) -> str | None:
        return rfc3339(self._not_after.timestamp())

    async def look(self) -> None:
        """Show another certificate if it is time, or if the authority is another one now.

        Raises nothing: while there is none to be had the one that there is goes on.
        """
        try:
            authority = await asyncio.to_thread(self.kept.get)
            if authority.root != self.authority.root or self.is_due:
                self._show(authority)  # in here, where handshakes begin: never in the midst of one
                logs.info("local certificate renewed", until=self._until)
        except (AuthproxyError, *UNUSABLE) as error:
            cause = error.detail if isinstance(error, AuthproxyError) else type(error).__name__
            logs.warning("the local certificate cannot be renewed", cause=cause, until=self._until)

    def tell_of_its_end(self) -> None:
        """Warn, once a day, when the authority will soon be followed by one that nobody trusts yet."""
        now, left = self.kept.now(), self.kept.left(self.authority)
        if left < min(ENDS_SOON, self.kept.lifetimes.authority / 2) and (
            self._told is None or now - self._told >= TELL_AGAIN
        ):
            self._told = now
            end = self.authority.issuer.not_valid_after_utc - self.kept.lifetimes.followed
            logs.warning(
                f"the {OF} will soon be followed by another one", at=rfc3339(end.timestamp()), hint=TRUST_IT
            )

    def _show(self, authority: "Authority") -> None:
        leaf = authority.leaf(
            self.names,
            lifetime=self.kept.lifetimes.leaf,
            now=self.kept.now(),
            passphrase=secrets.token_hex().encode(),  # the key must not lie anywhere in the clear
        )
        with passed_as_file(leaf.chain + leaf.key) as file:
            self.context.load_cert_chain(file, password=leaf.passphrase)
        self.authority, self._not_after = authority, leaf.not_after


def certified_names(config: Config) -> tuple[str, ...]:
    """Return what clients may call this machine, as far as the authority may sign for it."""
    hosts = [place[0] for each in configured_addresses(config) if (place := split_address(each)) is not None]
    hosts += [route.host for route in config.routes if route.host] + list(config.allowed_hosts)
    covers = permitted().covers
    plain = (each.strip("[]").rstrip(".").partition("%")[0].lower() for each in hosts)
    return tuple(dict.fromkeys([*ALWAYS, *filter(covers, plain)]))[:MAX_NAMES]
