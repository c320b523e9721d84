"""Whatever the system lacks, the proxy serves as far as that goes; what cannot be had is said at the start.

Each thing that not every system has is taken away in the process that is started: see
`tests/support/lacking/sitecustomize.py`. What becomes of it is in `docs/platforms.md`.
"""

import os
import re
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.beside import beside, python
from tests.support.command import authproxy, running_proxy
from tests.support.launch import ANY_PORT
from tests.support.wire import API, Tokens, ask, get, request

pytest.importorskip("fcntl", reason="on Windows nothing has to be taken away")

ROOT = Path(__file__).parents[2]

WORKERS, UNIX_SOCKETS, FILE_STORE = "workers", "Unix sockets", "a file of tokens"
USUAL_PLACE = "a file of tokens where it usually is"
AUTHORITY, AUTHORITYS_PLACE = "a local authority", "a place for a local authority"

# What is taken away, and what cannot be had without it.
LACKING: dict[str, set[str]] = {
    "HOME": {USUAL_PLACE, AUTHORITYS_PLACE},
    "asyncio.add_signal_handler": set(),
    "ctypes": set(),
    "fcntl": {FILE_STORE, AUTHORITY},
    "os.O_DIRECTORY": set(),
    "os.O_NOFOLLOW": set(),
    "os.O_NONBLOCK": set(),
    "os.WCONTINUED": set(),
    "os.WNOHANG": {WORKERS},
    "os.WUNTRACED": set(),
    "os.fchmod": set(),
    "os.fork": {WORKERS},
    "os.geteuid": set(),
    "os.getuid": set(),
    "os.killpg": set(),
    "os.memfd_create": set(),
    "os.posix_spawnp": set(),
    "os.register_at_fork": {WORKERS},
    "os.sched_getaffinity": set(),
    "os.setpgid": {WORKERS},
    "os.umask": {UNIX_SOCKETS},
    "pwd": set(),
    "resource": set(),
    "select.PIPE_BUF": set(),
    "select.poll": set(),
    "signal.ITIMER_REAL": {WORKERS},
    "signal.SIGALRM": {WORKERS},
    "signal.SIGCHLD": {WORKERS},
    "signal.SIGHUP": set(),
    "signal.SIGKILL": set(),
    "signal.SIGTSTP": set(),
    "signal.SIGUSR1": set(),
    "signal.pthread_sigmask": {WORKERS},
    "signal.setitimer": {WORKERS},
    "signal.sigwait": {WORKERS},
    "signal.sigwaitinfo": set(),
    "socket.AF_UNIX": {WORKERS, UNIX_SOCKETS},
    "socket.SO_REUSEADDR": set(),
    "socket.SO_REUSEPORT": {WORKERS},
    "socket.recv_fds": set(),
    "socket.send_fds": set(),
    "uvloop": set(),
}
HERE = {
    name: gone
    for name, gone in LACKING.items()
    if name not in {"os.memfd_create", "os.sched_getaffinity", "signal.sigwaitinfo"}
    or hasattr({"os": os, "signal": signal}[name.partition(".")[0]], name.partition(".")[2])
}


