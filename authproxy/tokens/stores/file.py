"""Keeps tokens in one file of the user's, for all processes of the machine.

    tokens          {"format": …, "version": 1, "entries": {NAME: {"sealed": …, "saved": …, "by": …}}}
    tokens.key      the key, or where in the keyring it is, unless the configuration names one
    tokens.locks/   `all`, held for the moment of a write; NAME, held for a whole renewal
    tokens.garbage  what was found in the file's place and was no store

All of it is 0600. Each entry is sealed by itself, so a damaged one costs no other. A reader takes no lock:
the file is replaced whole. Lock files stay: removing one would let two processes lock two files of a name.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from authproxy import logs
from authproxy.capabilities import FILE_LOCKS
from authproxy.errors import StoreBusy, StoreError
from authproxy.places import NO_HOME, state_directory
from authproxy.tokens.rejection import Rejection
from authproxy.tokens.source import Clock
from authproxy.tokens.stores import LOCK_SECONDS, disk
from authproxy.tokens.stores.cipher import Cipher, Unreadable
from authproxy.tokens.stores.keys import Keyring, find_secret, installed_keyring
from authproxy.tokens.token import Token

FORMAT = "authproxy tokens"
VERSION = 1
MAX_ENTRIES = 5000  # the one saved longest ago goes first: its credential is no longer in the configuration
WRITE_SECONDS = 10.0  # how long a write waits for others' writes, of milliseconds each
FIRST_POLL = 0.005  # seconds between two tries for a lock, doubled up to…
MAX_POLL = 0.1

T = TypeVar("T")
Entries = dict[str, dict[str, Any]]


def default_path() -> Path:
    """Return where a user's tokens are kept when the configuration does not say. Raises `StoreError`."""
    directory = state_directory()
    if directory is None:
        raise StoreError(
            f"tokens cannot be stored: {NO_HOME}",
            hint="set HOME or XDG_STATE_HOME, or name the file: token_store: {type: file, path: …}",
        )
    return directory / "tokens"


def rejections_path() -> Path | None:
    """Return where it is remembered which credentials were rejected, while tokens are kept in memory.

    None when the user has no such place, or there are no locks for it.
    """
    directory = state_directory() if FILE_LOCKS else None
    return directory / "rejections" if directory is not None else None


