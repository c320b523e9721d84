import json

import platformdirs
import pytest
from pydantic import SecretStr

from authproxy.config import effective as build
from authproxy.config.command_line import from_command_line
from authproxy.config.effective import effective
from authproxy.config.find import find_config
from authproxy.errors import ConfigError
from authproxy.grants.static import NoGrant, Static
from authproxy.masking import MASK


def faults(upstream="https://x", preset=None, settings=()):
    with pytest.raises(ConfigError) as raised:
        from_command_line(upstream, preset, settings, environ={})
    return [str(fault) for fault in raised.value.faults]


# ── finding the file ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "SYSTEM_CONFIG", tmp_path / "etc/config.yaml")
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


# ── one route from the command line ──────────────────────────────────────────────────────────────


def test_an_upstream_alone_is_forwarded_to_without_a_credential():
    config = from_command_line("https://x")
    (route,) = config.routes
    assert (route.name, route.path, route.upstream, route.grant) == ("default", "/", "https://x", NoGrant())
    assert config.file == "command line"


def test_a_setting_goes_to_the_route_or_to_auth():
    settings = ["grant=static", "token=${T}", "prefetch=true", "timeouts.connect=5s", "auth.header=X-Key"]
    (route,) = from_command_line("https://x", None, settings, environ={"T": "t"}).routes
    assert route.grant == Static(token=SecretStr("t"), header="X-Key")
    assert (route.prefetch, route.timeouts.connect, route.timeouts.idle) == (True, 5.0, 300.0)


def test_a_preset_takes_its_keys_from_settings():
    settings = ["username=joe", "password=a=b", "response.token=/t", "params_in=query"]
    (route,) = from_command_line("https://x", "password-login", settings).routes
    assert route.preset == "password-login"
    assert route.grant.form["password"].get_secret_value() == "a=b"
    assert route.grant.response.token == "/t"


def test_a_list_or_a_mapping_is_written_as_in_the_file():
    (route,) = from_command_line(
        "https://x", None, ["allow={methods: [GET]}", "retry.statuses=[401, 403]"]
    ).routes
    assert route.allow.methods == ("GET",)
    assert route.retry.statuses == (401, 403)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (["x"], "--set: should be key=value"),
        (["=x"], "--set: should be key=value"),
        (["a..b=x"], "--set: should be key=value"),
        (["prefetch=maybe"], "--set prefetch: should be true or false"),
        (["tokem=x", "grant=static", "token=y"], "--set tokem: unknown key; did you mean `token`?"),
        (["retry={statuses: [200]}"], "--set retry.statuses[0]: should be at least 400"),
        (["retry={"], "--set retry: is not YAML: expected the node content, but found '<stream end>'"),
        (
            ["retry=false", "retry.cooldown=1s"],
            ("--set retry.cooldown: `retry` was given a value of its own before"),
        ),
        (["prefetch=true", "prefetch=true"], "--set prefetch: is given twice"),
        (["token=x"], "auth: needs `grant` or `preset`"),
        (
            ["grant=static", "token=${NOBODY}"],
            "--set token: environment variable NOBODY is not set (reference ${NOBODY})",
        ),
    ],
)
def test_a_setting_that_will_not_do_is_named(settings, fault):
    assert faults(settings=settings) == [f"command line:1:1: {fault}"]


def test_a_faulty_upstream_or_preset_is_named():
    assert faults("x") == [
        "command line:1:1: --upstream: should be an absolute URL that begins with https:// or http://"
    ]
    assert faults(preset="up43")[0].startswith(
        "command line:1:1: --preset: unknown preset; did you mean up42?"
    )


def test_the_listeners_can_be_given_with_it():
    config = from_command_line("https://x", overrides={"listen": ["127.0.0.1:0"], "admin": False})
    assert (config.listen, config.admin) == (("127.0.0.1:0",), None)


# ── what people see ──────────────────────────────────────────────────────────────────────────────


def shown(reader, keys):
    return effective(reader.config(reader.with_route(keys)))[0]


def test_the_effective_routes_are_plain_data_with_all_defaults(reader):
    route = shown(reader, "upstream: https://x\nretry: false\nauth: {grant: static, token: hunter2}")
    assert json.loads(json.dumps(route)) == route
    assert (route["name"], route["path"], route["retry"], route["tls"]) == (
        "api",
        "/",
        False,
        {"verify": True},
    )
    assert route["timeouts"] == {"connect": 10.0, "response": 60.0, "idle": 300.0}
    assert route["auth"]["token"] == MASK


@pytest.mark.parametrize(
    "auth",
    [
        "{grant: static, token: hunter2}",
        "{grant: basic, username: '${PASSWORD}', password: x}",
        "{grant: static, token: x, header: 'X-${PASSWORD}'}",
        "{grant: token_request, url: 'https://x/${PASSWORD}', form: {a: hunter2}, headers: {X-A: hunter2}}",
        "{grant: token_request, url: https://x, json: {a: [hunter2, {b: hunter2}]}}",
        "{grant: password, token_url: https://x, username: a, password: x, scope: ['${PASSWORD}']}",
        "{preset: code42-user, username: '${PASSWORD}', password: hunter2, url: 'https://x/${PASSWORD}'}",
        "{grant: command, command: [login, '${PASSWORD}']}",
    ],
)
def test_no_secret_is_shown(reader, auth):
    keys = f"upstream: https://x\nheaders: {{set: {{X-A: hunter2}}}}\nauth: {auth}"
    route = json.dumps(shown(reader, keys), ensure_ascii=False)
    assert "hunter2" not in route
    assert MASK in route


def test_what_is_no_secret_is_shown(reader):
    auth = shown(
        reader, "upstream: https://x\nauth: {preset: code42-user, username: joe, password: hunter2}"
    )["auth"]
    assert (auth["preset"], auth["grant"]) == ("code42-user", "token_request")
    assert auth["url"] == "https://x/api/v3/auth/jwt?useBody=true"
    assert auth["basic"] == {"username": "joe", "password": MASK}


def test_a_presets_warning_is_shown(reader):
    auth = "{preset: code42-basic, username: joe, password: x}"
    assert "deprecated" in shown(reader, f"upstream: https://x\nauth: {auth}")["warnings"][0]
