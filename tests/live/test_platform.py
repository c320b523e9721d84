"""Where the system lacks something: a home directory, a current directory, a place to write, a character.

What comes of that is a sentence that says what to do, never a traceback.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import authproxy, running_proxy
from tests.support.installed import need
from tests.support.launch import ANY_PORT, COMMAND, GUARD, environment, write_config
from tests.support.wire import API, Tokens, Upstream, get

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
        command, cwd=directory, env=environment(directory, env),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GUARD, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    return ended


def homeless(*args: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", NOBODY, *args, directory=directory)


WITHOUT = """
import sys
sys.modules[{package!r}] = None
from authproxy.cli import main
main()
"""


def without(package: str, *args: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the command where `package`, an extra, is not installed."""
    return run(sys.executable, "-c", WITHOUT.format(package=package), *args, directory=directory)


# ── what cannot be started ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("package", "top", "says"),
    [
        ("redis", {"token_store": {"type": "redis", "url": "redis://127.0.0.1:1", "key": "k"}},
         "token_store.type: needs the package redis, which is not installed: pip install 'authproxy[redis]'"),
        ("keyring", {"access": {"tokens": ["${keyring:authproxy/me}"]}},
         "access.tokens[0]: the package keyring is not installed (reference ${keyring:authproxy/me}): pip"),
        ("", {"token_store": {"type": "redis", "url": "redis://x:no-port", "key": "k"}},
         "token_store: redis://x:no-port is not a Redis URL; redis://:PASSWORD@HOST"),
        ("", {"tls": {"cert_file": "authproxy-test.yaml", "key_file": "authproxy-test.yaml"}},
         "tls.cert_file: holds no certificate that can be read; it should be PEM"),
        ("", {"listen": "unix:/" + "x" * 200}, "1:9: listen: should be unix: and a path of at most 10"),
    ],
)  # fmt: skip
def test_check_finds_what_run_would_stumble_over_before_it_listens(
    package: str, top: dict[str, Any], says: str, tmp_path: Path
) -> None:
    auth = {"grant": "client_credentials", "token_url": "http://127.0.0.1:1/token", "client_id": "x"}
    file = write_config(tmp_path, config(auth, **top))
    checked = without(package or "none", "check", "-c", str(file), directory=tmp_path)
    assert (checked.returncode, checked.stderr) == (2, "")
    place, text, _ = checked.stdout.partition(says)
    assert text, checked.stdout
    assert place.startswith(f"{file}:")
    ended = without(package or "none", "run", "-c", str(file), directory=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""


def test_check_finds_that_a_login_could_not_be_kept(tmp_path: Path) -> None:
    ended = homeless("check", "-c", str(write_config(tmp_path, config(LOGIN))), directory=tmp_path)
    assert ended.returncode == 2
    assert f":1:1: token_store: tokens cannot be stored: {HOMELESS}; set HOME" in ended.stdout


def test_check_contacts_nobody_and_binds_nothing(tmp_path: Path) -> None:
    with Upstream() as upstream, Upstream() as taken:
        auth = {"grant": "client_credentials", "token_url": f"{upstream.url}/token", "client_id": "x"}
        made = config(auth, listen=f"127.0.0.1:{taken.port}", token_store={"type": "file"})
        made["defaults"] = {"prefetch": True}
        ended = authproxy("check", config=made)
        assert (ended.returncode, upstream.connections, taken.connections) == (0, 0, 0)


# ── no home ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["run", "check", "routes", "healthcheck"])
def test_without_a_home_directory_the_configuration_is_looked_for_elsewhere(
    verb: str, tmp_path: Path
) -> None:
    ended = homeless(verb, directory=tmp_path)
    assert ended.returncode == 2
    assert "/etc/authproxy/config.yaml" in ended.stdout + ended.stderr
    assert HOMELESS in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "args", [["run"], ["run", "--workers=2"], ["token", "api"], ["login", "api"], ["logout", "api"]]
)
def test_a_login_cannot_be_kept_without_a_home_directory(args: list[str], tmp_path: Path) -> None:
    file = write_config(tmp_path, config(LOGIN))
    ended = homeless(*args, "-c", str(file), directory=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{file}:1:1: token_store: tokens cannot be stored: {HOMELESS}" in ended.stderr
    assert "token_store: {type: file, path: …}" in ended.stderr
    assert {each.name for each in tmp_path.iterdir()} == {file.name}, "nor in a directory that is called ~"


def test_a_home_directory_is_not_needed_where_the_file_is_named(tmp_path: Path) -> None:
    file = write_config(tmp_path, config(LOGIN, token_store={"type": "file", "path": "kept/tokens"}))
    ended = homeless("token", "api", "-c", str(file), directory=tmp_path)
    assert ended.returncode == 1
    assert "a user must log in" in ended.stderr


@pytest.mark.parametrize("named", ["~/x.yaml", "~nobody-of-that-name/x.yaml"])
def test_a_configuration_in_a_home_that_does_not_exist_is_said_plainly(named: str, tmp_path: Path) -> None:
    ended = homeless("check", "-c", named, directory=tmp_path)
    assert ended.returncode == 2
    assert f"{named}: names a home directory (~) that does not exist" in ended.stdout + ended.stderr


# ── characters that cannot be shown ──────────────────────────────────────────────────────────────

ENCODINGS = ["ascii", "latin-1", "utf-8"]
FOREIGN = {
    "name": "api",
    "upstream": "http://127.0.0.1:1",
    "allow": {"paths": ["/…/**", "/😀/**"], "hint": "→ café"},
    "auth": {"preset": "code42-basic", "username": "josé", "password": "x "},
}


def spoken(encoding: str) -> dict[str, str]:
    return {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def said(encoding: str, *args: str, directory: Path) -> tuple[int, str, str]:
    """Return the exit code, and what was written to stdout and stderr, which must be in `encoding`."""
    write_config(directory, {"listen": ANY_PORT, "admin": False, "routes": [FOREIGN]})
    ended = subprocess.run(
        [*COMMAND, *args], cwd=directory, env=environment(directory, spoken(encoding)),
        stdin=subprocess.DEVNULL, capture_output=True, timeout=GUARD, check=False,
    )  # fmt: skip
    assert b"Traceback" not in ended.stderr
    return ended.returncode, ended.stdout.decode(encoding), ended.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["routes", "--help"], 0),
        (["routes", "-c", "authproxy-test.yaml"], 0),
        (["routes", "--json", "-c", "authproxy-test.yaml"], 0),
        (["check", "-c", "authproxy-test.yaml"], 0),
        (["check", "-c", "né…e.yaml"], 2),
        (["check", "-c", os.fsdecode(b"\xff.yaml")], 2),  # a name that is no text
        (["token", "…", "-c", "authproxy-test.yaml"], 2),
        (["login", "api", "-c", "authproxy-test.yaml"], 0),
        (["logout", "api", "-c", "authproxy-test.yaml"], 0),
        (["token", "api", "-c", "authproxy-test.yaml"], 0),
        (["healthcheck", "http://127.0.0.1:1/…"], 1),
        (["presets"], 0),
        (["presets", "--json"], 0),
        (["presets", "show", "code42-api-client"], 0),
        (["schema"], 0),
    ],
)
def test_a_verb_survives_an_output_that_cannot_show_everything(
    encoding: str, args: list[str], code: int, tmp_path: Path
) -> None:
    assert said(encoding, *args, directory=tmp_path)[0] == code


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_mask_is_readable_in_every_encoding_and_json_says_the_same(encoding: str, tmp_path: Path) -> None:
    file = "authproxy-test.yaml"
    _, table, _ = said(encoding, "routes", "-c", file, directory=tmp_path)
    assert ("password=••••" if encoding == "utf-8" else "password=****") in table
    _, document, _ = said(encoding, "routes", "--json", "-c", file, directory=tmp_path)
    (route,) = json.loads(document)
    assert route["auth"]["password"] == "••••"
    assert route["auth"]["username"] == "josé"
    assert route["allow"] == FOREIGN["allow"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_log_lines_survive_it_and_stay_json(encoding: str) -> None:
    login = {"name": "login", "path": "/login", "upstream": "http://127.0.0.1:1", "auth": LOGIN}
    store = {"type": "file", "path": f"{__file__}/né…e/😀"}  # of which the log will speak
    made = {"routes": [FOREIGN, login], "log": {"format": "json"}, "token_store": store}
    with running_proxy(made, env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}) as proxy:
        assert get(proxy.url, "/café").status == 403
        proxy.wait_for_log("token store unavailable")
        proxy.wait_for_log("/caf")
        assert proxy.stop() == 0
        log = (proxy.directory / "stderr").read_bytes().decode(encoding)
    lines = [json.loads(line) for line in log.splitlines()]
    (unavailable,) = [line for line in lines if line["event"] == "token store unavailable"]
    assert f"{__file__}/né" in unavailable["cause"]


