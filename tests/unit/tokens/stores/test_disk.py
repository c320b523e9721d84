"""Files that are their owner's alone. The world is one directory."""

import errno
import os
import stat
from itertools import count

import pytest

from authproxy import capabilities
from authproxy.errors import StoreBusy, StoreError
from authproxy.tokens.stores import disk
from authproxy.tokens.stores.disk import (
    check_parent,
    drop_lock,
    exclusive,
    identity,
    make_directory,
    move_private,
    open_lock,
    read_private,
    replace_private,
    take_lock,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens"


@pytest.fixture
def private(path):
    """The file, ours alone."""
    path.write_bytes(b"content")
    path.chmod(0o600)
    return path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def fails(number):
    """Return a function that fails as the system does."""

    def fail(*_args, **_keys):
        raise OSError(number, "s3cr3t")

    return fail


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_a_private_file_is_read_and_none_is_none(private):
    assert read_private(private) == b"content"
    private.unlink()
    assert read_private(private) is None


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o610, 0o602, 0o777])
def test_a_file_that_is_open_to_others_in_any_way_is_refused(private, bits):
    private.chmod(bits)
    with pytest.raises(StoreError, match="is open to others") as caught:
        read_private(private)
    assert caught.value.hint == f"chmod 600 {private}"


def test_a_file_of_somebody_else_is_refused(private, monkeypatch):
    monkeypatch.setattr(disk.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StoreError, match="belongs to another user"):
        read_private(private)


def test_a_link_is_refused_wherever_it_leads(private, tmp_path):
    for target in (private, tmp_path / "nowhere"):
        link = tmp_path / f"link to {target.name}"
        link.symlink_to(target)
        with pytest.raises(StoreError, match="is a symbolic link") as caught:
            read_private(link)
        assert caught.value.hint == "name the file itself"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting_for_it(path, make):
    make(path, 0o600)
    with pytest.raises(StoreError, match="is not a regular file"):
        read_private(path)


def test_a_file_larger_than_a_store_can_be_is_refused(private, monkeypatch):
    monkeypatch.setattr(disk, "MAX_BYTES", len(b"content"))
    assert read_private(private) == b"content"
    private.write_bytes(b"content.")
    with pytest.raises(StoreError, match="is larger than"):
        read_private(private)


def test_every_refusal_closes_what_it_opened(private, monkeypatch):
    private.chmod(0o644)
    opened, system_open = [], os.open

    def noted(*args, **keys):
        opened.append(system_open(*args, **keys))
        return opened[-1]

    monkeypatch.setattr(disk.os, "open", noted)
    for refused in (read_private, open_lock):
        with pytest.raises(StoreError):
            refused(private)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(opened[-1])


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def test_what_is_written_is_there_and_ours_alone(path):
    replace_private(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    replace_private(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert list(path.parent.iterdir()) == [path]


def test_what_was_open_to_others_is_not_when_it_is_written(private):
    private.chmod(0o666)
    replace_private(private, b"new")
    assert mode(private) == 0o600


@pytest.mark.parametrize("left", ["half a file", "a link"])
def test_what_a_killed_write_left_behind_is_not_written_into(path, tmp_path, left):
    new = path.with_name("tokens.new")
    (tmp_path / "elsewhere").write_bytes(b"untouched")
    new.symlink_to(tmp_path / "elsewhere") if left == "a link" else new.write_bytes(b"x" * 99)
    replace_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"untouched"


@pytest.mark.parametrize("step", ["open", "fsync"])
def test_a_write_that_fails_leaves_what_was_there(private, monkeypatch, step):
    monkeypatch.setattr(disk.os, step, fails(errno.ENOSPC))
    with pytest.raises(StoreError, match=f"{private}: No space left on device") as caught:
        replace_private(private, b"new")
    monkeypatch.undo()
    assert private.read_bytes() == b"content"
    assert "s3cr3t" not in str(caught.value)


def test_a_write_is_on_the_disk_before_it_takes_the_old_ones_place(private, monkeypatch):
    """A crash may come at any of these steps."""
    flushed, fsync = [], os.fsync

    def noted(handle):
        what = "directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        flushed.append((what, private.read_bytes(), os.fstat(handle).st_size if what == "file" else None))
        fsync(handle)

    monkeypatch.setattr(disk.os, "fsync", noted)
    replace_private(private, b"new")
    assert flushed == [("file", b"content", 3), ("directory", b"new", None)]


def test_a_file_system_that_cannot_flush_directories_will_do(private, monkeypatch):
    fsync = os.fsync

    def some(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "cannot")
        fsync(handle)

    monkeypatch.setattr(disk.os, "fsync", some)
    replace_private(private, b"new")
    assert private.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("number", "advised"),
    [(errno.EROFS, True), (errno.EACCES, True), (errno.EPERM, True), (errno.ENOSPC, False)],
)
def test_where_we_may_not_write_another_place_is_advised(private, monkeypatch, number, advised):
    monkeypatch.setattr(disk.os, "open", fails(number))
    with pytest.raises(StoreError) as caught:
        replace_private(private, b"new")
    assert ("token_store" in (caught.value.hint or "")) == advised


def test_a_file_is_moved_as_it_is(private, tmp_path):
    move_private(private, tmp_path / "aside")
    assert not private.exists()
    assert ((tmp_path / "aside").read_bytes(), mode(tmp_path / "aside")) == (b"content", 0o600)
    with pytest.raises(StoreError, match="No such file"):
        move_private(private, tmp_path / "aside")


# ── places ───────────────────────────────────────────────────────────────────────────────────────


def test_a_directory_is_made_with_those_above_it_and_is_ours_alone(tmp_path):
    for _ in range(2):
        make_directory(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_directory_is_tried_and_nothing_stays(tmp_path):
    disk.try_directory(tmp_path / "a" / "b")
    disk.try_directory(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for path in ("file", "file/b"):
        with pytest.raises(StoreError, match=rf"{path}: Not a directory"):
            disk.try_directory(tmp_path / path)


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o1777])
def test_a_directory_where_others_may_write_is_not_ours(tmp_path, bits):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(bits)
    with pytest.raises(StoreError, match="is not a directory of our own") as caught:
        make_directory(tmp_path / "locks")
    assert "chmod 700 locks" in caught.value.hint


def test_a_link_to_a_directory_is_not_ours(tmp_path):
    (tmp_path / "locks").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="is not a directory of our own"):
        make_directory(tmp_path / "locks")


