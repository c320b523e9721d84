"""Every configuration that `deploy/` and its documentation show, and how one is checked on this machine.

What it reads is elsewhere here: each path of a file becomes one below a directory of the test, with something
in it.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import authproxy
from tests.support.installed import module

from .machine import ROOT

helm = module("helm_python")

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/authproxy"
RELEASE = {"name": "authproxy", "namespace": "prod"}
KEYRING = """
from keyring.backend import KeyringBackend

class Keyring(KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        return "of-the-keyring"

    def set_password(self, service, username, password):
        raise NotImplementedError

    def delete_password(self, service, username):
        raise NotImplementedError
"""
_FILE = re.compile(r"\$\{file:([^}]+)\}")


def chart_values(**more: Any) -> dict[str, Any]:
    """Return the least that the chart has to be told."""
    route = {"name": "api", "upstream": "https://api.example.com", "auth": {"grant": "none"}}
    return {
        "config": {"routes": [route]},
        "redis": {"url": "redis://:some-password@authproxy-redis:6379"},
        "secret": {"data": {"store-key": "a-long-passphrase", "access-key": "of-the-callers"}},
        **more,
    }


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the manifests that Helm makes of the chart."""
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values, **RELEASE)
    return [each for text in texts.values() for each in yaml.safe_load_all(text) if each is not None]


def manifests(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text("utf-8")) if each is not None]


def config_of(found: list[dict[str, Any]]) -> str:
    """Return the configuration that the ConfigMap among manifests holds."""
    (text,) = [each["data"]["config.yaml"] for each in found if each["kind"] == "ConfigMap"]
    assert isinstance(text, str)
    return text


def configurations() -> dict[str, str]:
    """Return the text of every configuration, by where it is."""
    found = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in DEPLOY.rglob("config.yaml")}
    found["deploy/kubernetes/sidecar.yaml"] = config_of(manifests(DEPLOY / "kubernetes/sidecar.yaml"))
    found["deploy/helm/authproxy"] = config_of(rendered(chart_values()))
    for path in (ROOT / "docs").glob("deployment*.md"):
        blocks = re.findall(r"```yaml\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
        ours = [block for block in blocks if re.search(r"^routes:", block, re.MULTILINE)]
        found |= {f"docs/{path.name}, {number}": block for number, block in enumerate(ours)}
    return found


def moved(text: str, directory: Path, secrets: dict[str, str] | None = None) -> str:
    """Return `text` with every file that it reads below `directory`, where it is made.

    What is in one comes from `secrets` by its name, or is made up.
    """

    def move(match: re.Match[str]) -> str:
        path = directory / match[1].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        default = "redis://127.0.0.1" if "redis" in path.name else "made-up-for-a-test"
        path.write_text((secrets or {}).get(path.name, default), encoding="utf-8")
        return f"${{file:{path}}}"

    return _FILE.sub(move, text)


def check(text: str, directory: Path, *args: str) -> str:
    """Have the command check a configuration; return what it printed. It has to be content."""
    (directory / "testring.py").write_text(KEYRING, encoding="utf-8")
    env = {"PYTHON_KEYRING_BACKEND": "testring.Keyring", "PYTHONPATH": f"{ROOT}:{directory}"}
    ended = authproxy("check", *args, config=moved(text, directory), env=env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
