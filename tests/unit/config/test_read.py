import errno
from pathlib import Path

import pytest

from authproxy.config import read
from authproxy.config.layers import EACH
from authproxy.config.read import NO_MAPPING, load
from authproxy.errors import ConfigError
from authproxy.grants.registry import GRANTS
from authproxy.places import stamp_of

GRANT_NAMES = "choose from " + ", ".join(GRANTS)
NONE = "auth: {grant: none}\nupstream: https://x\n"


def test_a_file_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfroutes: [{name: a, upstream: 'https://x', auth: {grant: none}}]")
    assert load(path).routes[0].name == "a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "is not UTF-8 text; save it as UTF-8"),
        ("routes: []".encode("utf-16"), "is UTF-16, not UTF-8 text; save it as UTF-8"),
        (b"", "is empty; `authproxy init` writes one to begin with"),
        (b"- a", NO_MAPPING),
        (b"a" * 200, "is larger than 0 MiB"),
    ],
)
def test_a_file_of_something_else_is_a_fault_in_its_first_line(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(read, "MAX_FILE", 100)
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value) == f"{path}:1:1: {message}"


def test_a_file_that_is_not_there_has_no_line(tmp_path):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "a.yaml")
    assert str(raised.value) == f"authproxy: {tmp_path}/a.yaml: cannot be read: No such file or directory"
    assert "`authproxy demo`" in raised.value.hint


def test_a_file_that_we_may_not_read_is_told_with_who_has_to(tmp_path, monkeypatch):
    def refuse(*_args, **_keys):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=": cannot be read: Permission denied") as raised:
        load(tmp_path / "a.yaml")
    assert "the user that authproxy runs as" in raised.value.hint


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match=": cannot be read: Is a directory") as raised:
        load(tmp_path)
    assert raised.value.hint == f"name the file in it: -c {tmp_path}/authproxy.yaml"
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    assert raised.value.hint == f"name the file in it: -c {tmp_path}/config.yaml"


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
        (
            "5:15: routes[0].upstream: environment variable NOBODY is not set (reference ${NOBODY}); "
            "set it, or give a default: ${NOBODY:-…}"
        ),
        "6:11: routes[0].auth.token: is required (the token, as it was issued)",
        (
            "8:11: routes[1].path: should be a path that begins with / and does not end with one, without "
            "query, fragment or %"
        ),
        f"10:19: routes[1].auth.grant: unknown grant ({GRANT_NAMES})",
        "11:5: routes[2].auth: is required; for plain forwarding `auth: {grant: none}`",
        "11:5: routes[2].name: is required (unique; lower-case letters, digits and hyphens)",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("listen: 127.0.0.1:1", f"1:1: routes: is required: a list, {EACH}"),
        ("routes: []", f"1:9: routes: should be a list with at least one route, {EACH}"),
        ("routes: {}", f"1:9: routes: should be a list, not a mapping, {EACH}"),
        ("routes:", f"1:8: routes: should be a list with at least one route, {EACH}"),
        ("routes: [x]", "1:10: routes[0]: should be a mapping: `name`, `upstream`, `auth` and so on"),
        (
            "defaults: x\nroutes: [{name: a, upstream: 'https://x', auth: {grant: none}}]",
            "1:11: defaults: should be a mapping: any keys of a route",
        ),
    ],
)
def test_the_shape_of_the_file(reader, text, fault):
    assert reader.fault(text) == fault


def test_numbers_and_switches_may_come_from_references(reader):
    reader.environ = {"MANY": "7", "YES": "true", "LONG": "2m"}
    keys = NONE + "max_connections: ${MANY}\nprefetch: ${YES}\ntimeouts: {idle: '${LONG}'}"
    route = reader.route(keys)
    assert (route.max_connections, route.prefetch, route.timeouts.idle) == (7, True, 120.0)


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
    assert fault.startswith("authproxy: command line: --listen: lets other machines")


# ── variables that held secrets ──────────────────────────────────────────────────────────────────

ROUTE = """
upstream: "${UPSTREAM}"
headers: {set: {X-Key: "${KEY}", X-Home: "${HOME}"}}
http_proxy: "${HTTPS_PROXY}"
auth:
  {grant: password, token_url: "https://${HOST}/t", username: "${NAME}", password: "${A:-${B}}", client_id: x}
"""
VARIABLES = {
    "UPSTREAM": "https://x", "KEY": "k", "HOME": "/h", "HTTPS_PROXY": "http://p:1", "HOST": "h",
    "NAME": "n", "B": "b", "STORE": "s", "UNUSED": "u", "ACCESS": "a",
}  # fmt: skip


