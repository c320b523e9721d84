import asyncio

import pytest
from pydantic import SecretStr

from authproxy.config import read
from authproxy.config.presets import presets
from authproxy.config.read import load
from authproxy.config.route import Retry, Timeouts
from authproxy.errors import ConfigError
from authproxy.grants import GRANTS
from authproxy.grants.static import Basic, NoGrant, Static

GRANT_NAMES = "there are " + ", ".join(GRANTS)
PRESET_NAMES = "there are " + ", ".join(presets())
NONE = "auth: {grant: none}\nupstream: https://x\n"


def test_a_file_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfroutes: [{name: a, upstream: 'https://x', auth: {grant: none}}]")
    assert load(path).routes[0].name == "a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "is not UTF-8 text"),
        (b"", "is empty"),
        (b"- a", "should be a mapping: `listen`, `routes` and so on"),
        (b"a" * 200, "is larger than 0 MiB"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_fault_in_its_first_line(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(read, "LARGEST_FILE", 100)
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value) == f"{path}:1:1: {message}"


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="1:1: cannot be read: Is a directory"):
        load(tmp_path)


def test_every_fault_is_told_at_once_in_the_order_of_the_file(reader):
    text = """\
lisen: x
log: {level: loud}
routes:
  - name: a
    upstream: ${NOBODY}
    auth: {grant: static}
  - name: b
    path: b
    upstream: https://x
    auth: {grant: [magic]}
  - {path: /c, upstream: https://x}
"""
    assert reader.faults(text) == [
        "1:1: lisen: unknown key; did you mean `listen`?",
        "2:14: log.level: should be debug, info, warning or error",
        "5:15: routes[0].upstream: environment variable NOBODY is not set (reference ${NOBODY})",
        "6:11: routes[0].auth.token: is required",
        (
            "8:11: routes[1].path: should be a path that begins with / and does not end with one, without "
            "query, fragment or %"
        ),
        f"10:19: routes[1].auth.grant: unknown grant ({GRANT_NAMES})",
        "11:5: routes[2].auth: is required; for plain forwarding `auth: {grant: none}`",
        "11:5: routes[2].name: is required",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("listen: 127.0.0.1:1", "1:1: routes: is required"),
        ("routes: []", "1:9: routes: should be a list with at least one route"),
        ("routes: {}", "1:9: routes: should be a list with at least one route"),
        ("routes:", "1:8: routes: should be a list with at least one route"),
        ("routes: [x]", "1:10: routes[0]: should be a mapping: `name`, `upstream`, `auth` and so on"),
        (
            "defaults: x\nroutes: [{name: a, upstream: 'https://x', auth: {grant: none}}]",
            "1:11: defaults: should be a mapping: any keys of a route",
        ),
    ],
)
def test_the_shape_of_the_file(reader, text, fault):
    assert reader.fault(text) == fault


@pytest.mark.parametrize(
    ("auth", "fault"),
    [
        ("x", "auth: should be a mapping: `grant` or `preset`, and its keys"),
        ("{token: x}", "auth: needs `grant` or `preset`"),
        ("{}", "auth: needs `grant` or `preset`"),
        ("{grant: static, preset: up42}", "auth: takes `grant` or `preset`, not both"),
        ("", "auth: is required; for plain forwarding `auth: {grant: none}`"),
        ("{grant: statik}", "auth.grant: unknown grant; did you mean static? " + f"({GRANT_NAMES})"),
        ("{grant: [x]}", "auth.grant: unknown grant " + f"({GRANT_NAMES})"),
        ("{preset: up43}", "auth.preset: unknown preset; did you mean up42? " + f"({PRESET_NAMES})"),
        (
            "{grant: none, token: x}",
            (
                "auth.token: unknown key; the keys here are default_lifetime, grant, "
                "header, hints, incoming, preset, refresh_before, scheme"
            ),
        ),
        (
            "{grant: basic, username: 'a:b', password: x}",
            "auth: a username for Basic must not contain a colon (RFC 7617 §2)",
        ),
        ("{grant: client_credentials, token_url: 'https://x'}", None),
    ],
)
def test_the_shape_of_auth(reader, auth, fault):
    keys = f"upstream: https://x\nauth: {auth}"
    if fault is None:
        assert reader.route(keys).grant.token_url == "https://x"
    else:
        assert reader.route_fault(keys) == fault


