"""Where the configuration is looked for."""

import platformdirs
import pytest

from authproxy.config import find
from authproxy.config.find import find_config
from authproxy.errors import ConfigError


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find, "SYSTEM_CONFIG", tmp_path / "etc/config.yaml")
    monkeypatch.setattr(platformdirs, "user_config_path", lambda name: tmp_path / "home" / name)
    return [
        tmp_path / "authproxy.yaml",
        tmp_path / "home/authproxy/config.yaml",
        tmp_path / "etc/config.yaml",
    ]


def test_a_named_file_is_the_one(places):
    assert str(find_config("a.yaml", environ={"AUTHPROXY_CONFIG": "b.yaml"})) == "a.yaml"
    assert str(find_config(None, environ={"AUTHPROXY_CONFIG": "b.yaml"})) == "b.yaml"


def test_the_first_that_is_there_is_taken(places):
    for place in reversed(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        assert find_config(None, environ={}).resolve() == place.resolve()


def test_when_there_is_none_the_places_are_listed(places):
    with pytest.raises(ConfigError) as raised:
        find_config(None, environ={})
    for place in ["$AUTHPROXY_CONFIG", "authproxy.yaml", *map(str, places[1:])]:
        assert place in str(raised.value)
    assert "in a container, mount one" in raised.value.hint


def test_a_file_without_a_name_is_not_another_one():
    with pytest.raises(ConfigError) as caught:
        find_config("", environ={"AUTHPROXY_CONFIG": "/etc/other.yaml"})
    assert str(caught.value.faults[0]) == "authproxy: -c: should name a file, and is empty"
