"""`authproxy presets`."""

import json

import pytest
import yaml

from authproxy.config.presets import presets


def test_every_preset_is_listed_with_its_grant_and_what_it_is_for(run):
    _, _, *rows = run("presets").stdout.strip().splitlines()
    found = [row.split(maxsplit=2) for row in rows]
    assert [(name, grant) for name, grant, _ in found] == [
        (each.name, each.grant) for each in presets().values()
    ]
    assert all(title.strip() for *_, title in found)


def test_json_says_the_same(run):
    assert json.loads(run("presets", "--json").stdout) == [
        {"name": each.name, "title": each.title, "grant": each.grant} for each in presets().values()
    ]


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_shown_as_yaml_and_the_list_is_not(run, name):
    output = run("presets", "show", name).stdout
    assert output == presets()[name].as_yaml()
    assert yaml.safe_load(output)


def test_a_preset_that_is_not_there_is_told_with_those_that_are(run):
    said = run("presets", "show", "nonsense", exits=2).stderr
    assert "there is no preset 'nonsense'" in said
    assert all(name in " ".join(said.split()) for name in presets())
