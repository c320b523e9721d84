"""Where a user's own files are, and where there is no such place."""

import errno
import os
from pathlib import Path

import platformdirs
import pytest

from authproxy import places
from authproxy.errors import StoreError
from authproxy.tokens.stores import disk, file


def nowhere(name):
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("answer", [nowhere, lambda name: Path("~/.local") / name])  # as versions differ
def test_without_a_home_there_is_neither_a_configuration_nor_a_state_directory(monkeypatch, answer):
    monkeypatch.setattr(platformdirs, "user_config_path", answer)
    monkeypatch.setattr(platformdirs, "user_state_path", answer)
    assert places.config_directory() is None
    assert places.state_directory() is None
    with pytest.raises(StoreError, match="there is no home directory") as raised:
        file.default_path()
    assert "XDG_STATE_HOME" in raised.value.hint


def test_a_current_directory_that_is_gone_stays_a_dot(monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert places.working_directory() == Path()


def test_where_we_may_not_look_there_is_no_file(monkeypatch):
    def forbidden(path):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "is_file", forbidden)
    assert not places.is_file(Path("x"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_where_we_may_not_write_the_hint_says_how_to_name_another_place(monkeypatch, number):
    def refuse(path, *args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=os.strerror(number)) as raised:
        disk.make_directory(Path("/state/authproxy"))
    assert raised.value.hint == "name another file: token_store: {type: file, path: …}"


def test_a_file_that_was_written_replaced_or_removed_has_another_stamp(tmp_path):
    path = tmp_path / "a"
    assert places.stamp_of(path) is None
    path.write_text("a")
    seen = [places.stamp_of(path)]
    path.write_text("longer")
    seen.append(places.stamp_of(path))
    (tmp_path / "b").write_text("longer")
    os.utime(tmp_path / "b", ns=(seen[-1][0], seen[-1][0]))
    (tmp_path / "b").replace(path)
    seen.append(places.stamp_of(path))
    assert len(set(seen)) == 3
    assert places.stamp_of(path) == seen[-1]
