"""The compose file: read by Docker Compose itself, and fitting the image."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.company import running_company
from tests.support.installed import need
from tests.support.launch import ANY_PORT, GUARD
from tests.support.launch import environment as launched_environment
from tests.support.wire import Upstream, reply

from .configurations import DEPLOY
from .test_image import CONFIGURATION, environment, only

COMPOSE, FORWARD = DEPLOY / "compose/compose.yaml", DEPLOY / "compose/forward.yaml"
API = "api.sa.up42.com"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return read_by_compose(COMPOSE)


def read_by_compose(*files: Path) -> dict[str, Any]:
    """Return what Docker Compose understands of `files`, laid over each other."""
    need("compose")
    spec = find_spec("compose")
    assert spec is not None
    assert spec.origin is not None
    ended = subprocess.run(  # the package's own command always ends with 0
        [
            Path(spec.origin).with_name("docker-compose"),
            *(word for file in files for word in ("--file", file)), "config",
        ],
        capture_output=True, text=True, timeout=GUARD, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    document: dict[str, Any] = yaml.safe_load(ended.stdout)
    return document


def test_the_application_shares_the_loopback_of_the_proxy_and_waits_for_it(project: dict[str, Any]) -> None:
    app = project["services"]["app"]
    assert app["network_mode"] == "service:authproxy"
    assert app["depends_on"]["authproxy"]["condition"] == "service_healthy"
    assert "ports" not in project["services"]["authproxy"]


def test_the_proxy_can_change_nothing_but_its_state(project: dict[str, Any]) -> None:
    proxy = project["services"]["authproxy"]
    assert proxy["read_only"] is True
    assert proxy["cap_drop"] == ["ALL"]
    assert proxy["security_opt"] == ["no-new-privileges:true"]
    mounted = {each["target"]: each.get("read_only", False) for each in proxy["volumes"]}
    state = environment()["XDG_STATE_HOME"] + "/authproxy"
    assert mounted == {CONFIGURATION: True, state: False}


def test_the_health_check_is_the_images_own(project: dict[str, Any]) -> None:
    assert project["services"]["authproxy"]["healthcheck"]["test"] == ["CMD", *only("HEALTHCHECK").words]


def test_every_secret_that_the_configuration_reads_is_mounted(project: dict[str, Any]) -> None:
    text = COMPOSE.with_name("config.yaml").read_text("utf-8")
    mounted = {each["target"] for each in project["services"]["authproxy"]["secrets"]}
    assert mounted
    assert all(f"${{file:{path}}}" in text for path in mounted)
    assert text.count("${file:") == len(mounted)


def test_an_application_that_is_told_of_the_forward_proxy_asks_the_api_itself(tmp_path: Path) -> None:
    """Run what is run in its container: with other ports, and with files of ours for those that it has."""
    app = read_by_compose(COMPOSE, FORWARD)["services"]["app"]
    assert app["network_mode"] == "service:authproxy"
    api = {"name": "up42", "upstream": f"https://{API}", "auth": {"grant": "static", "token": "the-token"}}
    with (
        running_company(tmp_path) as company,
        Upstream(lambda _came, _wire: reply(body=b"assets"), tls=company.tls(API)) as server,
    ):
        company.places[f"{API}:443"] = server.port
        config = {"forward": {"listen": ANY_PORT}, "routes": [api]}
        with running_proxy(config, env=company.variables) as proxy:
            places = {
                "127.0.0.1:8888": forwarding(proxy),
                "127.0.0.1:8081": proxy.admin_url.removeprefix("http://"),
                "/tmp/": f"{tmp_path}/",
                "/etc/ssl/certs/ca-certificates.crt": str(company.roots),
            }

            def here(text: str) -> str:
                for place, other in places.items():
                    text = text.replace(place, other)
                return text

            variables = {name: here(value) for name, value in app["environment"].items()}
            words = [*app["entrypoint"], *map(here, app["command"])]
            done = subprocess.run(
                words, env=launched_environment(tmp_path, variables),
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GUARD, check=False,
            )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "assets"), done.stderr
    assert server.last.one("Authorization") == "Bearer the-token"


def forwarding(proxy: RunningProxy) -> str:
    """Return the address of the forward listener."""
    pattern = re.compile(r"^forwarding on http://(\S+)$", re.MULTILINE)
    wait_until(lambda: pattern.search(proxy.output()), proxy.output)
    return pattern.search(proxy.output())[1]
