"""`authproxy exec`: what is served beside which program, and with which variables. Nothing is started."""

import os
from types import SimpleNamespace

import click
import pytest

from authproxy.app.child import NotStarted
from authproxy.app.refused_tunnels import RefusedTunnels
from authproxy.cli import program as module
from authproxy.cli.exec import exec as verb
from authproxy.cli.program import COMMAND
from tests.unit.cli.conftest import CONFIG
from tests.unit.cli.programs import opened

SECRETS = """\
log: {{format: json}}
access: {{tokens: ["${{KEY}}"]}}
routes:
  - {{name: a, path: /a, upstream: 'https://a.example', auth: {{grant: static, token: '${{A_TOKEN}}'}}}}
  - name: b
    listen: 127.0.0.1:1
    upstream: https://b.example
    auth: {{grant: static, token: '${{B_TOKEN}}'}}
"""


@pytest.fixture
def world(monkeypatch):
    """Return what was to be served beside what; the program ends with 7, or does not start for `error`."""
    made = SimpleNamespace(error=None)

    def serve_beside(config, listeners, tls, start, *, retry_rejected, watcher):
        made.watcher = watcher
        made.config, made.listeners, made.retry_rejected = config, listeners, retry_rejected
        start(None)

    def child(command, environ, _mask, *, to_stderr):
        made.command, made.environ = command, environ

    def run_loop(_work):
        if made.error is not None:
            raise NotStarted(made.error, "program")
        return 7

    monkeypatch.setattr(module, "open_listeners", opened)
    monkeypatch.setattr(module, "Child", child)
    monkeypatch.setattr(module, "hold_signals", frozenset)
    monkeypatch.setattr(module, "raise_file_limit", lambda config: None)
    monkeypatch.setattr(module, "serve_beside", serve_beside)
    monkeypatch.setattr(module, "run_loop", run_loop)
    for name in ("A_TOKEN", "B_TOKEN", "KEY"):
        monkeypatch.setenv(name, f"the-value-of-{name}")
    return made


def test_all_routes_are_served_to_this_machine_and_nothing_else(world, write, run):
    run("exec", "-c", write(SECRETS), "--retry-rejected", "--", "program", "-c", "x")
    config = world.config
    assert world.command == ["program", "-c", "x"]
    assert [(route.name, route.listen) for route in config.routes] == [
        ("a", "127.0.0.1:0"),
        ("b", "127.0.0.1:0"),
    ]
    assert (config.admin, config.access, config.tls, config.workers) == (None, None, None, 1)
    assert (config.listen, config.limits.drain) == (("127.0.0.1:0",), 1.0)
    assert (config.log.level, config.log.format) == ("warning", "json")
    assert world.retry_rejected
    assert {"A_URL", "B_URL", "AUTHPROXY_URL"} <= set(world.environ)
    assert not {"A_TOKEN", "B_TOKEN", "KEY"} & set(world.environ)
    assert "PATH" in world.environ


@pytest.mark.parametrize(
    ("route", "listen", "common"),
    [("a", ("127.0.0.1:0",), "http://127.0.0.1:5001"), ("b", (), "http://127.0.0.1:5001")],
)
def test_a_route_is_where_all_are_only_if_the_configuration_mounts_it_there(
    world, write, run, route, listen, common
):
    run("exec", "-c", write(SECRETS), route, route, "--", "program")
    assert [each.name for each in world.config.routes] == [route]
    assert world.config.listen == listen
    assert world.environ["AUTHPROXY_URL"] == common


def test_what_is_to_be_inherited_is(world, write, run):
    run("exec", "-c", write(SECRETS), "--inherit", "A_TOKEN", "a", "--", "program")
    assert world.environ["A_TOKEN"] == "the-value-of-A_TOKEN"
    assert "B_TOKEN" not in world.environ
    assert "A_TOKEN" not in os.environ  # our own


@pytest.mark.parametrize(
    ("top", "args", "level"),
    [
        ("", [], "warning"),
        ("log: {{access: false}}\n", [], "warning"),
        ("log: {{level: info}}\n", [], "info"),
        ("log: {{level: debug}}\n", [], "debug"),
        ("log: {{level: debug}}\n", ["--log-level", "error"], "error"),
    ],
)
def test_little_is_logged_unless_somebody_says_otherwise(world, write, run, top, args, level):
    run("exec", "-c", write(top + CONFIG), *args, "--", "program")
    assert world.config.log.level == level


def test_what_did_not_start_has_its_code(world, write, run):
    world.error = FileNotFoundError(2, "No such file or directory")
    result = run("exec", "-c", write(), "plain", "--", "program", standalone_mode=False)
    assert result.return_value == 127
    assert result.stderr == "authproxy: cannot run program: command not found\n"


@pytest.mark.parametrize("args", [(), ("plain",), ("plain", "--")])
def test_without_a_command_the_usage_is_told(world, write, run, args):
    result = run("exec", "-c", write(), *args, exits=2)
    fault = "COMMAND is missing after --" if "--" in args else "put -- before COMMAND"
    assert f"{fault}: authproxy exec [ROUTE]... -- COMMAND [ARG]..." in result.stderr


def test_an_unknown_route_is_told_of(world, write, run):
    assert "there is no route 'plane'" in run("exec", "-c", write(), "plane", "--", "x", exits=2).stderr


def test_tab_offers_routes_and_behind_the_dashes_leaves_it_to_the_shell(write):
    file = write()
    argument = next(each for each in verb.params if each.name == "routes")

    def offered(*args):
        with click.Context(verb, info_name="exec", resilient_parsing=True) as context:
            verb.parse_args(context, ["-c", file, *args])
            return [
                item.type if item.type != "plain" else item.value
                for item in argument.shell_complete(context, "")
            ]

    assert offered() == ["fixed", "plain", "person"]
    assert offered("--", "ls") == ["file"]
    assert COMMAND.startswith("authproxy")


# ── --forward ────────────────────────────────────────────────────────────────────────────────────


def test_a_forward_listener_is_there_only_where_it_is_asked_for(world, write, run):
    run("exec", "-c", write("forward: {{unmatched: refuse}}\n" + CONFIG), "--", "program")
    assert (world.config.forward, world.config.forward_key) == (None, None)
    assert world.watcher is None
    assert "HTTPS_PROXY" not in world.environ


@pytest.mark.parametrize("top", ["", "forward: {{unmatched: refuse, listen: '127.0.0.1:1'}}\n"])
def test_the_forward_listener_is_as_it_is_written_but_at_a_free_port_and_with_a_key(world, write, run, top):
    run("exec", "-c", write(top + CONFIG), "--forward", "plain", "--", "program")
    assert world.config.forward.listen == "127.0.0.1:0"
    assert world.config.forward.tunnels == (not top)
    key = world.config.forward_key.get_secret_value()
    assert len(key) > 30
    assert world.environ["HTTPS_PROXY"] == f"http://exec:{key}@127.0.0.1:5003"


def test_connects_that_were_refused_are_told_of(world, write, run):
    run("exec", "-c", write(), "--forward", "plain", "--", "program")
    assert isinstance(world.watcher, RefusedTunnels)
    assert world.config.for_one_program


def test_with_java_it_wants_no_key(world, write, run):
    run("exec", "-c", write(), "--forward", "--java", "plain", "--", "program")
    assert world.config.forward_key is None
    assert world.environ["https_proxy"] == "http://127.0.0.1:5003"


def test_java_without_forward_is_told_of(world, write, run):
    assert "give --forward too" in run("exec", "-c", write(), "--java", "--", "program", exits=2).stderr
