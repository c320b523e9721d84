"""Files in a directory of the process's own: whose they are, and what becomes of them."""

import errno
import os
import stat

import pytest

from authproxy.app import runtime_files as module
from authproxy.app.runtime_files import PREFIX, RuntimeFiles, base_directory
from authproxy.errors import StoreError
from tests.support.systems import needs_owners

CONTENTS = {"ca.pem": b"ours", "bundle.pem": b"ours and theirs"}


@pytest.fixture
def base(tmp_path, monkeypatch):
    """Return the directory for such files."""
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    return made


@pytest.fixture
def files(base):
    made = RuntimeFiles()
    yield made
    made.close()


def published(files, contents=CONTENTS):
    files.stage(contents)
    return files.publish()


def found(directory):
    return {each.name: each.read_bytes() for each in directory.iterdir() if each.name != module.LOCK}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_nothing_is_touched_before_there_is_something_to_write(base):
    files = RuntimeFiles()
    files.publish()
    files.abandon()
    files.close()
    assert list(base.iterdir()) == []
    with pytest.raises(StoreError, match=r"no ca\.pem yet"):
        files.path("ca.pem")


def test_what_is_published_is_whole_and_at_its_place(files, base):
    assert published(files) == {"ca.pem": False, "bundle.pem": False}
    [directory] = base.iterdir()
    assert directory.name.startswith(PREFIX)
    assert files.path("ca.pem").parent == directory
    assert found(directory) == CONTENTS


@needs_owners
def test_they_are_their_owners_alone_whatever_the_umask(files):
    before = os.umask(0)
    try:
        published(files)
    finally:
        os.umask(before)
    assert mode(files.path("ca.pem")) == mode(files.path("bundle.pem")) == 0o600
    assert mode(files.path("ca.pem").parent) == 0o700


def test_what_is_staged_is_seen_once_it_is_published(files):
    published(files)
    at = files.path("ca.pem")
    files.stage({"ca.pem": b"another", "bundle.pem": CONTENTS["bundle.pem"]})
    assert at.read_bytes() == b"ours"
    assert files.publish() == {"ca.pem": True}, "what is the same stays"
    assert files.path("ca.pem") == at
    assert found(at.parent) == CONTENTS | {"ca.pem": b"another"}


def test_what_is_abandoned_was_never_there(files, base):
    published(files)
    files.stage({"ca.pem": b"another", "more.pem": b"more"})
    files.abandon()
    assert files.publish() == {}
    [directory] = base.iterdir()
    assert found(directory) == CONTENTS


def test_what_was_staged_and_never_published_does_not_come_later(files):
    published(files)
    files.stage({"ca.pem": b"second", "second.pem": b"second"})
    files.stage({"ca.pem": b"third"})
    assert files.publish() == {"ca.pem": True}
    assert found(files.path("ca.pem").parent) == CONTENTS | {"ca.pem": b"third"}


def test_at_the_end_there_is_nothing_left_with_what_others_have_put_beside(files, base):
    published(files)
    files.path("trust.p12").write_bytes(b"beside")
    files.close()
    files.close()
    assert list(base.iterdir()) == []
    published(files)
    assert len(list(base.iterdir())) == 1, "and it may begin again"


def test_a_process_that_was_forked_writes_and_removes_nothing(files, base, monkeypatch):
    published(files)
    at = files.path("ca.pem")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        files.stage({"ca.pem": b"another"})
        assert files.publish() == {}
        files.abandon()
        files.close()
        assert not files.is_kept_here
    assert found(at.parent) == CONTENTS
    assert files.is_kept_here


def test_when_they_cannot_be_written_nothing_is_left_and_the_way_out_is_told(files, base, monkeypatch):
    real = module.disk.replace_private

    def full(path, content):
        if path.name.startswith("bundle"):
            raise StoreError(f"{path}: No space left on device", hint="something about tokens")
        real(path, content)

    monkeypatch.setattr(module.disk, "replace_private", full)
    with pytest.raises(StoreError, match=r"clients of the forward proxy: .*No space left") as caught:
        files.stage(CONTENTS)
    assert caught.value.hint == module.HINT
    assert list(base.iterdir()) == []
    assert not files.are_there
    with pytest.raises(StoreError, match="No space left"):
        files.path("ca.pem")
    monkeypatch.setattr(module.disk, "replace_private", real)
    published(files)
    monkeypatch.setattr(module.disk, "replace_private", full)
    with pytest.raises(StoreError):
        files.stage({"ca.pem": b"another", "bundle.pem": b"another"})
    [directory] = base.iterdir()
    assert found(directory) == CONTENTS


def test_a_directory_that_somebody_has_removed_is_made_again(files, base):
    published(files)
    module._remove(files.path("ca.pem").parent)
    published(files)
    [directory] = base.iterdir()
    assert found(directory) == CONTENTS
    open_now = RuntimeFiles()
    published(open_now)
    assert found(directory) == CONTENTS, "which is locked like the first one"
    open_now.close()