def test_a_grant_is_made_of_its_keys(reader):
    keys = "upstream: https://x\nauth: {grant: basic, username: '${USER_NAME}', password: '${PASSWORD}'}"
    assert reader.route(keys).grant == Basic(username="joe", password=SecretStr("hunter2"))


def test_numbers_and_switches_may_come_from_references(reader):
    reader.environ = {"MANY": "7", "YES": "true", "LONG": "2m"}
    keys = NONE + "max_connections: ${MANY}\nprefetch: ${YES}\ntimeouts: {idle: '${LONG}'}"
    route = reader.route(keys)
    assert (route.max_connections, route.prefetch, route.timeouts.idle) == (7, True, 120.0)


# ── defaults ─────────────────────────────────────────────────────────────────────────────────────


def test_a_routes_own_key_wins_over_the_default(reader):
    top = "defaults: {timeouts: {connect: 1s, idle: 2s}, retry: {cooldown: 9s}, prefetch: true}"
    route = reader.route(NONE + "timeouts: {connect: 5s}\nprefetch: false", top)
    assert route.timeouts == Timeouts(connect=5.0, idle=2.0)
    assert route.retry == Retry(cooldown=9.0)
    assert route.prefetch is False


def test_null_takes_a_default_away(reader):
    top = "defaults: {allow: {methods: [GET]}, timeouts: {connect: 1s}}"
    route = reader.route(NONE + "allow:\ntimeouts: {connect: }", top)
    assert (route.allow, route.timeouts) == (None, Timeouts())


def test_auth_is_replaced_as_a_whole(reader):
    top = "defaults: {auth: {grant: static, token: x, scheme: Token}}"
    assert reader.route("upstream: https://x", top).grant == Static(token=SecretStr("x"), scheme="Token")
    assert reader.route(NONE, top).grant == NoGrant()


def test_a_fault_in_the_defaults_is_told_once_at_its_place(reader):
    text = """\
defaults: {timeouts: {conect: 1s}}
routes:
  - {name: a, upstream: https://x, auth: {grant: none}}
  - {name: b, path: /b, upstream: https://x, auth: {grant: none}}
"""
    assert reader.fault(text) == "1:23: defaults.timeouts.conect: unknown key; did you mean `connect`?"


# ── twins ────────────────────────────────────────────────────────────────────────────────────────


def routes(*keys):
    lines = [f"  - {{upstream: https://x, auth: {{grant: none}}, {each}}}" for each in keys]
    return "routes:\n" + "\n".join(lines)


def test_a_name_is_given_once(reader):
    assert reader.fault(routes("name: a", "name: a, path: /b")) == (
        "3:54: routes[1].name: is the name of an earlier route"
    )


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ("path: /a", "path: /a", ".path"),
        ("path: /", "strip_path: true", ""),
        ("host: a.test", "host: A.test", ".host"),
        ("host: a.test, path: /x", "host: a.test, path: /x", ".path"),
    ],
)
def test_a_place_is_taken_once(reader, first, second, key):
    fault = reader.fault(routes(f"name: a, {first}", f"name: b, {second}"))
    assert fault.endswith(
        f"routes[1]{key}: is mounted where an earlier route is: give it another `path` or `host`"
    )


def test_the_same_path_on_another_host_is_another_place(reader):
    reader.config(
        routes("name: a, path: /x", "name: b, path: /x, host: a.test", "name: c, path: /x, host: b.test")
    )


# ── overrides from the command line ──────────────────────────────────────────────────────────────


def test_the_command_line_wins_over_the_file(reader):
    text = reader.with_route(NONE, "listen: 127.0.0.1:1\nlog: {format: json}")
    config = reader.config(
        text, overrides={"listen": ["127.0.0.1:0"], "admin": False, "log": {"level": "debug"}}
    )
    assert (config.listen, config.admin) == (("127.0.0.1:0",), None)
    assert (config.log.format, config.log.level) == ("json", "debug")
    assert config.file.endswith("proxy.yaml")


def test_what_the_command_line_says_is_checked_too(reader):
    (fault,) = reader.faults(reader.with_route(NONE), overrides={"listen": ["0.0.0.0:1"]})
    assert fault.startswith("command line:1:1: listen[0]: lets other machines")


# ── reading again ────────────────────────────────────────────────────────────────────────────────


def from_file(reader, **secrets):
    for name, secret in secrets.items():
        (reader.directory / name).write_text(secret)
    return reader.route("upstream: https://x\nauth: {grant: static, token: '${file:secret}'}")


