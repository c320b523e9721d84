import jsonschema
import pytest
import yaml

from authproxy.config.json_schema import json_schema
from authproxy.config.presets import presets
from authproxy.grants.registry import GRANTS
from tests.support.systems import of_unix


@pytest.fixture(scope="module")
def schema():
    return json_schema()


@pytest.fixture(scope="module")
def validator(schema):
    return jsonschema.Draft202012Validator(schema)


def text(auth, route="", top=""):
    return f"{top}\nroutes: [{{name: a, upstream: 'https://x', auth: {auth}, {route}}}]"


@pytest.mark.parametrize(
    "document",
    [
        text("{grant: none}"),
        text("{grant: static, token: x}"),
        text("{preset: up42, username: a, password: b}"),
        text("{preset: up42, username: a, password: b, client_id: null}"),
        text("{preset: code42-user, username: a, password: b, totp: {secret: x}}"),
        text("{preset: password-login, form: null, json: {a: b}}"),
        text("{preset: password-login, username: a, password: b, response: {token: /x}}"),
        text("{grant: none}", "max_connections: '${MANY}', retry: false, prefetch: '${YES}'"),
        text(
            "{grant: none}", "timeouts: {connect: 500ms, idle: 5}, retry: {statuses: [401], max_body: 1MiB}"
        ),
        of_unix(
            text(
                "{grant: none}",
                top="admin: false\nlisten: ['127.0.0.1:1', 'unix:/a']\nlimits: {body_bytes: none}",
            )
        ),
        text("{grant: none}", top="defaults: {prefetch: true, auth: {grant: none}}\nlisten: '127.0.0.1:1'"),
    ],
)
def test_a_good_file_is_good(validator, reader, document):
    assert [error.message for error in validator.iter_errors(yaml.safe_load(document))] == []
    reader.environ = {"MANY": "5", "YES": "true"}
    if "secret: x" not in document:
        reader.config(document)


@pytest.mark.parametrize(
    "document",
    [
        text("{grant: nobody}"),
        text("{grant: static}"),
        text("{grant: static, token: 5}"),
        text("{grant: static, token: x, preset: up42}"),
        text("{preset: up42, username: a, password: b, zzz: 1}"),
        text("{grant: none}", "zzz: 1"),
        text("{grant: none}", "timeouts: {connect: soon}"),
        text("{grant: none}", "retry: {methods: some}"),
        text("{grant: none}", top="workers: -1"),
        text("{grant: none}", top="log: {level: loud}"),
        "routes: []",
        "listen: '127.0.0.1:1'",
    ],
)
def test_a_faulty_file_is_faulty(validator, reader, document):
    assert list(validator.iter_errors(yaml.safe_load(document)))
    reader.faults(document)


def test_there_is_an_alternative_for_each_grant_and_each_preset(schema):
    titles = [each["title"] for each in schema["$defs"]["auth"]["oneOf"]]
    assert titles == [f"grant: {name}" for name in GRANTS] + [f"preset: {name}" for name in presets()]


def properties_of(schema):
    """Yield each key of each mapping: the mapping's title, the key's name, its schema."""
    places = [schema, *(each for each in schema["$defs"].values() if "properties" in each)]
    for place in places + schema["$defs"]["auth"]["oneOf"]:
        for name, each in place["properties"].items():
            yield place.get("title", ""), name, each


def test_every_key_is_described(schema):
    bare = [
        (title, name)
        for title, name, each in properties_of(schema)
        if not {"description", "const", "$ref"} & each.keys()
    ]
    assert bare == []


def test_every_example_fits_its_key(schema):
    faults = [
        (title, name, error.message)
        for title, name, each in properties_of(schema)
        for example in each.get("examples", [])
        for error in jsonschema.Draft202012Validator(each | {"$defs": schema["$defs"]}).iter_errors(example)
    ]
    assert faults == []
    assert any("examples" in each for _, _, each in properties_of(schema))


def test_a_key_that_a_grant_inherits_is_described_where_it_is_declared(schema):
    (grant,) = (each for each in schema["$defs"]["auth"]["oneOf"] if each["title"] == "grant: password")
    assert grant["properties"]["scheme"]["description"].startswith("The authentication scheme")
    assert grant["properties"]["token_url"]["examples"] == ["https://login.example.com/oauth/token"]
