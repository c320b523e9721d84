"""The systemd units: read by systemd's own checker, and run by systemd, as process 1 of a machine of ours.

What the service may not do there, it is kept from by the kernel: so it is known that it does not need it.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.installed import need
from tests.support.launch import GUARD
from tests.support.wire import Message, Upstream, Wire, get, json_reply, reply

from .machine import INSTALLED, ROOT, Machine, installed, machine, program, wait_until_up

UNITS = ROOT / "deploy/systemd"
SYSTEM = ("authproxy.service", "authproxy.socket")
SYSTEMD = "/lib/systemd/systemd"
EXPOSURE = 1.2
"""What `systemd-analyze security` says of the service, from 0 to 10; `docs/deployment.md` says the same."""

SOURCES = "".join(path.read_text("utf-8") for path in (ROOT / "authproxy").rglob("*.py"))
NOTIFIES, ACTIVATES, RELOADS = (word in SOURCES for word in ("NOTIFY_SOCKET", "LISTEN_FDS", "SIGHUP"))
"""What the command itself can do yet of what the units ask for."""

PLAIN_START = "" if NOTIFIES else "Type=exec\nWatchdogSec=0\n"
LOG = "/var/log/authproxy-test"
BOOT = """
mount --make-rshared /
mount -t tmpfs tmpfs /run
mount -t tmpfs none /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
"""
NOTHING_ELSE = "rm -rf lib/systemd/system/*.wants etc/systemd/system/*.wants etc/fstab"
TOKEN, SPOKEN = "of-a-credential", "printed-by-a-program"


# ── read ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("manager", "directory"), [("--system", UNITS), ("--user", UNITS / "user")], ids=["system", "user"]
)
def test_systemd_finds_nothing_wrong_with_the_units(manager: str, directory: Path, tmp_path: Path) -> None:
    need("systemd-analyze")
    here = installed()
    command = here["files"][INSTALLED]
    files = {**here["files"], "/home/me/.local/bin/authproxy": command}
    paths = [str(directory / name) for name in SYSTEM]
    env = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run"}
    with machine(tmp_path, ["systemd-analyze", manager, "verify", *paths], files=files, env=env) as made:
        code = made.wait()
        assert (code, made.output() + made.log()) == (0, "")


def test_the_service_is_exposed_as_little_as_the_documentation_says() -> None:
    ended = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--no-pager",
         f"--threshold={EXPOSURE * 10:.0f}", str(UNITS / "authproxy.service")],
        capture_output=True, text=True, timeout=GUARD, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"authproxy.service: {EXPOSURE} OK" in ended.stdout
    assert f"{EXPOSURE} of 10" in (ROOT / "docs/deployment.md").read_text("utf-8")


@pytest.mark.parametrize("directory", [UNITS, UNITS / "user"], ids=["system", "user"])
def test_a_configuration_that_will_not_do_is_not_started_again(directory: Path) -> None:
    service = (directory / "authproxy.service").read_text("utf-8")
    assert "RestartPreventExitStatus=2\n" in service
    assert "ExecReload=kill -HUP $MAINPID\n" in service
    assert "Type=notify\n" in service


# ── run ──────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def booted(
    directory: Path, config: dict[str, Any], *units: str, secrets: dict[str, str] | None = None
) -> Iterator[Machine]:
    """Start systemd on a machine of its own, and with it `units`."""
    need("systemctl")
    if not Path(SYSTEMD).exists():
        need("systemd")
    here = installed()
    of_ours = {f"/etc/systemd/system/{name}": (UNITS / name).read_text("utf-8") for name in SYSTEM}
    kept = {f"/etc/authproxy/secrets/{name}": text for name, text in (secrets or {"none": ""}).items()}
    files = {
        **here["files"], **of_ours, **kept,
        "/etc/authproxy/config.yaml": yaml.safe_dump(config),
        "/etc/systemd/system/authproxy.service.d/test.conf":
            f"[Service]\n{PLAIN_START}StandardOutput=append:{LOG}\nStandardError=append:{LOG}\n",
        "/etc/systemd/system/test.target": f"[Unit]\nWants={' '.join(units)}\n",
    }  # fmt: skip
    command = [SYSTEMD, "--system", "--unit=test.target", "--log-target=console", "--show-status=no"]
    with machine(
        directory, command, files=files, binds=here["binds"], env={"container": "test"},
        before=f"{NOTHING_ELSE}\nchmod 700 etc/authproxy/secrets", then=BOOT,
    ) as made:  # fmt: skip
        yield made


def log_of(made: Machine) -> str:
    path = Path(f"/proc/{made.pid}/root{LOG}")
    return path.read_text("utf-8") if path.exists() else ""


def told(made: Machine, *names: str) -> dict[str, str]:
    """Return what systemd knows of the service."""
    shown = made.run("systemctl", "show", "authproxy.service", *(f"--property={name}" for name in names))
    return dict(line.split("=", 1) for line in shown.stdout.splitlines())


def wait_for_state(made: Machine, state: str) -> None:
    wait_until_up(
        made,
        lambda: made.run("systemctl", "is-active", "authproxy.service").stdout.strip() == state,
        f"it is not {state}; it said {log_of(made)!r}",
    )


def answer(came: Message, _wire: Wire) -> bytes:
    """Refuse who asks for a token; to all others say what they sent."""
    if came.target.startswith("/token"):
        return json_reply({"error": "invalid_client"}, 401)
    return reply(body=(came.one("Authorization") or "none").encode())


def settings(upstream: str, **more: Any) -> dict[str, Any]:
    """Return a configuration whose listeners are those of the shipped one."""
    shipped = yaml.safe_load((UNITS / "config.yaml").read_text("utf-8"))
    at = {"upstream": upstream}
    file = "${file:/run/credentials/authproxy.service/secret_token}"
    refused = {"grant": "client_credentials", "token_url": f"{upstream}/token", "client_id": "me",
               "client_secret": SPOKEN}  # fmt: skip
    shipped["routes"] = [
        {"name": "file", "path": "/file", **at, "auth": {"grant": "static", "token": file}},
        {"name": "said", "path": "/said", **at,
         "auth": {"grant": "static", "token": f"${{command:/bin/echo {SPOKEN}}}"}},
        {"name": "refused", "path": "/refused", **at, "auth": refused},
    ]  # fmt: skip
    return {**shipped, **more}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_runs_within_all_that_it_is_kept_from(workers: int, tmp_path: Path) -> None:
    config = settings("http://localhost:9000", workers=workers)  # a name, so that names are resolved
    with booted(tmp_path, config, "authproxy.service", secrets={"token": TOKEN}) as made:
        wait_for_state(made, "active")
        with made.network():
            upstream = Upstream(answer, port=9000)
        with upstream:
            wait_until_up(made, lambda: "listening on" in log_of(made), "it does not listen")
            with made.network():
                assert get("http://127.0.0.1:8080", "/file").body == f"Bearer {TOKEN}".encode()
                assert get("http://127.0.0.1:8080", "/said").body == f"Bearer {SPOKEN}".encode()
                assert get("http://127.0.0.1:8080", "/refused").status == 502
                assert get("http://127.0.0.1:8081", "/healthz").status == 200
        pid = told(made, "MainPID")["MainPID"]
        status = made.run("cat", f"/proc/{pid}/status").stdout
        assert re.search(r"^Uid:\t[1-9]\d+", status, re.MULTILINE), "it runs as root"
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
        kept = made.run("ls", "/var/lib/authproxy/").stdout.split()
        assert "rejections" in kept, "what was refused is not remembered"
        assert "cannot" not in log_of(made)
        made.run("systemctl", "stop", "authproxy.service")
        end = told(made, "Result", "ExecMainStatus", "ExecMainCode", "NRestarts")
        assert end == {"Result": "success", "ExecMainStatus": "0", "ExecMainCode": "1", "NRestarts": "0"}
        if NOTIFIES:
            assert told(made, "NotifyAccess", "Type") == {"NotifyAccess": "main", "Type": "notify"}


def test_a_faulty_configuration_is_told_once_and_not_tried_again(tmp_path: Path) -> None:
    with booted(tmp_path, {"routes": []}, "authproxy.service") as made:
        wait_for_state(made, "failed")
        end = told(made, "Result", "ExecMainStatus", "NRestarts")
        assert end == {"Result": "exit-code", "ExecMainStatus": "2", "NRestarts": "0"}
        assert log_of(made).count("routes: ") == 1


def test_a_reload_takes_the_new_configuration_and_keeps_the_process(tmp_path: Path) -> None:
    service = (UNITS / "authproxy.service").read_text("utf-8")
    assert "ExecReload=kill -HUP $MAINPID" in service
    if not RELOADS:
        return
    config = settings("http://127.0.0.1:9000")
    with booted(tmp_path, config, "authproxy.service", secrets={"token": TOKEN}) as made:
        wait_for_state(made, "active")
        pid = told(made, "MainPID")
        config["routes"][0]["path"] = "/elsewhere"
        Path(f"/proc/{made.pid}/root/etc/authproxy/config.yaml").write_text(yaml.safe_dump(config))
        assert made.run("systemctl", "reload", "authproxy.service").returncode == 0
        with made.network():
            upstream = Upstream(answer, port=9000)
        with upstream, made.network():
            wait_until_up(
                made, lambda: get("http://127.0.0.1:8080", "/elsewhere").status == 200, "it is not reloaded"
            )
        assert told(made, "MainPID") == pid
        wait_for_state(made, "active")


def test_the_socket_starts_the_service_which_takes_it_over(tmp_path: Path) -> None:
    socket = (UNITS / "authproxy.socket").read_text("utf-8")
    assert f"ListenStream={settings('http://127.0.0.1:9000')['listen']}\n" in socket
    if not ACTIVATES:
        return
    config = settings("http://127.0.0.1:9000")
    with booted(tmp_path, config, "authproxy.socket", secrets={"token": TOKEN}) as made:
        wait_until_up(
            made,
            lambda: made.run("systemctl", "is-active", "authproxy.socket").stdout.strip() == "active",
            "the socket is not there",
        )
        assert made.run("systemctl", "is-active", "authproxy.service").stdout.strip() == "inactive"
        with made.network():
            upstream = Upstream(answer, port=9000)
        with upstream, made.network():
            assert get("http://127.0.0.1:8080", "/file").body == f"Bearer {TOKEN}".encode()
        wait_for_state(made, "active")
