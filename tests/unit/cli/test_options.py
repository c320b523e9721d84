"""What several verbs share."""

import json
import os
from types import SimpleNamespace

import click
import pytest

from authproxy.cli import options
from authproxy.cli.options import find_route, load_config, print_json, print_table, warning_lines
from authproxy.errors import Fault

CONFIG = SimpleNamespace(
    file="proxy.yaml",
    routes=[SimpleNamespace(name="one"), SimpleNamespace(name="other")],
    warnings=[Fault("proxy.yaml", 3, 7, "routes[0].auth", "is hardly meant")],
)


def test_a_route_is_found_by_its_whole_name():
    assert find_route(CONFIG, "other").name == "other"
    with pytest.raises(click.UsageError) as caught:
        find_route(CONFIG, "on")
    assert (
        caught.value.message
        == "there is no route 'on' in proxy.yaml; did you mean one? (choose from one, other)"
    )


def test_variables_that_held_secrets_are_taken_away(monkeypatch, tmp_path):
    monkeypatch.setenv("TOKEN", "s3cr3t")
    monkeypatch.setenv("WHERE", "https://a.example")
    path = tmp_path / "proxy.yaml"
    path.write_text("routes: [{name: a, upstream: '${WHERE}', auth: {grant: static, token: '${TOKEN}'}}]")
    config = load_config(str(path))
    assert config.routes[0].grant.token.get_secret_value() == "s3cr3t"
    assert "TOKEN" not in os.environ
    assert os.environ["WHERE"] == "https://a.example"


def test_a_warning_has_a_line_with_its_place():
    assert warning_lines(CONFIG) == ["proxy.yaml:3:7: routes[0].auth: warning: is hardly meant"]


@pytest.mark.parametrize(("unicode", "printed"), [(True, '"ü•"'), (False, '"\\u00fc\\u2022"')])
def test_json_escapes_what_the_terminal_cannot_show(monkeypatch, capsys, unicode, printed):
    monkeypatch.setattr(options, "is_unicode", lambda _stream: unicode)
    print_json("ü•")
    assert capsys.readouterr().out == f"{printed}\n"
    print_json({"a": [1]})
    assert json.loads(capsys.readouterr().out) == {"a": [1]}


def test_a_table_shows_every_cell_as_it_is(capsys):
    print_table(["NAME", "VALUE"], [["a", "[bold]not markup[/]"], ["b", "x" * 300]])
    lines = capsys.readouterr().out.split("\n")
    assert any("[bold]not markup[/]" in line for line in lines)
    assert any("x" * 300 in line for line in lines)
