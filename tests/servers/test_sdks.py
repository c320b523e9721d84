"""The vendors' own SDKs, unchanged: they insist on logging in, and drop a base URL's path.

    SDK, made-up credentials ──▶ authproxy: a port of its own, answers the login ──▶ the vendor
                                 has the real ones

Each does the same straight at the vendor, with real credentials, so that one sees what it is compared with.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME
from tests.servers.vendors import ALERT, DEVICE, TENANT, USERS, Console, Vendor, code42, incydr
from tests.support.installed import need
from tests.support.launch import GUARD, environment

DUMMY_ID, DUMMY_SECRET = "made-up-id", "made-up-secret"

PY42 = """
import json, os, sys
import py42.sdk
from py42.sdk.queries.alerts.alert_query import AlertQuery
from py42.sdk.queries.alerts.filters import AlertState

url, name, secret = sys.argv[1], os.environ["NAME"], os.environ["SECRET"]
sdk = getattr(py42.sdk, sys.argv[2])(url, name, secret)
said = {"users": [user["username"] for page in sdk.users.get_all() for user in page["users"]]}
said["device"] = sdk.devices.get_by_guid("DEVICE")["name"]
if "alerts" in sys.argv:
    said["alerts"] = [each["id"] for each in sdk.alerts.search(AlertQuery.all(AlertState.eq("OPEN")))["alerts"]]
print(json.dumps(said))
""".replace("DEVICE", DEVICE)

INCYDR = """
import json
import incydr

sdk = incydr.Client()
said = {"tenant": sdk.tenant_id, "users": [user.username for user in sdk.users.v1.get_page().users]}
said["device"] = sdk.devices.v1.get_device("DEVICE").name
said["alerts"] = [each.id for each in sdk.alerts.v1.search(incydr.AlertQuery().equals("State", "OPEN")).alerts]
print(json.dumps(said))
""".replace("DEVICE", DEVICE)


def run(program: str, home: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *args],
        cwd=home, env=environment(home, variables), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=GUARD, check=False,
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def console() -> Iterator[Console]:
    need("py42")
    with code42() as console:
        yield console


@pytest.fixture
def gateway() -> Iterator[Vendor]:
    need("incydr")
    with incydr() as gateway:
        yield gateway


# ── straight at the vendor ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("login", "name", "secret"),
    [("from_api_client", CLIENT_ID, CLIENT_SECRET), ("from_local_account", USERNAME, PASSWORD)],
)
def test_py42_with_real_credentials_needs_no_proxy(
    console: Console, tmp_path: Path, login: str, name: str, secret: str
) -> None:
    done = run(PY42, tmp_path, console.console.url, login, "alerts", NAME=name, SECRET=secret)
    assert said(done) == {"users": USERS, "device": "laptop", "alerts": [ALERT]}
    assert len(console.console.logins) == 1


def test_py42_with_made_up_ones_gets_nowhere_and_tries_twice(console: Console, tmp_path: Path) -> None:
    done = run(PY42, tmp_path, console.console.url, "from_api_client", NAME=DUMMY_ID, SECRET=DUMMY_SECRET)
    assert "Py42UnauthorizedError" in done.stderr
    assert console.console.calls == []
    assert len(console.console.logins) == 2  # each is a strike against the account


def test_incydr_with_real_credentials_needs_no_proxy(gateway: Vendor, tmp_path: Path) -> None:
    done = run(
        INCYDR,
        tmp_path,
        INCYDR_URL=gateway.url,
        INCYDR_API_CLIENT_ID=CLIENT_ID,
        INCYDR_API_CLIENT_SECRET=CLIENT_SECRET,
    )
    assert said(done) == {"tenant": TENANT, "users": USERS, "device": "laptop", "alerts": [ALERT]}
    assert len(gateway.logins) == 1


def test_incydr_does_not_come_through_a_revoked_token_by_itself(gateway: Vendor, tmp_path: Path) -> None:
    gateway.revokes_before = {f"/v1/devices/{DEVICE}"}
    done = run(
        INCYDR,
        tmp_path,
        INCYDR_URL=gateway.url,
        INCYDR_API_CLIENT_ID=CLIENT_ID,
        INCYDR_API_CLIENT_SECRET=CLIENT_SECRET,
    )
    assert "401 Client Error" in done.stderr