class FileStore:
    """The tokens in the file `path`, sealed with the passphrase `key`; without one a key is made and kept.

    `lock_seconds` is how long `lock` waits. Nothing is touched before the first use.
    """

    def __init__(
        self,
        path: Path,
        key: str | None = None,
        *,
        keyring: Callable[[], Keyring | None] = installed_keyring,
        lock_seconds: float = LOCK_SECONDS,
        clock: Clock = time.time,
    ) -> None:
        if not FILE_LOCKS:
            raise StoreError(
                f"tokens cannot be kept in a file: {FILE_LOCKS.lack}",
                hint="keep them in Redis, or in memory: token_store: {type: memory}",
            )
        self._path = path
        self._passphrase = key
        self._keyring = keyring
        self._lock_seconds = lock_seconds
        self._clock = clock
        self._locks = path.with_name(path.name + ".locks")
        self._key_file = path.with_name(path.name + ".key")
        self._opening = threading.Lock()
        self._cipher: Cipher | None = None
        self._key_seen: tuple[int, int] | None = None
        self._reported: set[str] = set()  # what was warned of already

    async def load(self, key: str) -> Token | None:
        return await _in_thread(lambda: self._load(key, Cipher.unseal))

    async def load_rejection(self, key: str) -> Rejection | None:
        return await _in_thread(lambda: self._load(key, Cipher.unseal_rejection))

    async def save_rejection(self, key: str, rejection: Rejection) -> None:
        await _in_thread(lambda: self._save(key, rejection))

    async def mark(self, text: str) -> str:
        return (await _in_thread(self._open)).name(text)

    async def save(self, key: str, token: Token) -> None:
        await _in_thread(lambda: self._save(key, token))

    async def forget(self, key: str) -> None:
        await _in_thread(lambda: self._forget(key))

    @contextlib.asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._lock_seconds
        name = (await _in_thread(self._open)).name(key)
        handle = disk.open_lock(self._locks / name)
        try:
            poll = FIRST_POLL
            while not disk.take_lock(handle):
                if loop.time() > deadline:
                    raise StoreBusy(
                        f"another process has been renewing this token for {self._lock_seconds:.0f} s"
                    )
                await asyncio.sleep(poll * random.uniform(0.5, 1))  # noqa: S311 - so that nobody keeps step
                poll = min(poll * 2, MAX_POLL)
            yield
        finally:
            disk.drop_lock(handle)

    async def close(self) -> None:
        """Nothing is held open."""

    # ── in a thread ──────────────────────────────────────────────────────────────────────────────

    def _open(self) -> Cipher:
        """Return the cipher, having made what is missing: someone may clear it all away as we run."""
        with self._opening:
            disk.check_parent(self._path)
            disk.make_directory(self._locks)
            if self._passphrase is None:
                return self._found_cipher()
            if self._cipher is None:
                self._cipher = Cipher.from_passphrase(self._passphrase)
            return self._cipher

    def _found_cipher(self) -> Cipher:
        if self._cipher is None or self._key_seen != disk.identity(self._key_file):
            with self._exclusive():
                self._cipher = Cipher(find_secret(self._key_file, self._keyring))
                self._key_seen = disk.identity(self._key_file)
        return self._cipher

    def _exclusive(self) -> contextlib.AbstractContextManager[None]:
        return disk.exclusive(self._locks / "all", seconds=WRITE_SECONDS)

    def _load(self, key: str, unseal: Callable[[Cipher, str, bytes], T]) -> T | None:
        cipher = self._open()
        entries = self._entries()
        entry = entries.get(cipher.name(key))
        if entry is None:
            if entries and all(each.get("by") != cipher.mark for each in entries.values()):
                self._warn_once("token store sealed with another key", store=str(self._path))
            return None
        try:
            return unseal(cipher, key, base64.b64decode(entry["sealed"], validate=True))
        except (Unreadable, KeyError, TypeError, ValueError, binascii.Error):
            self._warn_once("stored token unreadable", store=str(self._path), entry=cipher.name(key)[:8])
            return None

    def _save(self, key: str, kept: Token | Rejection) -> None:
        cipher = self._open()
        entry = {
            "sealed": base64.b64encode(cipher.seal(key, kept)).decode(),
            "saved": self._clock(),
            "by": cipher.mark,
        }
        with self._exclusive():
            entries = self._entries_or_aside()
            entries[cipher.name(key)] = entry
            for name in sorted(entries, key=lambda each: _saved(entries[each]))[:-MAX_ENTRIES]:
                del entries[name]
            self._write(entries)

    def _forget(self, key: str) -> None:
        name = self._open().name(key)
        with self._exclusive():
            entries = self._entries_or_aside()
            if entries.pop(name, None) is not None:
                self._write(entries)

    def _write(self, entries: Entries) -> None:
        document = {"format": FORMAT, "version": VERSION, "entries": entries}
        disk.replace_private(self._path, json.dumps(document).encode() + b"\n")

    def _entries(self) -> Entries:
        entries = self._read()
        if entries is None:
            with self._exclusive():
                return self._entries_or_aside()
        return entries

    def _entries_or_aside(self) -> Entries:
        """Return the entries; what is no store is moved out of the way. Needs `_exclusive`."""
        entries = self._read()
        if entries is None:
            aside = self._path.with_name(self._path.name + ".garbage")
            disk.move_private(self._path, aside)
            logs.warning("token store unreadable", store=str(self._path), moved_to=str(aside))
            return {}
        return entries

    def _read(self) -> Entries | None:
        """Return the entries, or None when the file holds something else. Raises `StoreError`."""
        content = disk.read_private(self._path)
        if content is None:
            return {}
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            return None
        if document.get("version") != VERSION:
            raise StoreError(f"{self._path} was written by another version of authproxy")
        entries = document.get("entries")
        if not isinstance(entries, dict):
            return None
        return {name: entry for name, entry in entries.items() if isinstance(entry, dict)}

    def _warn_once(self, event: str, **facts: object) -> None:
        told = f"{event} {facts}"
        if told not in self._reported:
            self._reported.add(told)
            logs.warning(event, **facts)

    def __repr__(self) -> str:
        return f"<FileStore {self._path}>"


def _saved(entry: dict[str, Any]) -> float:
    saved = entry.get("saved")
    return saved if isinstance(saved, int | float) else 0.0


async def _in_thread(work: Callable[[], T]) -> T:
    """Do `work` in a thread; whoever is cancelled meanwhile goes only when it is done.

    Else a lock could be let go while what it guards is still being written.
    """
    under_way = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(under_way)
    except asyncio.CancelledError:
        await asyncio.wait([under_way])
        raise
