"""Reading a credential's files and commands again, once its token was refused."""

import asyncio
import threading
from math import inf
from time import monotonic

from authproxy import logs
from authproxy.config import checks
from authproxy.config.auth import read_auth
from authproxy.config.document import Item, scalars
from authproxy.config.references import RENEWABLE, References
from authproxy.config.route import RouteKeys
from authproxy.config.validation import Validation
from authproxy.errors import Fault
from authproxy.grants.grant import Grant
from authproxy.grants.source import Reread

COMMAND_SECONDS = 5.0  # a `${command:}` is not run again within so many seconds, whoever asks


def reread_of(keys: RouteKeys, item: Item, references: References) -> Reread | None:
    """Return what reads the `auth` of `item` again, the route of `keys`; None when nothing can change."""
    auth = item.value["auth"]
    if not any(scalar.sources & RENEWABLE for scalar in scalars(auth)):
        return None
    return _Rereading(keys, item, auth, references).reread


class _Rereading:
    """One credential, read again and again; what the environment and the keyring said stays.

    It can be pickled: after a reload, whoever takes the broker's place has it from another process.
    """

    def __init__(self, keys: RouteKeys, item: Item, auth: Item, references: References) -> None:
        self._keys = keys
        self._item = item
        self._auth = auth
        self._references = references
        self._ran_at = -inf
        self._one_at_a_time = threading.Lock()
        self._told: list[Fault] = []

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_one_at_a_time"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _one_at_a_time=threading.Lock())

    async def reread(self) -> Grant | None:
        """Return what `grant` does, without holding up the loop."""
        return await asyncio.to_thread(self.grant)

    def grant(self) -> Grant | None:
        """Return the grant as it is now; None when it cannot be made, which is logged."""
        with self._one_at_a_time:
            now = monotonic()
            kinds = RENEWABLE
            if now - self._ran_at < COMMAND_SECONDS:
                kinds -= {"command"}
            else:
                self._ran_at = now
            self._references = self._references.again(kinds)
            grant, faults = self._read()
            if faults and faults != self._told:  # it is read again and again while it will not do
                self._told = faults
                self._tell()
            return None if faults else grant

    def _read(self) -> tuple[Grant | None, list[Fault]]:
        validation = Validation(self._references.directory)
        faults = validation.faults
        fresh = self._references.resolved(self._auth, faults)
        found = read_auth(fresh, self._keys.upstream, validation) if not faults else None
        if found is None:
            return None, faults
        faults += checks.credential_faults(self._keys, found.grant, self._item, found.item)
        return found.grant, faults

    def _tell(self) -> None:
        for fault in self._told:
            logs.warning(
                "a credential that was read again cannot be used; the old one is kept",
                route=self._keys.name,
                cause=f"{fault.key} {fault.message}",
            )