# ── where ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    made = tmp_path / "tmp"
    made.mkdir(mode=0o700)
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(made))
    return made


def test_the_users_runtime_directory_is_the_place(base, temporary):
    assert base_directory() == base


@pytest.mark.parametrize("given", ["", "relative", "/nowhere/at/all", __file__])
def test_without_one_it_is_that_for_temporary_files(base, temporary, monkeypatch, given):
    monkeypatch.setenv("XDG_RUNTIME_DIR", given)
    assert base_directory() == temporary


def test_where_there_is_no_place_at_all_it_is_told(base, monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(module.tempfile, "gettempdir", nowhere)
    with pytest.raises(StoreError, match="no directory for temporary files that can be written to") as caught:
        RuntimeFiles().stage(CONTENTS)
    assert caught.value.hint == module.HINT


@needs_owners
@pytest.mark.parametrize("others", [0o755, 0o770, 0o701])
def test_one_that_is_open_to_others_is_not_trusted(base, temporary, others):
    base.chmod(others)
    assert base_directory() == temporary


@needs_owners
def test_one_of_another_user_is_not_trusted(base, temporary, monkeypatch):
    monkeypatch.setattr(module, "is_ours", lambda status: False)
    assert base_directory() == temporary


@needs_owners
def test_where_anyone_may_swap_our_directory_nothing_is_written(temporary, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    temporary.chmod(0o777)
    with pytest.raises(StoreError, match="anyone may replace files") as caught:
        RuntimeFiles().stage(CONTENTS)
    assert caught.value.hint == module.HINT
    assert list(temporary.iterdir()) == []
    temporary.chmod(0o1777)
    (files := RuntimeFiles()).stage(CONTENTS)
    files.close()


# ── what the dead have left ──────────────────────────────────────────────────────────────────────


def left_behind(base, *, content=True):
    """Make what a process leaves that is killed: a directory that nobody has locked."""
    directory = base / f"{PREFIX}dead"
    directory.mkdir(mode=0o700)
    if content:
        (directory / "ca.pem").write_bytes(b"theirs")
    return directory


@pytest.fixture(params=["a directory can be locked", "a file in it"])
def locks(request, monkeypatch):
    if request.param == "a file in it":
        monkeypatch.setattr(module, "O_DIRECTORY", None)


def test_what_the_dead_have_left_is_removed_by_who_begins_next(files, base, locks):
    left = left_behind(base)
    published(files)
    assert not left.exists()
    assert files.path("ca.pem").exists()


def test_where_nothing_can_be_locked_everything_stays(files, base, monkeypatch):
    def cannot(_descriptor):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(module, "lock_file", cannot)
    left = left_behind(base)
    published(files)
    assert left.exists()
    assert found(files.path("ca.pem").parent) == CONTENTS
    files.close()
    assert list(base.iterdir()) == [left]


def test_what_the_living_have_stays(files, base, locks):
    other = RuntimeFiles()
    published(other)
    published(files)
    assert found(other.path("ca.pem").parent) == found(files.path("ca.pem").parent) == CONTENTS
    assert other.path("ca.pem") != files.path("ca.pem")
    other.close()
    assert found(files.path("ca.pem").parent) == CONTENTS


def test_who_is_just_beginning_is_not_disturbed(files, base, locks):
    beginning = left_behind(base, content=False)
    published(files)
    assert beginning.is_dir()


@pytest.mark.parametrize("make", [
    lambda base, beside: (base / "authproxy-other").mkdir(),
    lambda base, beside: (base / f"{PREFIX}file").write_text("a file"),
    lambda base, beside: (base / f"{PREFIX}link").symlink_to(beside),
])  # fmt: skip
def test_what_cannot_be_ours_is_left_alone(files, base, tmp_path, make):
    beside = tmp_path / "beside"
    beside.mkdir(mode=0o700)
    (beside / "ca.pem").write_bytes(b"somebody's")
    make(base, beside)
    before = sorted(base.iterdir())
    published(files)
    assert set(before) < set(base.iterdir())
    assert found(beside) == {"ca.pem": b"somebody's"}


@needs_owners
def test_what_others_may_have_written_is_left_alone(files, base):
    left = left_behind(base)
    left.chmod(0o770)
    published(files)
    assert left.is_dir()


@needs_owners
def test_what_another_user_has_left_is_left_alone(base, monkeypatch):
    left = left_behind(base)
    real = left.lstat().st_ino
    monkeypatch.setattr(module, "is_ours", lambda status: status.st_ino != real)
    published(files := RuntimeFiles())
    assert left.is_dir()
    files.close()


def test_no_link_in_what_is_removed_is_followed(files, base, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    left = left_behind(base)
    (left / "link").symlink_to(tmp_path / "precious")
    published(files)
    assert not left.exists()
    assert (tmp_path / "precious" / "file").read_text() == "precious"


def test_it_is_shown_by_its_place(files):
    assert repr(files) == "<RuntimeFiles None>"
    published(files)
    assert repr(files) == f"<RuntimeFiles {files.path('ca.pem').parent}>"
