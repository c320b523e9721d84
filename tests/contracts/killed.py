"""Kills a process that renews, at random moments, over and over: `python -m tests.contracts.killed JSON`.

After each kill the store is read by another process, which says what refresh token it found; a line on stdin
lets the next round begin. Processes are forked from here, where all is imported and no thread runs: that is
done in a millisecond.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time

from authproxy.tokens.stores.cipher import Cipher
from tests.contracts.worker import KEY, open_store, work


def forked(run) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child


def main() -> None:
    settings = json.loads(sys.argv[1])

    open_store(settings["store"])  # imports what it needs; and the passphrase is stretched once for all
    Cipher.from_passphrase(settings["store"]["key"])

    def renew() -> None:
        asyncio.run(work(settings["port"], open_store(settings["store"]), 0))

    async def read() -> None:
        token = await open_store(settings["store"]).load(KEY)
        print(token.refresh_token if token else "nothing")

    for _ in range(settings["kills"]):
        child = forked(renew)
        time.sleep(random.uniform(0.002, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        _, status = os.waitpid(forked(lambda: asyncio.run(read())), 0)
        if status != 0:
            sys.exit("the store cannot be read")
        sys.stdin.readline()


if __name__ == "__main__":
    main()
