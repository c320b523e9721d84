"""Where the key of a file of ours comes from when no configuration names one: the file store's, for one.

    STORE.key holds    a key            that is it
                       keyring NAME     it is in the keyring under NAME, and nowhere else
    no such file       a new key, put into the keyring if there is one that works, else into the file

So a store whose key is in the keyring is never given another one by a process that cannot reach it.
Everything in here blocks; a keyring may even ask its user to unlock it, so it is given a time limit.
"""

import base64
import binascii
import os
import queue
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from authproxy import logs
from authproxy.errors import StoreError
from authproxy.tokens.stores.cipher import SECRET_BYTES
from authproxy.tokens.stores.disk import move_private, read_private, replace_private

SERVICE = "authproxy"
TOKEN_STORE = "token store"  # noqa: S105 - what is locked with a key, in words
KEYRING_SECONDS = 10.0
LEAST_PRIORITY = 1  # keyring's own line between backends that keep secrets and those that only look so

_IN_KEYRING = "keyring "

T = TypeVar("T")


class Keyring(Protocol):
    """What is asked of the `keyring` package, or of one of its backends."""

    def get_password(self, service: str, username: str, /) -> str | None: ...

    def set_password(self, service: str, username: str, password: str, /) -> None: ...


def installed_keyring() -> Keyring | None:
    """Return the user's keyring; None when there is none that can be trusted with a key."""
    try:
        import keyring  # noqa: PLC0415 - an extra

        backend = keyring.get_keyring()
        trusted = backend.priority >= LEAST_PRIORITY
    except Exception:  # noqa: BLE001 - not installed, or an error of a backend's own
        return None
    return backend if trusted else None


def find_secret(path: Path, keyring: Callable[[], Keyring | None], *, of: str = TOKEN_STORE) -> bytes:
    """Return the key that the file `path` holds or points to; make one if there is none.

    It is the key `of` that, in words. To be called by one process at a time. Raises `StoreError`.
    """
    content = read_private(path)
    if content is None:
        return _new_secret(path, keyring, of)
    text = content.decode("ascii", "replace").strip()
    if text.startswith(_IN_KEYRING):
        return _kept_secret(path, text.removeprefix(_IN_KEYRING), keyring, of)
    secret = _decoded(text)
    if secret is None:
        aside = path.with_name(path.name + ".garbage")
        move_private(path, aside)
        logs.warning(f"{of} key unreadable", file=str(path), moved_to=str(aside))
        return _new_secret(path, keyring, of)
    return secret


def _new_secret(path: Path, keyring: Callable[[], Keyring | None], of: str) -> bytes:
    secret = os.urandom(SECRET_BYTES)
    text, name = base64.b64encode(secret).decode(), f"{of} {secrets.token_hex(8)}"

    def keep() -> bool:
        backend = keyring()
        if backend is None:
            return False
        backend.set_password(SERVICE, name, text)
        return backend.get_password(SERVICE, name) == text

    kept = _in_time(keep)
    replace_private(path, f"{_IN_KEYRING + name if kept else text}\n".encode())
    return secret


def _kept_secret(path: Path, name: str, keyring: Callable[[], Keyring | None], of: str) -> bytes:
    def fetch() -> str | None:
        backend = keyring()
        return backend.get_password(SERVICE, name) if backend is not None else None

    secret = _decoded(_in_time(fetch) or "")
    if secret is None:
        raise StoreError(
            f"the {of}'s key is in the keyring, which did not return it",
            hint=f"unlock the keyring; or remove {path} to start over with a new key"
            f"{' and no tokens' if of == TOKEN_STORE else ''}",
        )
    return secret


def _in_time(ask: Callable[[], T | None]) -> T | None:
    """Return what `ask` returns; None when it fails or takes longer than `KEYRING_SECONDS`."""
    answers: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except Exception:  # noqa: BLE001 - each backend has errors of its own
            answers.put(None)

    # A thread that does not keep the process from ending, however long a keyring waits for its user.
    threading.Thread(target=run, name="keyring", daemon=True).start()
    try:
        return answers.get(timeout=KEYRING_SECONDS)
    except queue.Empty:
        return None


def _decoded(text: str) -> bytes | None:
    try:
        secret = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return secret if len(secret) == SECRET_BYTES else None
