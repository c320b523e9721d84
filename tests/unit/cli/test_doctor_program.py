"""`authproxy doctor --forward`: a program is run, and what came meanwhile is judged. Nothing is started."""

import json
from types import SimpleNamespace

import pytest

from authproxy.app.child import NotStarted
from authproxy.cli import doctor_program as module
from authproxy.observe.record import RequestRecord

TUNNEL = "fixed.example:443"


@pytest.fixture
def world(monkeypatch):
    """What is told to whoever watches while the program runs, and its exit code."""
    made = SimpleNamespace(code=0, came=[])

    def run_beside(served, command, program_of, *, retry_rejected, to_stderr, watcher):
        made.served, made.command, made.to_stderr = served, command, to_stderr
        made.program = program_of(None)
        if isinstance(made.code, Exception):
            raise made.code
        for place, named, record in made.came:
            watcher.secured(place, named)
            watcher.answered(record)
        return made.code

    monkeypatch.setattr(module, "run_beside", run_beside)
    return made


def got(status=200, path="/v1", token="added"):
    facts = SimpleNamespace(listener=f"forward https://{TUNNEL}")
    record = RequestRecord(
        *(0.0, 0.0, "fixed", "GET", path, status, 0, False, None, 0.0, path, b"", b"", facts, token, 0, None)
    )
    return TUNNEL, "fixed.example", record


def test_a_program_that_comes_and_trusts_is_exit_code_0(world, write, run):
    world.came = [got()]
    result = run("doctor", "-c", write(), "--forward", "fixed", "--", "/usr/bin/program", "-x")
    assert world.command == ["/usr/bin/program", "-x"]
    assert world.to_stderr
    assert [route.name for route in world.served.routes] == ["fixed"]
    assert world.served.forward_key is not None
    assert "program: exit code 0" in result.stdout
    assert "fixed.example:443: our certificate was accepted" in result.stdout
    assert "GET /v1 answered 200" in result.stdout
    assert result.stdout.endswith("\nthe program comes by the proxy, and trusts it\n")


def test_what_it_brings_along_is_told_of_only_where_the_route_adds_something(world, write, run):
    world.came = [got(status=401, token=None)]
    result = run("doctor", "-c", write(), "--forward", "fixed", "--", "program", exits=1)
    assert "a credential of its own, which is forwarded unchanged: set `incoming: replace`" in result.stdout


def test_its_own_exit_code_is_told_and_does_not_count(world, write, run):
    world.came, world.code = [got()], 3
    assert "program: exit code 3" in run("doctor", "-c", write(), "--forward", "--", "program").stdout


def test_one_that_does_not_come_is_exit_code_1(world, write, run):
    result = run("doctor", "-c", write(), "--forward", "fixed", "--", "program", exits=1)
    assert "it does not use HTTPS_PROXY" in result.stdout
    assert result.stdout.endswith("failed: program\n")


def test_one_that_cannot_be_run_is_exit_code_1(world, write, run):
    world.code = NotStarted(FileNotFoundError(2, "No such file or directory"), "program")
    result = run("doctor", "-c", write(), "--forward", "--", "program", exits=1)
    assert "cannot run program: command not found" in result.stdout


def test_the_document_has_the_same_and_neither_tells_a_secret(world, write, run):
    world.came = [got(path="/the-token")]
    text = run("doctor", "-c", write(), "--forward", "fixed", "plain", "--", "program").stdout
    result = run("doctor", "-c", write(), "--json", "--forward", "fixed", "plain", "--", "program")
    document = json.loads(result.stdout)
    assert [step["name"] for step in document["proxy"]["steps"]] == ["config", "program", "proxy"]
    assert [each["name"] for each in document["routes"]] == ["fixed", "plain"]
    assert [step["ok"] for step in document["routes"][1]["steps"]] == [None, None]
    assert document["ok"]
    assert "the-token" not in text + result.stdout


def test_with_java_the_listener_wants_no_key(world, write, run):
    world.came = [got()]
    run("doctor", "-c", write(), "--forward", "--java", "fixed", "--", "program")
    assert world.served.forward_key is None
    assert world.program.java


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--forward"], "put -- before COMMAND: authproxy doctor --forward [ROUTE]... -- COMMAND"),
        (["--forward", "fixed", "--"], "COMMAND is missing after --: authproxy doctor --forward"),
        (["--", "program"], "a COMMAND goes with --forward"),
        (["--java"], "a COMMAND goes with --forward"),
        (["--forward", "--path", "/x", "--", "program"], "--path and --method are no use"),
        (["fixed", "plain"], "name one ROUTE"),
        (["--forward", "nobody", "--", "program"], "there is no route 'nobody'"),
    ],
)
def test_bad_usage_is_exit_code_2_and_the_way_is_told(world, write, run, args, says):
    assert says in run("doctor", "-c", write(), *args, exits=2).stderr