async def test_an_unchanged_file_gives_an_equal_grant(reader):
    route = from_file(reader, secret="old")
    assert await route.reload() == route.grant


async def test_a_rotated_file_gives_another_grant(reader):
    route = from_file(reader, secret="old")
    from_file(reader, secret="new")
    assert (await route.reload()).token.get_secret_value() == "new"
    assert route.grant.token.get_secret_value() == "old"


async def test_a_file_that_is_gone_gives_none(reader):
    route = from_file(reader, secret="old")
    (reader.directory / "secret").unlink()
    assert await route.reload() is None


async def test_a_secret_that_will_not_do_gives_none(reader):
    (reader.directory / "name").write_text("joe")
    route = reader.route("upstream: https://x\nauth: {grant: basic, username: '${file:name}', password: x}")
    (reader.directory / "name").write_text("jo:e")
    assert await route.reload() is None


async def test_a_token_url_that_turns_to_plain_http_gives_none(reader):
    (reader.directory / "url").write_text("https://x")
    route = reader.route("upstream: https://x\nauth: {grant: token_request, url: '${file:url}'}")
    (reader.directory / "url").write_text("http://x")
    assert await route.reload() is None


async def test_a_command_is_run_again_but_not_within_five_seconds(reader, program, clock, monkeypatch):
    monkeypatch.setattr(read, "monotonic", clock)
    program("echo x >> count; wc -l < count | tr -d ' '")
    route = reader.route("upstream: https://x\nauth: {grant: static, token: '${command:./program}'}")
    assert route.grant.token.get_secret_value() == "1"
    assert (await route.reload()).token.get_secret_value() == "2"
    clock.advance(4.9)
    assert (await route.reload()).token.get_secret_value() == "2"
    clock.advance(0.2)
    assert (await route.reload()).token.get_secret_value() == "3"


async def test_a_file_is_read_again_while_a_command_beside_it_waits(reader, program):
    (reader.directory / "name").write_text("joe")
    program("echo x >> count; wc -l < count | tr -d ' '")
    route = reader.route(
        "upstream: https://x\n"
        "auth: {grant: basic, username: '${file:name}', password: '${command:./program}'}"
    )
    await route.reload()
    (reader.directory / "name").write_text("jane")
    fresh = await route.reload()
    assert (fresh.username, fresh.password.get_secret_value()) == ("jane", "2")


async def test_the_environment_stays_as_it_was(reader):
    reader.environ = {"NAME": "joe"}
    (reader.directory / "secret").write_text("a")
    route = reader.route(
        "upstream: https://x\nauth: {grant: basic, username: '${NAME}', password: '${file:secret}'}"
    )
    reader.environ["NAME"] = "jane"
    (reader.directory / "secret").write_text("b")
    assert await route.reload() == Basic(username="joe", password=SecretStr("b"))


async def test_reading_again_does_not_hold_up_the_loop(reader, program):
    program(
        "test -e ready || { touch ready; echo old; exit 0; }; until test -e go; do sleep 0.01; done; echo x"
    )
    route = reader.route("upstream: https://x\nauth: {grant: static, token: '${command:./program}'}")
    reading = asyncio.create_task(route.reload())
    await asyncio.sleep(0)
    (reader.directory / "go").touch()
    assert (await reading).token.get_secret_value() == "x"


@pytest.mark.parametrize("auth", ["{grant: static, token: '${PASSWORD}'}", "{grant: static, token: x}"])
def test_there_is_nothing_to_read_again(reader, auth):
    assert reader.route(f"upstream: https://x\nauth: {auth}").reload is None


async def test_a_presets_secrets_are_read_again(reader):
    (reader.directory / "secret").write_text("old")
    route = reader.route(
        "upstream: https://x/\nauth: {preset: password-login, username: a, password: '${file:secret}'}"
    )
    (reader.directory / "secret").write_text("new")
    again = await route.reload()
    assert again.form["password"].get_secret_value() == "new"
    assert again.url == "https://x/authorization"


# ── credentials ──────────────────────────────────────────────────────────────────────────────────


def test_routes_with_equal_auth_share_a_key(reader):
    text = """\
routes:
  - {name: a, path: /a, upstream: https://x, auth: {grant: static, token: x}}
  - {name: b, path: /b, upstream: https://y, auth: {grant: static, token: x}}
  - {name: c, path: /c, upstream: https://x, auth: {grant: static, token: y}}
"""
    one, two, three = (route.key for route in reader.config(text).routes)
    assert one == two != three
