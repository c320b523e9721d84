"""Files that are their owner's alone, replaced whole or not at all. Everything in here blocks.

    read_private      refuses a link, a file open to others, a file of somebody else's
    replace_private   writes beside it, flushes, renames, flushes the directory: a kill leaves old or new
    exclusive         one process at a time, by a lock that the kernel takes back from the dead

What is refused is refused by the open file itself, not by its name, which might mean another one by then.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from authproxy.capabilities import (
    FILE_OWNERS,
    O_BINARY,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_NONBLOCK,
    is_ours,
    lock_file,
    replace_file,
    unlock_file,
)
from authproxy.errors import StoreBusy, StoreError

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
MAX_BYTES = 64 << 20  # bytes; thousands of tokens fit
POLL = 0.005  # seconds

NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""What the system says of a place where we may not write."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_private(path: Path) -> bytes | None:
    """Return what is in `path`, or None when there is no such file.

    Raises `StoreError` when it cannot be read, or should not be: somebody else may have put it there, or may
    read it.
    """
    return _read(path, _OTHERS)


def read_own(path: Path) -> bytes | None:
    """Do the same with what everybody may read."""
    return _read(path, _OTHERS_WRITE)


def _read(path: Path, refused: int) -> bytes | None:
    try:
        # Without blocking: opening a pipe that nobody writes to would wait for ever.
        handle = _open(path, os.O_RDONLY | O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _trouble(path, error) from error
    try:
        _refuse_foreign(path, os.fstat(handle), refused)
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _trouble(path, error) from error
    finally:
        os.close(handle)
    if len(content) > MAX_BYTES:
        raise StoreError(f"{path} is larger than {MAX_BYTES >> 20} MiB", hint="it is not ours; move it away")
    return content


def replace_private(path: Path, content: bytes) -> None:
    """Put `content` into `path` so that a reader, or a crash, finds all of it or what was there before.

    Must not be called by two at a time (see `exclusive`). Raises `StoreError`.
    """
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)  # of one who was killed while writing
        handle = _open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        replace_file(new, path)
        _flush_directory(path.parent)
    except OSError as error:
        raise _trouble(path, error) from error


def move_private(path: Path, target: Path) -> None:
    """Rename `path`. Raises `StoreError`."""
    try:
        replace_file(path, target)
        _flush_directory(path.parent)
    except OSError as error:
        raise _trouble(path, error) from error


def make_directory(path: Path) -> None:
    """Make sure that `path` is a directory in which only its owner, we, can make files.

    Raises `StoreError`.
    """
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise _trouble(path, error) from error
    if not stat.S_ISDIR(status.st_mode) or not is_ours(status) or _modes(status) & _OTHERS_WRITE:
        raise StoreError(
            f"{path} is not a directory of our own", hint=f"move it away, or: chmod 700 {path.name}"
        )


def try_directory(path: Path) -> None:
    """See whether files could be made in the directory `path`, or in one made there; nothing stays.

    Raises `StoreError`.
    """
    there = next(each for each in (path, *path.parents) if os.path.lexists(each))
    tried = there / f".authproxy-{os.urandom(8).hex()}"
    try:
        tried.mkdir(mode=DIRECTORY_MODE)
        tried.rmdir()
    except OSError as error:
        raise _trouble(path, error) from error


def check_parent(path: Path) -> None:
    """Refuse a place where anyone may swap our files; a sticky directory such as /tmp keeps them ours.

    Raises `StoreError`.
    """
    try:
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        mode = _modes(path.parent.stat())
    except OSError as error:
        raise _trouble(path.parent, error) from error
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise StoreError(f"anyone may replace files in {path.parent}", hint=f"chmod o-w {path.parent}")


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells the file now at `path` from any other that may be put there; None without one."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def open_lock(path: Path) -> int:
    """Return a descriptor of the lock file `path`, for `take_lock`. Raises `StoreError`."""
    try:
        handle = _open(path, os.O_RDWR | os.O_CREAT | O_NONBLOCK)
    except OSError as error:
        raise _trouble(path, error) from error
    try:
        _refuse_foreign(path, os.fstat(handle), _OTHERS)
    except BaseException:
        os.close(handle)
        raise
    return handle


def take_lock(handle: int) -> bool:
    """Take the lock if nobody holds it, without waiting; tell whether we have it. Raises `StoreError`."""
    try:
        lock_file(handle)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(f"files cannot be locked there: {os.strerror(error.errno or 0)}") from error
    return True


def drop_lock(handle: int) -> None:
    """Let go of the lock and close its descriptor."""
    # A child that was forked meanwhile holds the descriptor too, so closing ours would not do.
    with contextlib.suppress(OSError):
        unlock_file(handle)
    os.close(handle)


@contextlib.contextmanager
def exclusive(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock file `path`; wait for it for up to `seconds`. Raises `StoreBusy` and `StoreError`."""
    deadline = time.monotonic() + seconds
    handle = open_lock(path)
    try:
        while not take_lock(handle):
            if time.monotonic() > deadline:
                raise StoreBusy(f"another process has held {path} for {seconds:.0f} s")
            time.sleep(POLL)
        yield
    finally:
        drop_lock(handle)


def _open(path: Path, flags: int) -> int:
    """Open a file that is not a link. Raises OSError."""
    if not O_NOFOLLOW and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os.open(path, flags | O_NOFOLLOW | O_BINARY, FILE_MODE)


def _modes(status: os.stat_result) -> int:
    """Return what the owner and others may do with a file; no more than the owner, where there are none."""
    return status.st_mode if FILE_OWNERS else status.st_mode & ~_OTHERS


def _refuse_foreign(path: Path, status: os.stat_result, refused: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is not a regular file", hint="move it away, or name another one")
    if not is_ours(status):
        raise StoreError(f"{path} belongs to another user", hint="run as that user, or name another file")
    if _modes(status) & refused:
        raise StoreError(f"{path} is open to others", hint=f"chmod 600 {path}")


def _flush_directory(path: Path) -> None:
    if O_DIRECTORY is None:
        return
    handle = os.open(path, os.O_RDONLY | O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(handle)


def _trouble(path: Path, error: OSError) -> StoreError:
    if error.errno == errno.ELOOP:
        return StoreError(f"{path} is a symbolic link", hint="name the file itself")
    hint = "name another file: token_store: {type: file, path: …}" if error.errno in NOT_OURS else None
    return StoreError(f"{path}: {os.strerror(error.errno or 0)}", hint=hint)