@pytest.mark.parametrize(
    ("top", "key"),
    [
        ({"token_store": {"type": "file", "path": "né/tokens"}}, "token_store.path"),
        ({"listen": "unix:/tmp/né"}, "listen"),
    ],
)
def test_a_file_that_the_locale_has_no_name_for_is_a_fault(top: dict[str, Any], key: str) -> None:
    ended = authproxy("check", config=config(LOGIN, **top), env=spoken("utf-8"))
    assert ended.returncode == 2
    assert f"{key}: contains a character that file names cannot have in this locale (ascii)" in ended.stdout


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
            cwd=tmp_path, env=environment(tmp_path), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
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


def read_only() -> tuple[str, ...]:
    """Return what goes before a command to have it run where it may write nothing: no home, no directory."""
    closed = ("sh", "-c", 'chmod 555 . && exec "$@"', "sh")
    if os.geteuid() != 0:
        return closed
    need("setpriv")  # root may write anywhere, unless it gives that up
    return (*closed, "setpriv", "--bounding-set=-dac_override,-dac_read_search")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("store", [None, {"type": "file"}, {"type": "file", "path": "kept/tokens"}])
def test_where_nothing_can_be_written_it_is_said_once_and_the_proxy_goes_on(
    store: dict[str, str] | None, workers: int
) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        auth = {
            "grant": "client_credentials",
            "token_url": tokens.url,
            "client_id": "me",
            "client_secret": "x",
        }
        made = {"routes": [{"name": "api", "upstream": api.url, "auth": auth}], "workers": workers}
        if store is not None:
            made["token_store"] = store
        with running_proxy(made, before=read_only()) as proxy:
            assert [get(proxy.url, "/x").status for _ in range(3)] == [200] * 3
            assert proxy.stop() == 0
            log = proxy.log()
            assert {each.name for each in proxy.directory.iterdir()} == {
                "authproxy-test.yaml",
                "stdout",
                "stderr",
            }
    assert log.count("cannot remember rejected credentials") == 1
    assert log.count("token store unavailable") == (store is not None)
    assert log.count("Permission denied") == 1 + (store is not None)
    assert "name another file: token_store: {type: file, path: …}" in log
    assert "Traceback" not in log


