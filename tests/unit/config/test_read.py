import errno
from pathlib import Path

import pytest

from authproxy.config import read
from authproxy.config.read import load
from authproxy.errors import ConfigError
from authproxy.grants import GRANTS

GRANT_NAMES = "choose from " + ", ".join(GRANTS)
NONE = "auth: {grant: none}\nupstream: https://x\n"


def test_a_file_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfroutes: [{name: a, upstream: 'https://x', auth: {grant: none}}]")
    assert load(path).routes[0].name == "a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "is not UTF-8 text"),
        (b"", "is empty"),
        (b"- a", "should be a mapping: `listen`, `routes` and so on"),
        (b"a" * 200, "is larger than 0 MiB"),
    ],
)
def test_a_file_of_something_else_is_a_fault_in_its_first_line(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(read, "LARGEST_FILE", 100)
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
    with pytest.raises(ConfigError, match=": cannot be read: Is a directory"):
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
    assert fault.startswith("command line:1:1: listen[0]: lets other machines")
