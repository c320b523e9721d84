"""The vendors' own SDKs, unchanged: they insist on logging in, and drop a base URL's path.

    SDK, made-up credentials ──▶ authproxy: a port of its own, answers the login ──▶ the vendor
                                 has the real ones

Each does the same straight at the vendor, with real credentials, so that one sees what it is compared with.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME
from authproxy.demo.systems.code42 import Code42
from authproxy.proxy.placeholders import PREFIX, placeholder
from tests.servers.vendors import (
    ALERT,
    ALERTS_KEY,
    DEVICE,
    TENANT,
    USERS,
    Console,
    Places,
    Vendor,
    code42,
    incydr,
    saw,
)  # fmt: skip
from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.company import running_company
from tests.support.installed import need
from tests.support.launch import ANY_PORT, COMMAND, environment, write_config

DUMMIES = {"NAME": "made-up-name", "SECRET": "made-up-secret"}

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
    query = AlertQuery.all(AlertState.eq("OPEN"))
    said["alerts"] = [each["id"] for each in sdk.alerts.search(query)["alerts"]]
print(json.dumps(said))
""".replace("DEVICE", DEVICE)

INCYDR = """
import json
import incydr

sdk = incydr.Client()
said = {"tenant": sdk.tenant_id, "users": [user.username for user in sdk.users.v1.get_page().users]}
said["device"] = sdk.devices.v1.get_device("DEVICE").name
query = incydr.AlertQuery().equals("State", "OPEN")
said["alerts"] = [each.id for each in sdk.alerts.v1.search(query).alerts]
print(json.dumps(said))
""".replace("DEVICE", DEVICE)

INCYDR_LOGIN = """
import json
import incydr, requests

try:
    incydr.Client()
except requests.HTTPError as error:
    print(json.dumps({"refused": [str(error), error.response.json()["hint"]]}))
"""


def run(program: str, home: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *args],
        cwd=home, env=environment(home, variables), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
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
    done = run(PY42, tmp_path, console.console.url, "from_api_client", **DUMMIES)
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


# ── through the proxy ────────────────────────────────────────────────────────────────────────────

API_CLIENT = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
CONSOLE_LOGINS = {
    "from_api_client": {"preset": "code42-api-client", **API_CLIENT},
    "from_local_account": {
        "preset": "code42-user", "username": Code42.totp_user, "password": PASSWORD,
        "totp": Code42.totp_secret,
    },
}  # fmt: skip


def shared(url: str) -> dict[str, object]:
    """Return the `auth` of routes that share one credential, which is got at the console's `url`."""
    return CONSOLE_LOGINS["from_api_client"] | {"token_url": f"{url}/api/v3/oauth/token"}


@contextmanager
def proxied(*routes: Mapping[str, object]) -> Iterator[tuple[RunningProxy, str]]:
    """Run the proxy with routes that have a port of their own each; yield it, and the first one's address."""
    pattern = re.compile(rf"^listening on (\S+) for {routes[0]['name']}$", re.MULTILINE)
    with running_proxy({"routes": [{"listen": ANY_PORT, **route} for route in routes]}) as proxy:
        wait_until(lambda: pattern.search(proxy.output()), proxy.output)
        yield proxy, pattern.search(proxy.output())[1]
        assert proxy.stop() == 0
        assert DUMMIES["SECRET"] not in proxy.log() + proxy.output()


def is_untold(came: str) -> bool:
    """Whether a vendor was told nothing that was made up, neither by a user nor by us."""
    return not any(told in came for told in (PREFIX, *DUMMIES.values()))


def at_console(console: Console, login: str = "from_api_client", **more: object) -> dict[str, object]:
    return {"name": "code42", "upstream": console.console.url, "auth": CONSOLE_LOGINS[login], **more}


def at_gateway(gateway: Vendor, **more: object) -> dict[str, object]:
    auth = {"preset": "incydr-api-client", **API_CLIENT, **more}
    return {"name": "incydr", "upstream": gateway.url, "auth": auth}


def incydr_variables(url: str) -> dict[str, str]:
    dummies = {"INCYDR_API_CLIENT_ID": DUMMIES["NAME"], "INCYDR_API_CLIENT_SECRET": DUMMIES["SECRET"]}
    return {"INCYDR_URL": url, **dummies}


