"""What a user can write is written down: every key, every grant, every preset; and the example works."""

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import jsonschema
import pytest
import yaml
from joserfc.jwk import ECKey, RSAKey

from authproxy.config.json_schema import json_schema
from authproxy.config.model import FileKeys
from authproxy.config.presets import presets
from authproxy.config.read import load
from authproxy.config.references import READERS
from authproxy.config.route import RouteKeys
from authproxy.grants.registry import GRANTS

ROOT = Path(__file__).parents[2]
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
REFERENCE = (ROOT / "docs/reference-configuration.md").read_text()
PRESETS = (ROOT / "docs/presets.md").read_text()
EXAMPLE = ROOT / "config.example.yaml"
PRIVATE_KEY = json.dumps(ECKey.generate_key("P-256").as_dict(private=True))
RSA_KEY = RSAKey.generate_key(2048).as_pem(private=True).decode()
MAX_LINES, MAX_WIDTH = 6, 132  # of YAML, to the first authenticated answer


def keys_of(kind):
    """Return the names of all fields of a dataclass, and of the dataclasses in it."""
    hints = get_type_hints(kind)
    found = {each.name for each in fields(kind)}
    for each in fields(kind):
        for inner in (hints[each.name], *get_args(hints[each.name])):
            if is_dataclass(inner):
                found |= keys_of(inner)
    return found


@pytest.mark.parametrize(
    "key",
    sorted(
        {"auth", "defaults", "routes", *keys_of(FileKeys), *keys_of(RouteKeys)}.union(
            *map(keys_of, GRANTS.values())
        )
    ),
)
def test_every_key_is_documented(key):
    assert re.search(rf"^(\| `{key}` \||`{key}: )", REFERENCE, re.MULTILINE)


@pytest.mark.parametrize("grant", GRANTS)
def test_every_grant_is_documented(grant):
    assert f"| `{grant}` |" in CONFIGURATION


@pytest.mark.parametrize("kind", READERS)
def test_every_reference_is_documented(kind):
    assert f"| `${{{kind}:" in CONFIGURATION


def section(name):
    return PRESETS.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_every_preset_has_a_section_with_its_keys(preset):
    text = section(preset.name)
    assert text
    for key, about in preset.keys.items():
        assert re.search(rf"^\| `{key}` \| {'required' if about.required else ''}", text, re.MULTILINE)


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_every_preset_says_where_each_value_is_found_and_links_to_the_vendors_page(preset):
    text = section(preset.name)
    assert preset.docs in text
    open_keys = {key for key, about in preset.keys.items() if about.default is None}
    open_keys |= {"upstream"} if "${" in preset.upstream else set()
    assert open_keys <= preset.where.keys(), "a sentence for each"
    assert preset.where.keys() <= {"upstream", *preset.keys}
    for key, where in preset.where.items():
        assert where.strip()
        assert re.search(rf"^\| `{key}` \| .+ \| {re.escape(where)} \|$", text, re.MULTILINE), key


WITHOUT_PAGE = {"password-login"}  # any API that has one


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_the_vendors_page_is_a_link(preset):
    assert preset.name in WITHOUT_PAGE or re.match(r"https?://\S+\Z", preset.docs)


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_an_upstream_that_a_preset_brings_is_the_one_that_init_writes(preset):
    assert preset.route.get("upstream", preset.upstream) == preset.upstream
    assert "$" not in preset.route.get("upstream", "")


def example_of(name):
    (example,) = re.findall(r"```yaml\n(- name:.*?)```", section(name), re.DOTALL)
    return example


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_the_example_of_a_preset_is_short(preset):
    lines = f"routes:\n{example_of(preset.name)}".splitlines()
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= MAX_WIDTH


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_the_example_of_a_preset_loads(preset, tmp_path):
    example = example_of(preset.name)
    path = tmp_path / "authproxy.yaml"
    path.write_text(f"routes:\n{example}")
    assert load(path, environ=variables(example)).routes[0].preset == preset.name


def test_no_preset_is_documented_that_is_not_there():
    assert set(re.findall(r"^## `(.*)`$", PRESETS, re.MULTILINE)) == set(presets())


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", CONFIGURATION, re.DOTALL))
def test_the_examples_of_the_configuration_load(block, tmp_path):
    data = yaml.safe_load(block)
    route = {"name": "example", "upstream": "https://api.example.com", "auth": {"grant": "none"}}
    top = {"access", "defaults", "forward", "routes", "token_store"}
    data = data if top & data.keys() else {"routes": [route | data]}
    path = tmp_path / "authproxy.yaml"
    path.write_text(yaml.safe_dump({"routes": [route]} | data))
    assert load(path, environ=variables(block)).routes


def variables(text):
    values = dict.fromkeys(re.findall(r"\$\{([A-Z0-9_]+)\}", text), "JBSWY3DPEHPK3PXP")
    fitting = {"PRIVATE_KEY": PRIVATE_KEY, "REDIS_URL": "redis://127.0.0.1"}
    fitting |= dict.fromkeys((name for name in values if name.endswith("_PRIVATE_KEY")), RSA_KEY)
    return {name: fitting.get(name, value) for name, value in values.items()}


def test_the_example_loads_when_its_variables_are_set():
    config = load(EXAMPLE, environ=variables(EXAMPLE.read_text()))
    assert {route.preset for route in config.routes} - {None} == set(presets())
    assert {type(route.grant) for route in config.routes if route.preset is None} == set(GRANTS.values())


def test_the_example_fits_the_json_schema():
    jsonschema.validate(yaml.safe_load(EXAMPLE.read_text()), json_schema())
