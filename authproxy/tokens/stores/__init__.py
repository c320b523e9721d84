"""Where tokens live on: after a restart, and between processes.

    TokenStore ─┬─ FileStore    one encrypted file of the user's         (stores/file.py)
                └─ RedisStore   encrypted entries, shared by replicas    (stores/redis.py)

A store keeps tokens and one lock a credential, and decides nothing: `SharedSource` does. Whatever goes
into one is sealed first (`stores/cipher.py`), under a name that tells nothing of the credential either.
"""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from authproxy.tokens.rejection import RejectionStore
from authproxy.tokens.token import Token

LOCK_SECONDS = 45.0  # how long one waits for a lock: more than the token request of whoever holds it may take


class TokenStore(RejectionStore, Protocol):
    """A place for tokens, and for what was rejected, by the key of their credential.

    Every method raises `StoreError` when the store cannot be used.
    """

    async def load(self, key: str) -> Token | None:
        """Return the token kept for `key`, or None; what cannot be read as one is as good as none."""
        ...

    async def save(self, key: str, token: Token) -> None:
        """Keep `token` for `key`. When this returns, everyone sees it and no crash of ours loses it."""
        ...

    async def forget(self, key: str) -> None:
        """Keep nothing for `key` any longer."""
        ...

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Return what keeps every other process from renewing the token of `key` meanwhile.

        Entering raises `StoreBusy` when somebody else holds it for too long. Leaving never raises
        `StoreError`: what was done inside is done. A holder that dies has let go.
        """
        ...

    async def close(self) -> None:
        """Let go of connections; the store is not used after this."""
        ...
