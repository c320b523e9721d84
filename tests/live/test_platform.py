"""Where the system lacks something: a home directory, a current directory, a place to write, a character.

What comes of that is a sentence that says what to do, never a traceback.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from .command import GUARD, authproxy, running_proxy, write_config
from .wire import Upstream, get

LOGIN = {
    "grant": "authorization_code",
    "authorization_url": "http://127.0.0.1:1/authorize",
    "token_url": "http://127.0.0.1:1/token",
    "client_id": "x",
}
# A container's user is often a number that the system has no entry for.
NOBODY = """
import os, pwd, sys
del os.environ["HOME"]
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
from authproxy.cli import main
main()
"""
HOMELESS = "there is no home directory: HOME is not set, and the system has no entry for this user"


def config(auth: Mapping[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    route = {"name": "api", "upstream": "http://127.0.0.1:1", "auth": auth or {"grant": "none"}}
    return {"listen": "127.0.0.1:0", "admin": False, "routes": [route], **top}


def run(
    *command: str, directory: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        command, cwd=directory, env={"PATH": os.environ["PATH"], "HOME": str(directory), **(env or {})},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GUARD, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    return ended


def homeless(*args: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", NOBODY, *args, directory=directory)


# ── no home ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["run", "check", "routes", "healthcheck"])
def test_without_a_home_directory_the_configuration_is_looked_for_elsewhere(
    verb: str, tmp_path: Path
) -> None:
    ended = homeless(verb, directory=tmp_path)
    assert ended.returncode == 2
    assert "/etc/authproxy/config.yaml" in ended.stdout + ended.stderr
    assert HOMELESS in ended.stdout + ended.stderr


@pytest.mark.parametrize("args", [["run"], ["token", "api"], ["login", "api"], ["logout", "api"]])
def test_a_login_cannot_be_kept_without_a_home_directory(args: list[str], tmp_path: Path) -> None:
    file = write_config(tmp_path, config(LOGIN))
    ended = homeless(*args, "-c", str(file), directory=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"tokens cannot be kept: {HOMELESS}" in ended.stderr
    assert "token_store: {type: file, path: …}" in ended.stderr
    assert {each.name for each in tmp_path.iterdir()} == {file.name}, "nor in a directory that is called ~"


def test_a_home_directory_is_not_needed_where_the_file_is_named(tmp_path: Path) -> None:
    file = write_config(tmp_path, config(LOGIN, token_store={"type": "file", "path": "kept/tokens"}))
    ended = homeless("token", "api", "-c", str(file), directory=tmp_path)
    assert ended.returncode == 1
    assert "a person must log in" in ended.stderr


@pytest.mark.parametrize("named", ["~/x.yaml", "~nobody-of-that-name/x.yaml"])
def test_a_configuration_in_a_home_that_does_not_exist_is_said_plainly(named: str, tmp_path: Path) -> None:
    ended = homeless("check", "-c", named, directory=tmp_path)
    assert ended.returncode == 2
    assert f"{named}:1:1: names a home directory (~) that does not exist" in ended.stdout + ended.stderr


# ── no place to be, nor to write ─────────────────────────────────────────────────────────────────


def test_a_current_directory_that_is_gone_hinders_nobody_who_names_the_file(tmp_path: Path) -> None:
    file, gone = write_config(tmp_path, config()), tmp_path / "gone"
    for args, code in ((["-c", str(file)], 0), (["-c", "relative.yaml"], 2), ([], 2)):
        gone.mkdir()
        script = 'rmdir "$PWD"; exec "$@"'
        main = [sys.executable, "-P", "-c", "from authproxy.cli import main; main()"]
        ended = run("sh", "-c", script, "sh", *main, "check", *args, directory=gone)
        assert ended.returncode == code, ended.stdout + ended.stderr


def test_a_proxy_without_a_file_runs_where_the_current_directory_is_gone(tmp_path: Path) -> None:
    with Upstream() as upstream:
        gone = 'mkdir gone && cd gone && rmdir "$PWD" && exec "$@"'
        code = "import sys; sys.argv[0] = 'authproxy'; from authproxy.cli import main; main()"
        args = ["run", "--upstream", upstream.url, "--listen", "127.0.0.1:0", "--no-admin"]
        process = subprocess.Popen(
            ["sh", "-c", gone, "sh", sys.executable, "-P", "-c", code, *args],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert get(line.removeprefix("listening on ")).status == 200
        finally:
            process.terminate()
            _, log = process.communicate(timeout=GUARD)
        assert (process.returncode, log.count("Traceback")) == (0, 0)


def test_a_place_for_tokens_that_cannot_be_made_is_said_and_the_proxy_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # stands for a read-only file system, also for root
    store = {"type": "file", "path": str(tmp_path / "file" / "tokens")}
    for verb in ("login", "logout"):
        ended = authproxy(verb, "api", config=config(LOGIN, token_store=store))
        assert (ended.returncode, ended.stdout) == (1, "")
        assert f"{tmp_path / 'file'}" in ended.stderr
        assert "Traceback" not in ended.stderr
    with running_proxy(config(LOGIN, token_store=store)) as proxy:
        assert get(proxy.url).status == 503
        assert "Traceback" not in proxy.wait_for_log("token store unavailable")
