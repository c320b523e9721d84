"""What holds for all tests: none reaches the home, the keyring or the network of whoever runs them."""

import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

SPECIAL = (".localhost", ".invalid")  # names that lead nowhere outside (RFC 6761)

Report = Generator[None, pytest.TestReport, pytest.TestReport]

_reached_for: list[str] = []


# ── no real home, no real keyring ────────────────────────────────────────────────────────────────


def pytest_configure(config: pytest.Config) -> None:
    home = Path(tempfile.mkdtemp(prefix="authproxy-home-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    # Where npm and pip find their packages is a setting of the machine; they may not install without it.
    os.environ.setdefault("NPM_CONFIG_USERCONFIG", str(Path("~/.npmrc").expanduser()))
    os.environ.setdefault("NPM_CONFIG_CACHE", str(Path("~/.npm").expanduser()))
    for name in ("HOME", "USERPROFILE"):
        os.environ[name] = str(home)
    for name, folder in {
        "APPDATA": "config",
        "LOCALAPPDATA": "config",
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_HOME": "config",
        "XDG_DATA_HOME": "data",
        "XDG_STATE_HOME": "state",
    }.items():
        os.environ[name] = str(home / folder)
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    os.environ.pop("DBUS_SESSION_BUS_ADDRESS", None)  # the way to a desktop's keyring
    sys.addaudithook(_stay_inside)


# ── no network outside ───────────────────────────────────────────────────────────────────────────


def _stay_inside(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse to look up or connect to anything but this machine.

    It sees what this process does by Python's sockets: not what libuv does, nor what other processes do.
    """
    match event, arguments:
        case "socket.connect", (socket.socket(type=socket.SOCK_DGRAM), _):
            return  # which sends nothing: it asks the system for the way there
        case "socket.connect" | "socket.sendto", (socket.socket(), (str(host), *_)):
            inside = _is_ours(host)
        case "socket.getaddrinfo", (str(host), *_):
            inside = _is_address(host) or _is_ours(host)
        case _:
            return
    if not inside:
        _reached_for.append(f"{event} {host}")
        raise AssertionError(f"a test reached for the network: {event} {host}")


def _is_address(host: str) -> bool:
    """Whether `host` is a number, which nobody has to be asked for."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_ours(host: str) -> bool:
    if not _is_address(host):
        name = host.rstrip(".").lower()
        here = {"", "localhost", socket.gethostname().lower()}  # the last for test_loops
        return name in here or name.endswith(SPECIAL)
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))  # which only an address of this machine can be
    except OSError:
        return False
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Report:
    report = yield
    if report.skipped and os.environ.get("AUTHPROXY_REQUIRE_ALL") == "1":
        # As in continuous integration: everything has to be there.
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be: {call.excinfo}"
    if _reached_for:  # even if what was raised there was caught
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} reached for the network: {', '.join(_reached_for)}"
        _reached_for.clear()
    return report
