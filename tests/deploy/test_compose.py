"""The compose file: read by Docker Compose itself, and fitting the image."""

import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.installed import need
from tests.support.launch import GUARD

from .configurations import DEPLOY
from .test_image import CONFIGURATION, environment, only

COMPOSE = DEPLOY / "compose/compose.yaml"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The file as Docker Compose understands it, or its complaint."""
    need("compose")
    spec = find_spec("compose")
    assert spec is not None
    assert spec.origin is not None
    ended = subprocess.run(  # the package's own command always ends with 0
        [Path(spec.origin).with_name("docker-compose"), "--file", COMPOSE, "config"],
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
