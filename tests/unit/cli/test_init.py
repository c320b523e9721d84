"""`authproxy init`."""

import stat

import pytest

from authproxy.capabilities import FILE_OWNERS
from authproxy.cli.init import NotWritten
from authproxy.config.presets import presets
from authproxy.config.starter import starter
from tests.support.systems import needs


def test_it_writes_the_starter_here_or_where_it_is_told(run, tmp_path, monkeypatch):
    run("init", "up42", "up42")
    assert (tmp_path / "authproxy.yaml").read_text("utf-8") == starter([presets()["up42"]]).text
    run("init", "-c", "a.yaml")
    assert (tmp_path / "a.yaml").read_text("utf-8") == starter().text
    monkeypatch.setenv("AUTHPROXY_CONFIG", str(tmp_path / "b.yaml"))
    run("init")
    assert (tmp_path / "b.yaml").exists()


def test_a_dash_prints_and_writes_nothing(run, tmp_path):
    assert run("init", "-c", "-", "up42").stdout == starter([presets()["up42"]]).text
    assert list(tmp_path.iterdir()) == []


@needs(FILE_OWNERS)
def test_the_file_is_for_its_owner_alone(run, tmp_path):
    run("init")
    assert stat.S_IMODE((tmp_path / "authproxy.yaml").stat().st_mode) == 0o600


def test_a_file_or_a_link_that_is_there_is_left_alone(run, tmp_path):
    (tmp_path / "authproxy.yaml").write_text("mine")
    with pytest.raises(NotWritten, match="already exists"):
        run("init")
    assert (tmp_path / "authproxy.yaml").read_text() == "mine"


@needs(FILE_OWNERS)
def test_nothing_is_written_through_a_link_that_leads_nowhere(run, tmp_path):
    (tmp_path / "authproxy.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotWritten):
        run("init")
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_missing_is_named_with_what_to_do(run):
    with pytest.raises(NotWritten) as caught:
        run("init", "-c", "nowhere/a.yaml")
    assert caught.value.hint == "mkdir -p nowhere"


def test_what_is_next_names_the_variables_and_the_file(run):
    said = run("init", "up42", "-c", "a b.yaml").stderr
    assert "export UP42_USERNAME=… UP42_PASSWORD=…" in said
    assert "authproxy check -c 'a b.yaml' && authproxy run -c 'a b.yaml'" in said
    assert "authproxy schema > authproxy.schema.json" in said


def test_the_schema_belongs_beside_the_file(run, tmp_path):
    (tmp_path / "etc").mkdir()
    assert "authproxy schema > etc/authproxy.schema.json" in run("init", "-c", "etc/a.yaml").stderr


def test_a_preset_that_is_not_there_writes_nothing(run, tmp_path):
    assert "did you mean up42?" in run("init", "up24", exits=2).stderr
    assert list(tmp_path.iterdir()) == []