# ── stdout that takes nothing ────────────────────────────────────────────────────────────────────

NO_SPACE, CLOSED = "No space left on device", "Bad file descriptor"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants Linux's devices")


@needs_full
@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(("to", "reason"), [(">/dev/full", NO_SPACE), (">&-", CLOSED)])
@pytest.mark.parametrize(
    "args", ["routes", "routes --json", "check", "token api", "presets", "schema", "--help"]
)
def test_a_result_that_cannot_be_written_is_a_failure_and_no_trace(
    args: str, to: str, reason: str, tmp_path: Path, *, buffered: bool
) -> None:
    write_config(tmp_path, config({"grant": "static", "token": "abcdefgh"}))
    env = {"AUTHPROXY_CONFIG": "authproxy-test.yaml", "PYTHONUNBUFFERED": "" if buffered else "1"}
    shell = ("sh", "-c", f'exec "$@" {to}', "sh", *COMMAND, *args.split())
    ended = run(*shell, directory=tmp_path, env=env)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"authproxy: cannot write the result: {reason}\n"


@needs_full
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("to", "reason"), [(">/dev/full", NO_SPACE), (">&-", CLOSED)])
def test_a_proxy_serves_though_it_cannot_say_where(
    to: str, reason: str, workers: int, tmp_path: Path
) -> None:
    with Upstream() as upstream:
        made = config(listen=f"unix:{tmp_path}/s", workers=workers)
        made["routes"][0]["upstream"] = upstream.url
        file = write_config(tmp_path, made)
        process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" {to}', "sh", *COMMAND, "run", "-c", str(file)],
            cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            assert f'cannot print the listening addresses cause="{reason}"' in process.stderr.readline()
            assert get(f"unix:{tmp_path}/s").status == 200
        finally:
            process.terminate()
            _, rest = process.communicate(timeout=GUARD)
        assert process.returncode == 0
        assert "Traceback" not in rest
        assert "Assertion" not in rest
