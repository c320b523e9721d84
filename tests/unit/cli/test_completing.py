"""What is offered at Tab."""

from types import SimpleNamespace

import pytest

from authproxy.cli.completing import complete_files, complete_presets, complete_routes

ROUTES = r"""routes: [{name: up42}, {name: upper}, {name: '${NAME}'}, {name: 7}, 7, {name: "up\nplain,evil"},
{name: 'up$(id)'}, {name: '*'}, {name: 'up `id`'}, {name: "up\n"}]"""


def routes(config_file, typed=""):
    return complete_routes(SimpleNamespace(params={"config_file": config_file}), None, typed)


def test_routes_come_from_the_file_and_what_is_no_plain_name_is_left_out(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(ROUTES)
    assert routes(str(file)) == ["up42", "upper"]
    assert routes(str(file), "upp") == ["upper"]


@pytest.mark.parametrize(
    "data", [b"", b"[", b"7", b"routes: {}", b"\xff\xfe\x00", b"a: &a [*a]", b"[" * 5000]
)
def test_a_file_that_is_no_configuration_offers_nothing(tmp_path, data):
    file = tmp_path / "a.yaml"
    file.write_bytes(data)
    assert routes(str(file)) == []


@pytest.mark.parametrize("file", [None, "nowhere.yaml", "~nobody-of-that-name/a.yaml", "."])
def test_a_file_that_cannot_be_read_offers_nothing(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("authproxy.config.find.SYSTEM_CONFIG", tmp_path / "none")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert routes(file) == []


def test_presets_and_files():
    assert complete_presets(None, None, "up") == ["up42"]
    [item] = complete_files(None, None, "a")
    assert (item.value, item.type) == ("a", "file")