def test_a_directory_of_somebody_else_is_not_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StoreError, match="is not a directory of our own"):
        make_directory(tmp_path / "locks")


def test_files_go_where_nobody_else_can_swap_them(tmp_path):
    check_parent(tmp_path / "a" / "b" / "tokens")
    assert mode(tmp_path / "a" / "b") == 0o700
    (tmp_path / "a").chmod(0o777)
    with pytest.raises(StoreError, match="anyone may replace files in") as caught:
        check_parent(tmp_path / "a" / "tokens")
    assert caught.value.hint == f"chmod o-w {tmp_path / 'a'}"
    (tmp_path / "a").chmod(0o1777)  # as /tmp
    check_parent(tmp_path / "a" / "tokens")


def test_another_file_of_the_same_name_is_told_from_the_first(private):
    before = identity(private)
    assert identity(private) == before
    replace_private(private, b"content")
    assert identity(private) not in {before, None}
    private.unlink()
    assert identity(private) is None


# ── locks ────────────────────────────────────────────────────────────────────────────────────────


def test_one_at_a_time_has_the_lock(path):
    one, other = open_lock(path), open_lock(path)
    assert take_lock(one)
    assert not take_lock(other)
    drop_lock(one)
    assert take_lock(other)
    drop_lock(other)
    assert mode(path) == 0o600


def test_a_lock_that_is_dropped_is_free_although_a_child_has_its_descriptor(path):
    handle = open_lock(path)
    take_lock(handle)
    childs = os.dup(handle)
    drop_lock(handle)
    other = open_lock(path)
    assert take_lock(other)
    drop_lock(other)
    os.close(childs)


@pytest.mark.parametrize("what", ["link", "open to others"])
def test_a_lock_that_somebody_else_may_hold_is_refused(path, tmp_path, what):
    if what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.touch()
        path.chmod(0o666)
    with pytest.raises(StoreError):
        open_lock(path)
    assert not (tmp_path / "elsewhere").exists()


def test_where_files_cannot_be_locked_it_says_so(path, monkeypatch):
    handle = open_lock(path)
    monkeypatch.setattr(capabilities.fcntl, "flock", fails(errno.ENOLCK))
    with pytest.raises(StoreError, match="files cannot be locked there: No locks available"):
        take_lock(handle)
    drop_lock(handle)


class Moments:
    """Time that goes by only when somebody sleeps."""

    def __init__(self):
        self.now = 0.0
        self.slept = 0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.slept += 1


@pytest.fixture
def moments(monkeypatch):
    moments = Moments()
    monkeypatch.setattr(disk, "time", moments)
    return moments


def test_a_lock_that_is_not_let_go_is_waited_for_so_long_and_no_longer(path, moments):
    with exclusive(path, seconds=10):
        assert moments.slept == 0
        with (
            pytest.raises(StoreBusy, match=f"another process has held {path} for 10 s"),
            exclusive(path, seconds=10),
        ):
            pytest.fail("two hold the lock")
    assert 10 < moments.now < 10.1


def test_a_lock_is_had_as_soon_as_it_is_let_go(path, moments, monkeypatch):
    holder = open_lock(path)
    take_lock(holder)
    naps = count(1)

    def sleep(_seconds):
        if next(naps) == 3:
            drop_lock(holder)

    monkeypatch.setattr(moments, "sleep", sleep)
    with exclusive(path, seconds=10):
        pass
    assert next(naps) == 4


def test_a_lock_is_let_go_when_its_holder_fails(path, moments):
    with pytest.raises(ZeroDivisionError), exclusive(path, seconds=1):
        raise ZeroDivisionError
    with exclusive(path, seconds=1):
        pass
    assert moments.slept == 0
