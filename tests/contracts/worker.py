"""One process of several that share a store: `python -m tests.contracts.worker JSON`.

It renews until it got `renewals` tokens (0: until it is killed), each instead of the one before; then it says
`done`.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from authproxy.tokens.backoff import BackoffSource
from authproxy.tokens.shared import SharedSource
from authproxy.tokens.stores import TokenStore
from authproxy.tokens.stores.file import FileStore
from authproxy.tokens.stores.redis import RedisStore
from tests.contracts.rotation import RotatingSource

KEY = "credential"


def open_store(options: dict[str, Any]) -> TokenStore:
    options = dict(options)
    if "url" in options:
        return RedisStore(options.pop("url"), options.pop("key"), **options)
    return FileStore(Path(options.pop("path")), options.pop("key"), **options)


async def work(port: int, store: TokenStore, renewals: int) -> None:
    source = SharedSource(BackoffSource(RotatingSource(port)), store, KEY, name="worker")
    token = None
    count = 0
    while not renewals or count < renewals:
        token = await source.token(instead_of=token)
        assert source.store_trouble is None, source.store_trouble
        count += 1
    await source.close()
    await store.close()


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    asyncio.run(work(settings["port"], open_store(settings["store"]), settings["renewals"]))
    print("done")