def without(*names: str) -> dict[str, str]:
    """Return the environment of a process that lacks `names`."""
    path = [str(ROOT / "tests/support/lacking"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"AUTHPROXY_LACKS": " ".join(names), "PYTHONPATH": os.pathsep.join(filter(None, path))}


def config(gone: set[str], directory: Path, tokens: Tokens, api: API) -> dict[str, Any]:
    """Return a configuration of everything that can still be had."""
    auth = {
        "grant": "client_credentials",
        "token_url": f"{tokens.url}/token",
        "client_id": "me",
        "client_secret": "x",
    }
    top: dict[str, Any] = {"listen": [ANY_PORT], "workers": "auto" if WORKERS in gone else 2}
    if UNIX_SOCKETS not in gone:
        top["listen"].append(f"unix:{directory}/s")
    if FILE_STORE not in gone:
        top["token_store"] = {"type": "file", "path": str(directory / "kept" / "tokens")}
    return {**top, "routes": [{"name": "api", "upstream": api.url, "auth": auth}]}


@pytest.fixture
def servers() -> Iterator[tuple[Tokens, API]]:
    with Tokens() as tokens, API(tokens.issued) as api:
        yield tokens, api


def serves(names: list[str], gone: set[str], directory: Path, servers: tuple[Tokens, API]) -> None:
    """See that a process without `names` forwards with a token, and ends in good order."""
    made = config(gone, directory, *servers)
    with running_proxy(made, env=without(*names)) as proxy:
        for url in proxy.urls:
            # A worker looks whether a connection that it has kept is still good before it sends a POST there.
            assert [ask(url, request("POST", "/x", body=b"x")).status for _ in range(3)] == [200] * 3
        assert get(proxy.admin_url, "/readyz").status == 200
        assert proxy.stop() == 0
        log = proxy.log()
    assert [f"without {name}" for name in names] == [
        line for line in log.splitlines() if line.startswith("without ")
    ]
    assert "Traceback" not in log
    kept = directory / "kept" / "tokens"
    assert kept.is_file() == (FILE_STORE not in gone)


@pytest.mark.parametrize("name", HERE)
def test_whatever_is_missing_the_proxy_forwards_with_a_token_and_stops(
    name: str, tmp_path: Path, servers: tuple[Tokens, API]
) -> None:
    serves([name], LACKING[name], tmp_path, servers)


def test_all_of_it_may_be_missing_at_once(tmp_path: Path, servers: tuple[Tokens, API]) -> None:
    serves([*HERE], set().union(*LACKING.values()), tmp_path, servers)


@pytest.mark.parametrize("name", ["os.memfd_create", "os.geteuid", "os.O_DIRECTORY", "ctypes"])
def test_certificates_of_a_local_authority_do_not_need_it(name: str, servers: tuple[Tokens, API]) -> None:
    made = {"tls": "auto", "routes": [{"name": "api", "upstream": servers[1].url, "auth": {"grant": "none"}}]}
    with running_proxy(made, env=without(name)) as proxy:
        context = ssl.create_default_context(cadata=get(proxy.admin_url, "/ca.pem").body.decode())
        assert ask(proxy.url, request(), tls=context).status == 401, "the upstream's own word"


@pytest.mark.parametrize(
    "names",
    [
        [*HERE],
        ["signal.sigwaitinfo"] if "signal.sigwaitinfo" in HERE else [],
        *([name] for name in ("os.posix_spawnp", "signal.pthread_sigmask", "os.WUNTRACED", "resource")),
    ],
    ids=lambda names: names[0] if len(names) == 1 else "all",
)
def test_a_program_runs_beside_it_hears_sigterm_and_its_exit_code_counts(names: list[str]) -> None:
    auth = {"grant": "none"}
    routes = {"routes": [{"name": "api", "upstream": "http://127.0.0.1:9", "auth": auth}]}
    code = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "print(os.environ['API_URL'], flush=True)\n"
        "for _ in range(6000): time.sleep(0.01)"  # one long sleep sleeps through what comes just before it
    )
    env = without(*names)
    with beside(routes, python(code), env=env) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("http://127.0.0.1:")
        program.terminate()
    assert program.returncode == 5


WORKERS_FAULT = (
    "workers: should be 1 or auto: this system cannot fork processes that share a listener; "
    "start it several times on ports of their own instead"
)
UNIX_FAULT = "listen: should be HOST:PORT: Python has no Unix sockets on this system"
STORE_FAULT = (
    "token_store: tokens cannot be kept in a file: Python cannot lock files on this system; "
    "keep them in Redis, or in memory: token_store: {type: memory}"
)
PLACE_FAULT = (
    "token_store: tokens cannot be stored: there is no home directory: HOME is not set, and the system has "
    "no entry for this user; set HOME or XDG_STATE_HOME, or name the file: token_store: {type: file, path: …}"
)
SET_STATE = "set XDG_STATE_HOME to a directory that can be written to, or `tls: {cert_file: …, key_file: …}`"
AUTHORITY_FAULT = (
    "tls: cannot be served: the local authority cannot be kept: Python cannot lock files on this system; "
    f"{SET_STATE}"
)
AUTHORITYS_PLACE_FAULT = (
    "tls: cannot be served: the local authority has no place to be kept: there is no home directory: HOME is "
    f"not set, and the system has no entry for this user; set HOME; or {SET_STATE}"
)
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    WORKERS: ({"workers": 2}, WORKERS_FAULT),
    UNIX_SOCKETS: ({"listen": "unix:/run/a"}, UNIX_FAULT),
    FILE_STORE: ({"token_store": {"type": "file", "path": "tokens"}}, STORE_FAULT),
    USUAL_PLACE: ({"token_store": {"type": "file"}}, PLACE_FAULT),
    AUTHORITY: ({"tls": "auto"}, AUTHORITY_FAULT),
    AUTHORITYS_PLACE: ({"tls": "auto"}, AUTHORITYS_PLACE_FAULT),
}


@pytest.mark.parametrize(
    ("name", "gone"), [(name, gone) for name, all_gone in LACKING.items() for gone in sorted(all_gone)]
)
def test_what_cannot_be_had_without_it_is_one_sentence_at_the_start(name: str, gone: str) -> None:
    keys, says = FAULTS[gone]
    auth = {
        "grant": "client_credentials",
        "token_url": "http://127.0.0.1:1",
        "client_id": "me",
        "client_secret": "x",
    }
    route = {"name": "api", "upstream": "http://127.0.0.1:1", "auth": auth}
    ended = authproxy(
        "run", config={"listen": ANY_PORT, "admin": False, "routes": [route], **keys}, env=without(name)
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    _, sentence = ended.stderr.splitlines()
    assert re.fullmatch(rf"\S+:\d+:\d+: {re.escape(says)}", sentence), ended.stderr


def test_what_may_be_missing_is_documented_name_by_name() -> None:
    _, section = (ROOT / "docs/platforms.md").read_text().split("## What may be missing")
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted(LACKING)