@pytest.mark.parametrize("login", CONSOLE_LOGINS)
def test_py42_logs_in_at_the_proxy_and_the_vendor_sees_one_login_and_real_tokens(
    console: Console, tmp_path: Path, login: str
) -> None:
    with proxied(at_console(console, login)) as (_, url):
        assert said(run(PY42, tmp_path, url, login, **DUMMIES)) == {"users": USERS, "device": "laptop"}
    assert len(console.console.logins) == 1
    assert set(console.console.tokens_seen()) == set(console.tokens)
    assert is_untold(console.saw())


def test_py42_does_not_notice_that_its_token_was_revoked(console: Console, tmp_path: Path) -> None:
    console.console.revokes_before = {f"/api/v1/Computer/{DEVICE}"}
    with proxied(at_console(console)) as (proxy, url):
        done = run(PY42, tmp_path, url, "from_api_client", **DUMMIES)
        assert said(done) == {"users": USERS, "device": "laptop"}
        assert proxy.stop() == 0
        assert proxy.log().count("retried=yes") == 1
    assert [each.path for each in console.console.refused] == [f"/api/v1/Computer/{DEVICE}"]
    assert console.console.paths == ["/api/v1/User", f"/api/v1/Computer/{DEVICE}"]
    assert len(console.console.logins) == len(console.tokens) == 2
    assert is_untold(console.saw())


def test_incydr_logs_in_at_the_proxy_and_reads_its_tenant_out_of_what_it_gets(
    gateway: Vendor, tmp_path: Path
) -> None:
    gateway.revokes_before = {f"/v1/devices/{DEVICE}"}
    with proxied(at_gateway(gateway)) as (proxy, url):
        done = run(INCYDR, tmp_path, **incydr_variables(url))
        assert said(done) == {"tenant": TENANT, "users": USERS, "device": "laptop", "alerts": [ALERT]}
        assert proxy.stop() == 0
        assert proxy.log().count("retried=yes") == 1
    assert len(gateway.logins) == 2
    assert set(gateway.tokens_seen()) <= set(gateway.issuer.every)
    assert is_untold(saw(gateway))


