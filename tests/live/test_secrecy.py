"""What others of the machine see of our secrets: not memory, nor variables, nor files, nor arguments."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import authproxy, running_proxy, wait_until
from tests.support.launch import GUARD, environment, write_config
from tests.support.wire import Message, Tokens, Upstream, Wire, get, json_reply
from tests.support.workers import children

on_linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="wants Linux's /proc")
SECRET = "s3cr3t-of-the-environment"
OPEN = "is a secret in a file that others can read: chmod 600"


def config(token: str = SECRET, upstream: str = "http://127.0.0.1:1", **more: Any) -> dict[str, Any]:
    route = {"name": "api", "upstream": upstream, "auth": {"grant": "static", "token": token}}
    return {"listen": "127.0.0.1:0", "admin": False, "routes": [route], **more}


# ── memory ───────────────────────────────────────────────────────────────────────────────────────

PR_GET_DUMPABLE = 3
TELL = f"""
import ctypes
from authproxy.cli import main
try:
    main()
finally:
    print("dumpable:", ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}, 0, 0, 0, 0))
"""


@on_linux
@pytest.mark.parametrize("verb", [["check"], ["routes"], ["token", "api"], ["logout", "api"]])
@pytest.mark.parametrize(("allowed", "dumpable"), [("", 0), ("1", 1)])
def test_no_verb_lets_others_of_the_user_into_its_memory(
    verb: list[str], allowed: str, dumpable: int, tmp_path: Path
) -> None:
    file = write_config(tmp_path, config())
    ended = subprocess.run(
        [sys.executable, "-c", TELL, *verb, "-c", str(file)],
        cwd=tmp_path, env=environment(tmp_path, {"AUTHPROXY_DUMPABLE": allowed}),
        capture_output=True, text=True, timeout=GUARD, check=True,
    )  # fmt: skip
    assert ended.stdout.endswith(f"dumpable: {dumpable}\n")


def dumps_core(process: subprocess.Popen[bytes]) -> bool:
    process.send_signal(signal.SIGQUIT)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == -signal.SIGQUIT
    return os.WCOREDUMP(status)


@on_linux
@pytest.mark.parametrize("workers", [1, 2])
def test_no_core_is_dumped(workers: int, tmp_path: Path) -> None:
    unlimited = ("sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh")
    with subprocess.Popen([*unlimited, "sleep", "60"], cwd=tmp_path) as other:
        wait_until(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "sleep\n")
        if not dumps_core(other):
            pytest.skip("no core is dumped here, whoever dies")
    options: dict[str, Any] = {"before": unlimited, "env": {"AUTHPROXY_DUMPABLE": ""}}
    with running_proxy(config(workers=workers), **options) as proxy:
        for pid in [proxy.pid, *children(proxy.pid)]:
            assert "Max core file size        0 " in Path(f"/proc/{pid}/limits").read_text()
        assert not dumps_core(proxy.process)


# ── the environment ──────────────────────────────────────────────────────────────────────────────


@on_linux
@pytest.mark.parametrize("workers", [1, 2])
def test_a_variable_that_held_a_secret_is_gone_from_every_process(workers: int) -> None:
    with Upstream() as upstream:
        made = config("${TOKEN}", "${UPSTREAM}", workers=workers)
        env = {"TOKEN": SECRET, "UPSTREAM": upstream.url}
        with running_proxy(made, env=env) as proxy:
            assert get(proxy.url).status == 200
            assert upstream.last.one("Authorization") == f"Bearer {SECRET}"
            for pid in [proxy.pid, *children(proxy.pid)]:
                shown = Path(f"/proc/{pid}/environ").read_bytes()
                assert SECRET.encode() not in shown
                assert upstream.url.encode() in shown, "what is no secret stays"


def program(tmp_path: Path, name: str, says: str) -> str:
    """Make a program that says something, and notes its environment under its name."""
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\nenv >> {tmp_path}/{name}.seen\necho {says}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_programs_get_the_environment_but_for_our_secrets(workers: int, tmp_path: Path) -> None:
    def refuse(_came: Message, _wire: Wire) -> bytes:
        return json_reply({"error": "invalid_client"}, 401)

    with Tokens() as tokens, Upstream() as upstream:
        tokens.answer = refuse
        client = {"grant": "client_credentials", "token_url": f"{tokens.url}/token", "client_id": "${ID}"}
        auths = {
            "static": {"grant": "static", "token": "${TOKEN}"},
            "grant": {"grant": "command", "command": [program(tmp_path, "grant", "a-token")]},
            "secret": {**client, "client_secret": f"${{command:{program(tmp_path, 'secret', 'wrong')}}}"},
            # A URL that a program says, in a mapping with a secret: known only once the program has been run.
            "url": {**client, "client_secret": "${OTHER:-${SPARE}}",
                    "token_url": f"${{command:{program(tmp_path, 'url', tokens.url)}}}"},
        }  # fmt: skip
        routes = [
            {"name": name, "path": f"/{name}", "upstream": upstream.url, "auth": auth,
             "headers": {"set": {"X-Key": "${KEY}", "X-Home": "${HOME}"}}}
            for name, auth in auths.items()
        ]  # fmt: skip
        secrets = {"TOKEN": SECRET, "KEY": SECRET, "SPARE": SECRET}
        env = {**secrets, "ID": "me", "VAULT_TOKEN": "the-program's-own"}
        with running_proxy({"routes": routes, "workers": workers}, env=env) as proxy:
            seen = [get(proxy.url, f"/{name}").status for name in ("static", "grant", "secret", "url")]
            assert seen == [200, 200, 502, 502]
            assert upstream.last.one("X-Key") == SECRET
            get(proxy.url, "/secret")  # the program is run again, as the secret may have changed
            assert proxy.stop() == 0
    for name, at_least in (("grant", 1), ("secret", 2), ("url", 1)):
        told = (tmp_path / f"{name}.seen").read_text()
        assert told.count("\nPATH=") + told.startswith("PATH=") >= at_least
        assert SECRET not in told
        for variable in ("ID=me", "VAULT_TOKEN=the-program's-own", "HOME="):
            assert variable in told


def test_a_proxy_of_the_environment_goes_on_being_one() -> None:
    with Upstream() as upstream, Upstream() as forwarding:
        first = {"name": "named", "path": "/named", "http_proxy": "${http_proxy}"}
        second = {"name": "found", "path": "/found"}
        routes = [
            {**each, "upstream": "http://api.example", "auth": {"grant": "none"}} for each in (first, second)
        ]
        with running_proxy({"routes": routes}, env={"http_proxy": forwarding.url}) as proxy:
            assert [get(proxy.url, path).status for path in ("/named", "/found")] == [200, 200]
        assert len(forwarding.requests) == 2
        assert upstream.requests == []


# ── the file, the arguments ──────────────────────────────────────────────────────────────────────


def checked(directory: Path, made: dict[str, Any], mode: int, env: dict[str, str] | None = None) -> list[str]:
    """Return what `check` warns of, for a file of that mode in a directory with a blank in its name."""
    place = directory / "my files"
    place.mkdir(exist_ok=True)
    file = write_config(place, made)
    file.chmod(mode)
    ended = authproxy("check", "-c", str(file), env=env)
    assert ended.returncode == 0, ended.stdout
    *warnings, ok = ended.stdout.splitlines()
    assert ok.startswith(f"{file}: ok")
    return warnings


def test_secrets_in_a_file_that_others_can_read_are_one_warning_with_the_way_out(tmp_path: Path) -> None:
    made = config(access={"tokens": ["one", "two"]})
    file = tmp_path / "my files" / "authproxy-test.yaml"
    (told,) = checked(tmp_path, made, 0o644)
    assert told.startswith(f"{file}:")
    assert told.endswith(
        f"access.tokens[0]: warning: {OPEN} '{file}', or write ${{NAME}} or ${{file:PATH}} instead"
    )
    assert checked(tmp_path, made, 0o600) == []
    assert checked(tmp_path, made, 0o640) == [], "root:authproxy 0640 is how packages do it"


@pytest.mark.parametrize(
    "made",
    [
        config("${TOKEN}"),
        config("${file:secret}"),
        {**config("${TOKEN}"), "defaults": {"headers": {"set": {"X-Team": "geo"}}}},
        {**config("${TOKEN}"), "defaults": {"http_proxy": "http://127.0.0.1:3128"}},
    ],
)
def test_a_file_without_secrets_may_be_read_by_everybody(made: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my files").mkdir()
    (tmp_path / "my files" / "secret").write_text(SECRET)
    assert checked(tmp_path, made, 0o644, {"TOKEN": SECRET}) == []


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"headers": {"set": {"X-Api-Key": SECRET}}}, "routes[0].headers.set.X-Api-Key"),
        ({"http_proxy": "http://me:secret@127.0.0.1:3128"}, "routes[0].http_proxy"),
    ],
)
def test_secrets_are_known_by_their_names_too(more: dict[str, Any], key: str, tmp_path: Path) -> None:
    made = config("${TOKEN}")
    made["routes"][0].update(more)
    (told,) = checked(tmp_path, made, 0o644, {"TOKEN": SECRET})
    assert f" {key}: warning: {OPEN}" in told


@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_says_so_too_and_once(workers: int, tmp_path: Path) -> None:
    file = write_config(tmp_path, config(workers=workers))
    file.chmod(0o644)
    with running_proxy(None, "-c", str(file), "--no-admin") as proxy:
        proxy.wait_for_log(OPEN)
        assert proxy.stop() == 0
        assert proxy.log().count(OPEN) == 1
        assert SECRET not in proxy.log()


@pytest.mark.parametrize(("token", "warned"), [(SECRET, 1), ("${TOKEN}", 0)])
def test_a_secret_on_the_command_line_is_a_warning(token: str, warned: int) -> None:
    args = ("--listen", "127.0.0.1:0", "--no-admin", "--upstream", "http://127.0.0.1:1")
    args += ("--set", "grant=static", "--set", f"token={token}")
    with running_proxy(None, *args, env={"TOKEN": SECRET}) as proxy:
        assert proxy.stop() == 0
        told = "is a secret that other users see in the list of processes; write ${NAME}, in single quotes"
        assert proxy.log().count(told) == warned
        assert SECRET not in proxy.log()
