"""What is wrong with a route's part of the file, and what mends it."""

import pytest

from authproxy.app.doctor.configuration import cause, next_step, note_route
from authproxy.app.doctor.steps import Steps
from authproxy.config.salvage import FoundRoute
from authproxy.errors import Fault

from .test_steps import Told


def fault(message, key="routes[0].auth.token"):
    return Fault("a.yaml", 3, 4, key, message)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("environment variable A_TOKEN is not set (reference ${A_TOKEN})", "set A_TOKEN where"),
        ("is empty: ${file:x} gave nothing", "give ${file:x} a value"),
        ("cannot be read: No such file or directory", "correct the path"),
        ("the file cannot be read: No such file (reference ${file:x})", "correct the path"),
        ("the value of ${file:x} begins with a byte order mark", "save the file"),
        ("ends in whitespace", "take it out"),
        ("the program failed with exit code 1", "by hand"),
        ("is not YAML: x", "indentation"),
        ("unknown key; did you mean `token`?", "as suggested"),
        ("needs the package redis, which is not installed: pip install 'authproxy[redis]'", "install what"),
        ("should be a word", "correct `routes[0].auth.token` in a.yaml:3:4"),
    ],
)
def test_a_fault_leads_to_what_mends_it(message, says):
    assert says in next_step((fault(message),))


def noted(found):
    steps = Steps(Told())
    note_route(found, None, steps)
    return {step.name: step.verdict for step in steps.taken}


def test_faults_of_the_route_and_of_its_sources_are_two_steps():
    verdicts = noted(
        FoundRoute("a", "a.yaml:1:1", "routes[0]", None, (fault("x"),), (fault("is not set"),), ("${A}",))
    )
    assert [verdict.ok for verdict in verdicts.values()] == [False, False]
    assert verdicts["secrets"].detail == "${A}"
    assert verdicts["config"].cause == cause((fault("x"),)) == "a.yaml:3:4: routes[0].auth.token: x"


def test_what_was_not_read_is_not_said_to_be_sound():
    assert noted(FoundRoute("a", "a.yaml:1:1", "", None, (fault("is not YAML"),)))["secrets"].ok is None
    assert noted(FoundRoute("a", "a.yaml:1:1", "routes[0]"))["config"].ok is None
