"""Notices that a configuration's files have changed: `run --watch`.

A file counts as changed once it has stayed the same for a moment, so that one that is being written is not
read half. The files are looked at, by name: an editor replaces a file by another one, Kubernetes swaps a link
on the way to it, and what is mounted from elsewhere tells nobody of changes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from authproxy.places import Stamp, stamp_of

LOOK_SECONDS = 0.5  # between looks at the files


async def watch(
    files: Callable[[], Mapping[Path, Stamp]],
    changed: Callable[[], Awaitable[object]],
    *,
    seconds: float = LOOK_SECONDS,
) -> None:
    """Await `changed` each time that one of `files` is not any more as it was read, for ever.

    A mapping that `files` returns stays as it is; another one is of another reading. `seconds` are between
    two looks.
    """
    read = known = files()
    last = None
    while True:
        await asyncio.sleep(seconds)
        if files() is not read:
            read = known = files()
        now = await asyncio.to_thread(_look, list(known))
        if now == last and now != known:
            known = now  # whatever comes of it, it is old then
            await changed()
        last = now


def _look(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Return in which state each file is; in a thread: a disk may be far away."""
    return {file: stamp_of(file) for file in files}