def test_variables_are_secret_that_gave_what_the_schema_calls_secret_but_for_those_that_all_need(reader):
    reader.environ = VARIABLES
    top = "access: {tokens: ['${ACCESS}']}\ntoken_store: {type: file, path: '${HOME}/t', key: '${STORE}'}"
    config = reader.config(reader.with_route(ROUTE, top))
    assert config.secret_variables == {"KEY", "A", "B", "STORE", "ACCESS"}


def test_of_a_preset_those_are_secret_that_its_grant_takes_for_secret(reader):
    reader.environ = {"USER_NAME": "n", "PASSWORD": "p"}
    auth = "auth: {preset: password-login, username: '${USER_NAME}', password: '${PASSWORD}'}"
    route = reader.with_route(f"upstream: https://x\n{auth}")
    assert "PASSWORD" in reader.config(route).secret_variables


def test_a_program_that_is_run_to_read_the_file_is_not_given_them(reader, program, monkeypatch):
    monkeypatch.setenv("PASSWORD", "s3cr3t")
    monkeypatch.setenv("ANOTHER", "fine")
    path = program("echo ${PASSWORD-nothing}-$ANOTHER")
    reader.environ = {"PASSWORD": "s3cr3t"}
    top = f"token_store: {{type: file, path: t, key: '${{command:{path}}}'}}"
    auth = "auth: {grant: basic, username: x, password: '${PASSWORD}'}"
    config = reader.config(reader.with_route(f"upstream: https://x\n{auth}", top))
    assert config.token_store.key.get_secret_value() == "nothing-fine"


# ── secrets that others can read ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mode", "system", "warnings"),
    [(0o600, True, 0), (0o640, True, 0), (0o644, True, 1), (0o604, True, 1), (0o644, False, 0)],
)
def test_whether_others_can_read_the_file_is_told_by_its_mode(tmp_path, monkeypatch, mode, system, warnings):
    monkeypatch.setattr(read, "FILE_OWNERS", system)
    path = tmp_path / "a.yaml"
    path.write_text("routes: [{name: a, upstream: 'https://x', auth: {grant: static, token: t}}]")
    path.chmod(mode)
    found = load(path).warnings
    assert len(found) == warnings
    assert all("is a secret in a file that others can read: chmod 600" in each.message for each in found)


# ── what a reload goes by ────────────────────────────────────────────────────────────────────────


