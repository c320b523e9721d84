"""The nets of `tests/conftest.py` hold: no test reaches the home, the keyring or the network of who runs it.

What would reach for them runs in a pytest of its own, under the same `conftest`, and has to fail there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launch import environment

pwd = pytest.importorskip("pwd")  # which Windows has not; there is no other way to the real home

ROOT = Path(__file__).parents[2]
NOWHERE = "192.0.2.1"  # of a network that is not there (RFC 5737), should a net be gone
REAL_HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)


def outcome(directory, body, **env):
    """Run a test of `body` under the nets; return its outcome and what was said about it."""
    lines = ["import contextlib, os, pathlib, socket, pytest", "def test_it():"]
    (directory / "test_inside.py").write_text("\n".join([*lines, *(f"    {line}" for line in body)]))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT), "AUTHPROXY_REQUIRE_ALL": "", **env},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    "reach",
    [
        f"socket.create_connection(('{NOWHERE}', 9), 0.1)",
        "socket.create_connection(('2001:db8::1', 9), 0.1)",
        f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{NOWHERE}', 9))",
        "socket.getaddrinfo('api.example', 443)",
    ],
)
def test_who_reaches_for_the_network_fails_even_if_nothing_comes_of_it(tmp_path, reach):
    code, said = outcome(tmp_path, ["with contextlib.suppress(BaseException):", f"    {reach}"])
    assert code == 1, said
    assert "reached for the network" in said


def test_this_machine_may_be_reached(tmp_path):
    body = ["with socket.create_server(('127.0.0.1', 0)) as server:",
            "    socket.create_connection(('localhost', server.getsockname()[1])).close()"]  # fmt: skip
    code, said = outcome(tmp_path, body)
    assert code == 0, said


def test_the_home_is_another_one(tmp_path):
    theirs = {name: str(tmp_path) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    body = [
        "from authproxy import places",
        "for place in (pathlib.Path.home(), places.config_directory(), places.state_directory()):",
        f"    assert not place.is_relative_to({str(tmp_path)!r})",
        f"    assert not place.is_relative_to({str(REAL_HOME)!r})",
    ]
    code, said = outcome(tmp_path, body, **theirs)
    assert code == 0, said


def test_there_is_no_keyring(tmp_path):
    theirs = {
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={tmp_path}",
    }
    body = [
        "import keyring, keyring.backends.fail",
        "assert isinstance(keyring.get_keyring(), keyring.backends.fail.Keyring)",
        "assert 'DBUS_SESSION_BUS_ADDRESS' not in os.environ",
    ]
    code, said = outcome(tmp_path, body, **theirs)
    assert code == 0, said


def test_the_command_that_tests_start_gets_the_same(tmp_path):
    given = environment(tmp_path)
    assert given["HOME"] == str(tmp_path)
    assert given["PYTHON_KEYRING_BACKEND"] == "keyring.backends.fail.Keyring"
    assert not [name for name in given if name.startswith("XDG_") or name.lower().endswith("_proxy")]


@pytest.mark.parametrize(("required", "code"), [("1", 1), ("", 0)])
def test_a_skipped_test_fails_where_everything_must_be_there(tmp_path, required, code):
    ended, said = outcome(tmp_path, ["pytest.skip('not here')"], AUTHPROXY_REQUIRE_ALL=required)
    assert ended == code, said
