"""What of a faulty configuration is sound, and what is not read again."""

import pytest

from authproxy.config.salvage import salvage
from authproxy.errors import ConfigError

ROUTE = """\
  - name: {name}
    path: /{name}
    upstream: https://{name}.example
    auth: {auth}
"""
GOOD = "{grant: static, token: t0k}"


def salvaged(tmp_path, *routes, top="", **environ):
    path = tmp_path / "authproxy.yaml"
    listed = "".join(ROUTE.format(name=name, auth=auth) for name, auth in routes)
    path.write_text(f"{top}routes:\n{listed}")
    return salvage(path, environ=environ)


def names(found):
    return [route.name for route in found.config.routes] if found.config is not None else []


def test_a_sound_file_is_whole(tmp_path):
    found = salvaged(tmp_path, ("a", GOOD), ("b", "{grant: static, token: '${TOKEN}'}"), TOKEN="x")
    assert not found.has_faults
    assert names(found) == ["a", "b"]
    assert found.routes[1].references == ("${TOKEN}",)
    assert found.routes[1].place.endswith("authproxy.yaml:6:5")


@pytest.mark.parametrize(
    "bad",
    ["{grant: static", "{grant: 'static", "{grant: statik}", "{grant: static}", "[", "{grant: none, y: 1}"],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_bad_route_is_set_aside_and_the_others_stay(tmp_path, bad, last):
    routes = [("a", GOOD), ("bad", bad), ("b", GOOD)]
    found = salvaged(tmp_path, *(routes[:2] if last else routes))
    assert found.has_faults
    assert names(found) == (["a"] if last else ["a", "b"])
    (broken,) = (route for route in found.routes if route.config is None)
    assert broken.name == "bad"
    assert all(6 <= fault.line <= 10 for fault in broken.faults)


def test_faults_of_sources_are_told_apart(tmp_path):
    found = salvaged(tmp_path, ("a", "{grant: static, token: '${NO}', x: 1}"), ("b", GOOD))
    (bad, _) = found.routes
    assert [fault.key for fault in bad.source_faults] == ["routes[0].auth.token"]
    assert [fault.key for fault in bad.faults] == ["routes[0].auth.x"]


@pytest.mark.parametrize(
    ("top", "whole", "left"),
    [
        ("listen: nowhere\n", True, ["a"]),
        ("workers: x\nlog: {levl: info}\n", True, ["a"]),
        ("token_store: {type: nowhere}\n", False, ["a"]),
        ("lissen: 127.0.0.1:1\n", False, ["a"]),
        ("defaults: {http_proxi: x}\n", True, []),
    ],
)
def test_a_fault_of_the_top_is_passed_over_where_it_does_no_harm(tmp_path, top, whole, left):
    found = salvaged(tmp_path, ("a", GOOD), top=top)
    assert found.faults
    assert (found.is_whole, names(found)) == (whole, left)


def test_what_a_command_gave_is_not_asked_for_again(tmp_path):
    script = tmp_path / "secret.sh"
    script.write_text("#!/bin/sh\necho again >> ran\necho the-token\n")
    script.chmod(0o700)
    found = salvaged(tmp_path, ("a", f"{{grant: static, token: '${{command:{script}}}'}}"), ("b", "{}"))
    assert names(found) == ["a"]
    assert (tmp_path / "ran").read_text() == "again\n"


def test_a_file_that_cannot_be_opened_is_no_case_for_this(tmp_path):
    with pytest.raises(ConfigError):
        salvage(tmp_path / "missing")


def test_text_that_is_not_yaml_at_its_top_has_nothing_to_salvage(tmp_path):
    path = tmp_path / "authproxy.yaml"
    path.write_text("listen: [\nroutes:\n  - name: a\n")
    found = salvage(path)
    assert found.config is None
    assert found.faults
    assert found.routes == ()
