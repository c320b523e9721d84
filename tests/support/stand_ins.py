"""The demo's stand-ins, served beside tests that block.

with serving_stand_ins() as demo:
    demo.config()["routes"]
    demo.revoke("up42")
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

from authproxy.demo import Demo, stand_ins
from tests.support.launch import GUARD


@contextmanager
def serving_stand_ins() -> Iterator[Demo]:
    """Serve every stand-in, in a thread with a loop of its own, until the end of the block.

    What a `Demo` does is quick, and waits for nothing: the thread of the test may call it.
    """
    served: Queue[tuple[Demo, asyncio.AbstractEventLoop, asyncio.Event]] = Queue()

    async def serve() -> None:
        done = asyncio.Event()
        async with stand_ins() as demo:
            served.put((demo, asyncio.get_running_loop(), done))
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    demo, loop, done = served.get(timeout=GUARD)
    try:
        yield demo
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(GUARD)
