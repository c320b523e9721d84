"""What a process has open, by /proc."""

from collections.abc import Iterator
from pathlib import Path


def opened(pid: int | str) -> Iterator[str]:
    """Yield what each descriptor of a process leads to, such as `socket:[12345]`.

    One that is closed while they are looked through, as that with which we list them, is left out.
    """
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            yield str(each.readlink())
        except FileNotFoundError:
            continue
