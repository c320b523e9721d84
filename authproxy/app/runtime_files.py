"""Files for other programs of the user's, for as long as this process lives, in a directory of its own.

    XDG_RUNTIME_DIR, or TMPDIR /
        authproxy-forward-XXXXXXXX/   0700, locked while we live
            ca.pem, bundle.pem …      0600, each replaced whole

They are there while one process, the keeper, lives: in what it forks nothing is written and nothing removed.
Whose keeper was killed, the next one to begin removes: what nobody has locked any more, and nobody but us can
have made.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from authproxy import logs
from authproxy.capabilities import FILE_OWNERS, O_DIRECTORY, O_NOFOLLOW, is_ours, lock_file
from authproxy.errors import StoreError
from authproxy.tokens.stores import disk

PREFIX = "authproxy-forward-"
LOCK = "lock"  # where a directory cannot be locked itself
STAGED = ".staged"
HINT = "set XDG_RUNTIME_DIR or TMPDIR to a directory of your own that can be written to"

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class RuntimeFiles:
    """The files of the process that makes this, its keeper; nothing is touched before the first `stage`."""

    def __init__(self) -> None:
        self._keeper = os.getpid()
        self._directory: Path | None = None
        self._lock: int | None = None
        self._staged: list[str] = []
        self._trouble: StoreError | None = None

    def __repr__(self) -> str:
        return f"<RuntimeFiles {self._directory}>"

    @property
    def is_kept_here(self) -> bool:
        """Whether this process is the keeper, rather than one that it has forked."""
        return os.getpid() == self._keeper

    @property
    def are_there(self) -> bool:
        """Whether there is a directory for them."""
        return self._directory is not None

    def path(self, name: str) -> Path:
        """Return where the file `name` is. Raises `StoreError` before anything was staged."""
        if self._directory is None:
            raise self._trouble or StoreError(f"there is no {name} yet")
        return self._directory / name

    def stage(self, contents: Mapping[str, bytes]) -> None:
        """Write files for `publish` to put in their places; what is there already stays.

        Raises `StoreError`, and then writes none.
        """
        if not self.is_kept_here:
            return
        self.abandon()
        is_new = self._directory is None
        try:
            with _told():
                self._begin()
                for name, content in contents.items():
                    if disk.read_private(self.path(name)) != content:
                        disk.replace_private(self.path(name + STAGED), content)
                        self._staged.append(name)
        except StoreError as error:
            self.close() if is_new else self.abandon()
            self._trouble = error
            raise

    def publish(self) -> dict[str, bool]:
        """Put what is staged in its place; return for each name whether there was one.

        Raises `StoreError`.
        """
        published = {}
        while self.is_kept_here and self._staged:
            name = self._staged.pop()
            published[name] = self.path(name).exists()
            with _told():
                disk.move_private(self.path(name + STAGED), self.path(name))
        return published

    def abandon(self) -> None:
        """Remove what is staged."""
        while self.is_kept_here and self._staged:
            self.path(self._staged.pop() + STAGED).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove everything."""
        if not self.is_kept_here or self._directory is None:
            return
        directory, self._directory, self._staged = self._directory, None, []
        if self._lock is not None:
            disk.drop_lock(self._lock)
            self._lock = None
        _remove(directory)

    def _begin(self) -> None:
        if self._directory is not None and self._directory.is_dir():
            return
        if self._lock is not None:  # of a directory that somebody has removed
            disk.drop_lock(self._lock)
            self._lock = None
        base = base_directory()
        disk.check_parent(base / PREFIX)
        for left in _leftovers(base):
            _remove(left)
            logs.info("removed what a process that was killed has left", directory=str(left))
        try:
            self._directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        except OSError as error:
            raise StoreError(f"{base}: {error.strerror}") from error
        self._lock = _locked(self._directory)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say of what cannot be written what it was for, and what can be done about it."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"the files for clients of the forward proxy: {error.detail}", hint=HINT) from error


def base_directory() -> Path:
    """Return the user's directory that ends with the login, if it is there and private; else TMPDIR.

    Raises `StoreError`.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute():
        with contextlib.suppress(OSError):
            if _is_private(runtime.stat()) and os.access(runtime, os.W_OK | os.X_OK):
                return runtime
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise StoreError("there is no directory for temporary files that can be written to") from error


def _is_private(status: os.stat_result) -> bool:
    """Tell whether it is a directory that is ours alone."""
    if not stat.S_ISDIR(status.st_mode) or not is_ours(status):
        return False
    return not FILE_OWNERS or not status.st_mode & _OTHERS


def _leftovers(base: Path) -> Iterator[Path]:
    """Yield the directories of ours in `base` whose keepers are gone.

    Who begins locks a directory before there is a file in it: an empty one may be of somebody who begins now.
    """
    for path in sorted(base.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            is_begun = _is_private(path.lstat()) and any(each.name != LOCK for each in path.iterdir())
            if is_begun and (handle := _locked(path)) is not None:
                disk.drop_lock(handle)
                yield path


def _locked(directory: Path) -> int | None:
    """Return the descriptor by which `directory` is locked now; None if another one has it, or none can.

    On Linux that keeps those away, too, who tidy up temporary files (tmpfiles.d(5)).
    """
    handle = None
    try:
        if O_DIRECTORY is not None:
            handle = os.open(directory, os.O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        else:
            handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, disk.FILE_MODE)
        lock_file(handle)
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle


def _remove(directory: Path) -> None:
    """Remove `directory`, and what is in it; no link is followed."""
    shutil.rmtree(directory, ignore_errors=True)