def test_every_file_that_was_read_or_will_be_is_known_as_it_was(tmp_path):
    for name in ("secret", "cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "a.yaml"
    path.write_text(
        "tls: {cert_file: cert.pem, key_file: key.pem}\n"
        "routes: [{name: a, upstream: 'https://x', tls: {ca_file: ca.pem},"
        " auth: {grant: static, token: '${file:secret}'}}]"
    )
    files = load(path).files
    assert files == {each: stamp_of(each) for each in tmp_path.iterdir()}
    assert len(files) == 5


def test_what_a_faulty_file_names_is_known_too(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("routes: [{name: a, upstream: 'https://x', auth: {grant: static, token: '${file:b}'}}]")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.files == {path: stamp_of(path), tmp_path / "b": None}
    path.write_text("[")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.files == {path: stamp_of(path)}
    path.unlink()
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.files == {path: None}


def test_a_file_counts_as_it_was_before_it_was_read(tmp_path, monkeypatch):
    """Whatever changes while it is read is to be noticed afterwards."""
    path = tmp_path / "a.yaml"
    path.write_text(f"routes: [{{name: a, path: /, {', '.join(NONE.split(chr(10))[:2])}}}]")
    before = stamp_of(path)
    parse = read.parse

    def changing(*args, **settings):
        path.write_text("something else")
        return parse(*args, **settings)

    monkeypatch.setattr(read, "parse", changing)
    assert load(path).files == {path: before}


def test_a_fault_that_shows_later_has_the_place_of_its_key(reader):
    config = reader.config(
        f"\nlisten: '127.0.0.1:1'\nroutes:\n- name: a\n  tls: {{}}\n  {NONE.replace(chr(10), chr(10) + '  ')}"
    )
    fault = config.fault("listen", "is taken")
    assert (fault.file, fault.line, fault.column, fault.key) == (config.file, 2, 9, "listen")
    assert config.fault("routes[0].tls", "is wrong").line == 5
    assert (config.fault("admin", "is taken").line, config.fault("admin", "is taken").column) == (1, 1)


# ── where the admin listener is ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("top", "where"),
    [
        ("listen: unix:/run/a/proxy.sock", "unix:/run/a/proxy-admin.sock"),
        ("listen: ['unix:/run/a/s', 'unix:/run/b/t']", "unix:/run/a/s-admin"),
        ("listen: unix:/run/a/proxy.sock\nadmin: {keep: 3}", "unix:/run/a/proxy-admin.sock"),
        ("listen: ['unix:/run/a/s', '127.0.0.1:1']", "127.0.0.1:8081"),
        ("listen: unix:/run/a/s\naccess: {tokens: [a-long-enough-key-of-callers]}", "127.0.0.1:8081"),
        ("listen: unix:/run/a/s\nadmin: {listen: '127.0.0.1:9'}", "127.0.0.1:9"),
        (f"listen: unix:/{'x' * 103}", "127.0.0.1:8081"),
    ],
)
def test_the_admin_listener_is_a_socket_where_the_proxys_are_all_sockets(reader, top, where):
    assert (
        reader.config(reader.with_route("upstream: https://x\nauth: {grant: none}", top)).admin.listen
        == where
    )


@pytest.mark.parametrize(
    ("top", "own", "where"),
    [
        ("", "unix:/run/a/own.sock", "unix:/run/a/own-admin.sock"),
        ("listen: unix:/run/a/proxy.sock", "unix:/run/b/own.sock", "unix:/run/a/proxy-admin.sock"),
        ("listen: unix:/run/a/proxy.sock", "127.0.0.1:1", "127.0.0.1:8081"),
    ],
)
def test_a_routes_own_listener_counts_among_the_proxys(reader, top, own, where):
    keys = f"upstream: https://x\nauth: {{grant: none}}\nlisten: {own}"
    assert reader.config(reader.with_route(keys, top)).admin.listen == where


# ── routes that are not needed ───────────────────────────────────────────────────────────────────

TWO = """\
routes:
  - {name: a, path: /a, upstream: 'https://a.example', auth: {grant: static, token: '${PASSWORD}'}}
  - name: b
    path: /b
    upstream: https://b.example
    auth: {grant: basic, username: '${USER_NAME}', password: '${NOT_SET}'}
    headers: {set: {X-Key: '${API_KEY}'}}
"""


def test_a_route_that_is_not_needed_may_lack_its_secrets(reader):
    reader.environ = {"PASSWORD": "hunter2", "API_KEY": "an-api-key"}
    config = reader.config(TWO, needed=["a"])
    assert [route.name for route in config.routes] == ["a"]
    assert config.secret_variables >= {"PASSWORD", "NOT_SET", "API_KEY"}  # of both


@pytest.mark.parametrize("needed", [None, ["b"], ["a", "b"]])
def test_one_that_is_needed_may_not(reader, needed):
    reader.environ = {"PASSWORD": "hunter2", "API_KEY": "an-api-key", "USER_NAME": "joe"}
    assert "NOT_SET is not set" in reader.fault(TWO, needed=needed)


def test_what_else_is_wrong_with_a_route_that_is_not_needed_is_told(reader):
    assert "unknown key" in reader.fault(
        TWO.replace("NOT_SET", "PASSWORD").replace("API_KEY", "PASSWORD").replace("path: /b", "pth: /b"),
        needed=["a"],
    )


def test_it_is_known_where_variables_and_the_log_level_stand(reader):
    text = reader.with_route(
        "upstream: https://a.example\nauth: {grant: none}\nenv: {KEY: '{url}'}", "log: {level: info}"
    )
    config = reader.config(text)
    assert config.routes[0].env == {"KEY": "{url}"}
    fault = config.routes[0].variables["KEY"].fault("x")
    assert (fault.line, fault.column, fault.key) == (6, 16, "routes[0].env.KEY")
    assert config.place("log.level") == f"{config.file}:1:14"
    assert (
        reader.config(TWO.replace("NOT_SET", "PASSWORD").replace("API_KEY", "PASSWORD")).place("log.level")
        is None
    )
