"""`run --upstream`: one route without a file."""

import pytest
from pydantic import SecretStr

from authproxy.config.auth import NEITHER
from authproxy.config.command_line import NOT_A_SETTING, from_command_line
from authproxy.errors import ConfigError
from authproxy.grants.static import NoGrant, Static
from authproxy.malformed import URL

NO_VALUE = "a value is missing here, or it begins with a character of YAML's own; put the value in quotes"
UNSET = "set it, or give a default: ${NOBODY:-…}"


def faults(upstream="https://x", preset=None, settings=()):
    with pytest.raises(ConfigError) as raised:
        from_command_line(upstream, preset, settings, environ={})
    return [str(fault) for fault in raised.value.faults]


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
        (["x"], f"--set: {NOT_A_SETTING}"),
        (["=x"], f"--set: {NOT_A_SETTING}"),
        (["a..b=x"], f"--set: {NOT_A_SETTING}"),
        (["prefetch=maybe"], "--set prefetch: should be true or false"),
        (["tokem=x", "grant=static", "token=y"], "--set tokem: unknown key; did you mean `token`?"),
        (["retry={statuses: [200]}"], "--set retry.statuses[0]: should be at least 201"),
        (
            ["retry={"],
            f"--set retry: is not YAML: {NO_VALUE}",
        ),
        (
            ["retry=false", "retry.cooldown=1s"],
            ("--set retry.cooldown: `retry` already has a value"),
        ),
        (["prefetch=true", "prefetch=true"], "--set prefetch: is given twice"),
        (["name=a", "name=b"], "--set name: is given twice"),
        (["upstream=https://b.example"], "--set upstream: --upstream says it already"),
        (["token=x"], f"--set auth: {NEITHER}"),
        (
            ["grant=static", "token=${NOBODY}"],
            f"--set token: environment variable NOBODY is not set (reference ${{NOBODY}}); {UNSET}",
        ),
    ],
)
def test_a_setting_that_will_not_do_is_named(settings, fault):
    assert faults(settings=settings) == [f"authproxy: command line: {fault}"]


def test_a_preset_that_is_there_twice_is_named_by_its_option():
    (fault,) = faults(preset="up42", settings=["preset=up42"])
    assert fault == "authproxy: command line: --set preset: --preset says it already"


def test_the_route_may_have_a_name_of_its_own():
    assert [each.name for each in from_command_line("https://x", settings=["name=api"]).routes] == ["api"]
    assert [each.name for each in from_command_line("https://x").routes] == ["default"]


def test_a_faulty_upstream_or_preset_is_named():
    assert faults("x") == [f"authproxy: command line: --upstream: {URL}; put https:// before it"]
    assert faults(preset="up43")[0].startswith(
        "authproxy: command line: --preset: unknown preset; did you mean up42?"
    )


def test_the_listeners_can_be_given_with_it():
    config = from_command_line("https://x", overrides={"listen": ["127.0.0.1:0"], "admin": False})
    assert (config.listen, config.admin) == (("127.0.0.1:0",), None)
