"""up42-py, unchanged: its hosts are in its code, and it logs in by itself.

    up42-py ──▶ authproxy exec --forward: ends TLS for both of UP42's hosts, answers the login
                 │ its way out is a company's proxy, which alone knows where names lead
                 ├──▶ auth.sa.up42.com, api.sa.up42.com   stand-ins, with certificates of the company's
                 └──▶ pypi.org, which it asks whether it is up to date: through a tunnel, untouched

It does the same straight at the vendor, with real credentials, so that one sees what it is compared with.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from authproxy.demo.accounts import PASSWORD, USERNAME
from authproxy.proxy.placeholders import PREFIX
from tests.servers.vendors import API, AUTH, COLLECTION, SCENES, UP42, UP42_USER, up42
from tests.support.command import wait_until
from tests.support.company import Company, running_company
from tests.support.installed import need
from tests.support.launch import COMMAND, GUARD, environment, write_config
from tests.support.wire import Upstream, json_reply

PYPI = "pypi.org"
NEWEST = json_reply({"info": {"version": "4.3.0"}})
DUMMIES = {"NAME": "made-up-name", "SECRET": "made-up-secret"}
SAID = {"user": UP42_USER, "collections": [COLLECTION["name"]], "orders": [], "scenes": SCENES}

PROGRAM = """
import json, os
import up42

up42.authenticate(username=os.environ["NAME"], password=os.environ["SECRET"], region="sa")
said = {"user": up42.base.workspace.id}
said["collections"] = [each.name for each in up42.ProductGlossary.get_collections()]
said["orders"] = list(up42.Order.all())
said["scenes"] = [each.id for each in up42.catalog_client().search(collections=["sentinel-2"]).items()]
print(json.dumps(said))
"""
PYTHON = (sys.executable, "-W", "ignore", "-c", PROGRAM)


@dataclass(frozen=True)
class World:
    """A company's network that UP42 is in, and pypi.org."""

    company: Company
    up42: UP42
    pypi: Upstream

    def run(self, *before: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the program, behind the words of `before`, with `variables`."""
        return self.company.run(*before, *PYTHON, **variables)

    def run_beside(self, config: dict[str, object]) -> subprocess.CompletedProcess[str]:
        return self.run(*beside(write_config(self.company.directory, config)), **DUMMIES)


def beside(config: Path) -> tuple[str, ...]:
    return (*COMMAND, "exec", "-c", str(config), "--forward", "--")


@contextmanager
def world(directory: Path, **options: str) -> Iterator[World]:
    need("up42")
    with (
        running_company(directory) as company,
        up42(company.tls, **options) as vendor,
        Upstream(lambda _came, _wire: NEWEST, tls=company.tls(PYPI)) as pypi,
    ):
        for host, server in ((API, vendor.api), (AUTH, vendor.auth), (PYPI, pypi)):
            company.places[f"{host}:443"] = server.port
        yield World(company, vendor, pypi)


CREDENTIAL = {"preset": "up42", "username": USERNAME, "password": PASSWORD, "scope": "openid"}


def config(**more: object) -> dict[str, object]:
    """Return the configuration of docs/clients.md."""
    routes = [
        {"name": "up42", "upstream": f"https://{API}", "path": "/up42", "auth": CREDENTIAL | more},
        {"name": "up42-auth", "upstream": f"https://{AUTH}", "path": "/auth", "auth": CREDENTIAL | more},
    ]
    return {"routes": routes}


def grants(vendor: UP42) -> list[str]:
    return [login.form["grant_type"] for login in vendor.auth.logins]


# ── straight at the vendor ───────────────────────────────────────────────────────────────────────


def test_up42_with_real_credentials_needs_no_proxy_of_ours(tmp_path: Path) -> None:
    with world(tmp_path, client_id="up42-sdk") as there:
        done = there.run(NAME=USERNAME, SECRET=PASSWORD)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == SAID
        assert grants(there.up42) == ["password"]


def test_up42_does_not_come_through_a_revoked_token_by_itself(tmp_path: Path) -> None:
    with world(tmp_path, client_id="up42-sdk") as there:
        there.up42.api.revokes_before = {"/v2/catalog/search"}
        done = there.run(NAME=USERNAME, SECRET=PASSWORD)
        assert "invalid_token" in done.stderr


# ── through the proxy ────────────────────────────────────────────────────────────────────────────


def test_up42_logs_in_lists_and_searches_and_the_vendor_sees_one_login_and_real_tokens(
    tmp_path: Path,
) -> None:
    with world(tmp_path) as there:
        done = there.run_beside(config())
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == SAID
        assert grants(there.up42) == ["password"]
        vendor = there.up42
        assert set(vendor.api.tokens_seen() + vendor.auth.tokens_seen()) == set(vendor.api.issuer.every)
        assert len(there.pypi.requests) == 1, "through the tunnel"
        assert there.pypi.last.all("Authorization") == []
        assert not any(made_up in vendor.saw() for made_up in (PREFIX, *DUMMIES.values()))


def test_up42_does_not_notice_that_its_token_was_revoked(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        there.up42.api.revokes_before = {"/v2/catalog/search"}
        done = there.run_beside(config())
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == SAID
        assert [each.path for each in there.up42.api.refused] == ["/v2/catalog/search"]
        assert there.up42.api.paths.count("/v2/catalog/search") == len(SCENES)
        assert len(there.up42.api.issuer.every) == 2


def test_a_wrong_password_is_told_at_once_where_up42_goes_on_trying(tmp_path: Path) -> None:
    """It tries again when the proxy does, in half a minute: nobody waits for that here."""
    log = tmp_path / "stderr"
    with world(tmp_path) as there, log.open("wb") as stderr:
        file = write_config(tmp_path, config(password="not-the-password"))
        process = subprocess.Popen(
            [*beside(file), *PYTHON],
            cwd=tmp_path, env=environment(tmp_path, there.company.variables | DUMMIES),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
        try:
            wait_until(lambda: "check the e-mail address and the password" in log.read_text(), log.read_text)
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(GUARD)
    assert grants(there.up42) == ["password"]
    assert there.up42.api.requests == []
    assert "not-the-password" not in log.read_text()