def test_incydr_started_by_exec_needs_no_setting_and_no_line_changed(gateway: Vendor, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"routes": [at_gateway(gateway, client_secret="${REAL_SECRET}")]})
    done = subprocess.run(
        [*COMMAND, "exec", "-c", str(config), "--", sys.executable, "-W", "ignore", "-c", INCYDR],
        cwd=tmp_path, env=environment(tmp_path, {"REAL_SECRET": CLIENT_SECRET}), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert said(done) == {"tenant": TENANT, "users": USERS, "device": "laptop", "alerts": [ALERT]}
    assert len(gateway.logins) == 1
    assert is_untold(saw(gateway))


def test_a_wrong_secret_shows_at_py42s_login_and_costs_one_login(console: Console, tmp_path: Path) -> None:
    auth = {**CONSOLE_LOGINS["from_api_client"], "client_secret": "not-the-secret"}
    with proxied(at_console(console, auth=auth)) as (_, url):
        done = run(PY42, tmp_path, url, "from_api_client", **DUMMIES)
    assert done.returncode != 0
    assert "client_secret" in done.stderr
    assert len(console.console.logins) == 1
    assert "not-the-secret" not in done.stderr
    assert is_untold(console.saw())


def test_a_wrong_secret_shows_at_incydrs_login(gateway: Vendor, tmp_path: Path) -> None:
    with proxied(at_gateway(gateway, client_secret="not-the-secret")) as (_, url):
        done = run(INCYDR_LOGIN, tmp_path, **incydr_variables(url))
    status, hint = said(done)["refused"]
    assert f"502 Server Error: Bad Gateway for url: {url}/v1/oauth" in status
    assert "check client_id and client_secret" in hint
    assert len(gateway.logins) == 1
    assert is_untold(saw(gateway))


def test_without_a_stand_in_a_made_up_login_goes_nowhere(console: Console, tmp_path: Path) -> None:
    with proxied(at_console(console, stand_in=False)) as (_, url):
        done = run(PY42, tmp_path, url, "from_api_client", **DUMMIES)
    assert "Py42ForbiddenError" in done.stderr
    assert "stand_in" in done.stderr
    assert console.console.logins == []
    assert is_untold(console.saw())


# ── past the proxy: hosts that an answer names ───────────────────────────────────────────────────


def test_py42_asks_the_vendor_itself_for_alerts_where_it_has_nothing_but_a_placeholder(
    console: Console, tmp_path: Path
) -> None:
    with proxied(at_console(console)) as (_, url):
        done = run(PY42, tmp_path, url, "from_api_client", "alerts", **DUMMIES)
    assert "Py42UnauthorizedError" in done.stderr
    shown = [token.rpartition(".")[2] for token in console.alerts.tokens_seen()]
    assert shown == [placeholder("code42")] * 2  # in the place of the signature; py42 logs in anew between
    assert console.alerts.calls == []
    assert len(console.console.logins) == 1
    assert not any(made_up in console.saw() for made_up in DUMMIES.values())


PY42_WITH_TOKENS = """
import subprocess, sys
import py42.sdk
from py42.sdk.queries.alerts.alert_query import AlertQuery
from py42.sdk.queries.alerts.filters import AlertState

def token():
    return subprocess.check_output(sys.argv[2:], text=True).strip()

sdk = py42.sdk.from_jwt_provider(sys.argv[1], token)
query = AlertQuery.all(AlertState.eq("OPEN"))
print([each["id"] for each in sdk.alerts.search(query)["alerts"]])
"""


def test_py42_asks_there_with_tokens_of_ours_as_it_takes_them_from_a_command(
    console: Console, tmp_path: Path
) -> None:
    config = write_config(tmp_path, {"routes": [at_console(console)]})
    command = (*COMMAND, "token", "code42", "-c", str(config))
    done = run(PY42_WITH_TOKENS, tmp_path, console.console.url, *command)
    assert done.stdout == f"{[ALERT]}\n", done.stderr
    assert set(console.alerts.tokens_seen()) == set(console.tokens)


def test_py42_searches_alerts_by_routes_that_addresses_in_answers_are_made_to_lead_to(
    console: Console, tmp_path: Path
) -> None:
    auth, rewrite = shared(console.console.url), {"bodies": ["application/json", "text/plain"]}
    routes = [
        at_console(console, auth=auth, rewrite=rewrite),
        at_console(console, auth=auth, rewrite=rewrite, name="directory", upstream=console.directory.url),
        at_console(console, auth=auth, name="alerts", upstream=console.alerts.url),
    ]
    console.alerts.revokes_before = {"/svc/api/v1/query-alerts"}
    with proxied(*routes) as (_, url):
        done = run(PY42, tmp_path, url, "from_api_client", "alerts", **DUMMIES)
        assert said(done) == {"users": USERS, "device": "laptop", "alerts": [ALERT]}
    assert console.alerts.paths == ["/svc/api/v1/query-alerts"]
    assert set(console.alerts.tokens_seen()) == set(console.tokens)
    assert len(console.console.logins) == len(console.tokens) == 2
    assert [each.path for each in console.directory.requests] == [ALERTS_KEY]
    assert is_untold(console.saw())


# ── hosts that an answer names, by `exec --forward` ──────────────────────────────────────────────

TOLD = """
import os
import py42.settings

py42.settings.proxies = {"https": os.environ["HTTPS_PROXY"]}
py42.settings.verify_ssl_certs = os.environ["REQUESTS_CA_BUNDLE"]
"""


def test_py42_that_is_told_of_the_proxy_searches_alerts_at_whatever_host_they_are(tmp_path: Path) -> None:
    need("py42")
    hosts = {name: f"{name}.corp.test" for name in ("console", "alerts")}
    hosts["directory"] = "simple-key-value-store-east.corp.test"
    places = Places(sts="https://sts-east.corp.test", alerts=f"https://{hosts['alerts']}")
    with (
        running_company(tmp_path) as company,
        code42(places, lambda name: company.tls(hosts[name])) as vendor,
    ):
        for name, host in hosts.items():
            company.places[f"{host}:443"] = getattr(vendor, name).port
        auth = shared(f"https://{hosts['console']}")
        routes = [
            {"name": name, "path": f"/{name}", "upstream": f"https://{hosts[name]}", "auth": auth}
            for name in ("console", "alerts")
        ]
        config = write_config(tmp_path, {"routes": routes})
        done = company.run(
            *COMMAND, "exec", "-c", str(config), "--forward", "--",
            sys.executable, "-W", "ignore", "-c", TOLD + PY42, hosts["console"], "from_api_client", "alerts",
            **DUMMIES,
        )  # fmt: skip
        assert said(done) == {"users": USERS, "device": "laptop", "alerts": [ALERT]}
    assert vendor.alerts.paths == ["/svc/api/v1/query-alerts"]
    assert set(vendor.alerts.tokens_seen()) == set(vendor.tokens)
    assert len(vendor.console.logins) == 1
    assert [each.path for each in vendor.directory.requests] == [ALERTS_KEY], "through a tunnel"
    assert vendor.directory.last.all("Authorization") == []
    assert is_untold(vendor.saw())
