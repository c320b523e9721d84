"""The configuration that somebody begins with, as text."""

import pytest
import yaml

from authproxy.config.presets import Preset, PresetKey, presets
from authproxy.config.starter import starter


def made(name, **more):
    keys = {
        "user": PresetKey(help="a name", required=True),
        "key": PresetKey(help="a key", required=True, secret=True, reference="${file:key.pem}"),
        "code": PresetKey(help="a code", secret=True),
        "realm": PresetKey(help="the realm", default="public"),
    }
    return Preset(
        name=name, title="An API", docs="https://docs.example", keys=keys, auth={"grant": "basic"},
        upstream="https://${API_HOST}", where={"upstream": "on the bill", "user": "in the menu"}, **more,
    )  # fmt: skip


def test_without_a_preset_there_is_a_route_of_the_usual_kind():
    text = starter()
    assert text.variables == ["EXAMPLE_CLIENT_ID", "EXAMPLE_CLIENT_SECRET"]
    (route,) = yaml.safe_load(text.text)["routes"]
    assert route["auth"]["grant"] == "client_credentials"


def test_a_required_key_is_a_reference_below_where_it_is_found():
    lines = [line.strip() for line in starter([made("api-basic")]).text.splitlines()]
    assert lines[lines.index('user: "${API_USER}"') - 1] == "# in the menu"
    assert lines[lines.index("upstream: https://${API_HOST}") - 1] == "# on the bill"
    assert 'key: "${file:key.pem}"' in lines


def test_what_may_be_left_out_is_a_comment():
    text = starter([made("api-basic")])
    assert '# code: "${API_CODE}"' in text.text
    assert "# realm: public " in text.text
    assert text.variables == ["API_HOST", "API_USER"]


def test_a_short_name_names_the_route_and_its_variables():
    text = starter([made("api-basic", short="vendor")])
    (route,) = yaml.safe_load(text.text)["routes"]
    assert (route["name"], route["path"], route["auth"]["user"]) == ("vendor", "/vendor", "${VENDOR_USER}")


def test_two_of_one_vendor_have_their_whole_names():
    text = starter([made("api-one"), made("api-two")])
    assert [route["name"] for route in yaml.safe_load(text.text)["routes"]] == ["api-one", "api-two"]
    assert {"API_ONE_USER", "API_TWO_USER"} <= set(text.variables)


def test_what_the_vendor_warns_of_is_said():
    assert "# Note: better not" in starter([made("api", warning="better not")]).text


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_each_open_key_of_each_preset_is_there(preset):
    (route,) = yaml.safe_load(starter([preset]).text)["routes"]
    required = {name for name, key in preset.keys.items() if key.required and key.default is None}
    assert route["auth"].keys() == {"preset", *required}
    assert route["upstream"] == preset.upstream
