"""Tools that take a server's address and a token from variables: `authproxy exec` sets those of the presets.

authproxy exec -- gitlab …                python-gitlab's command line
authproxy exec -- node script.mjs         GitHub's own client for Actions, @actions/github
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from authproxy.proxy.placeholders import PREFIX
from tests.servers.oidc.conftest import unavailable
from tests.support.installed import need, where
from tests.support.launch import COMMAND, environment, write_config
from tests.support.wire import Message, Upstream, json_reply, reply

REAL = "the-real-token"

NODE = """
import { getOctokit } from "@actions/github";

const { data } = await getOctokit(process.env.GITHUB_TOKEN).rest.users.getAuthenticated();
console.log(data.login);
"""


def executed(
    directory: Path, route: Mapping[str, object], *command: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `command` by `authproxy exec`; the secret is in a variable, as people have it."""
    config = write_config(directory, {"routes": [dict(route)]})
    return subprocess.run(
        [*COMMAND, "exec", "-c", str(config), "--", *command],
        cwd=cwd or directory, env=environment(directory, {"REAL": REAL}), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def api(header: str, value: str, documents: Mapping[str, object]) -> Upstream:
    """Return a server that lets in who sends `value` in `header`."""

    def answer(came: Message, _wire: object) -> bytes:
        if came.all(header) != [value]:
            return reply(401)
        document = documents.get(came.path)
        return json_reply(document) if document is not None else reply(404)

    return Upstream(answer)


def shown(requests: Sequence[Message]) -> str:
    return "\n".join(came.head.decode() for came in requests)


def test_gitlabs_command_line_needs_no_setting_and_no_token(tmp_path: Path) -> None:
    need("gitlab")
    with api("PRIVATE-TOKEN", REAL, {"/api/v4/user": {"id": 1, "username": "ada"}}) as server:
        route = {
            "name": "gitlab",
            "upstream": server.url,
            "auth": {"preset": "gitlab-token", "token": "${REAL}"},
        }
        done = executed(tmp_path, route, str(where("gitlab")), "-v", "current-user", "get")
        assert done.returncode == 0, done.stderr
        assert "username: ada" in done.stdout
        assert server.requests
        assert PREFIX not in shown(server.requests)


@pytest.fixture(scope="session")
def actions(pytestconfig: pytest.Config) -> Path:
    """Return a directory in which Node finds GitHub's client."""
    need("node", "npm")
    place = pytestconfig.cache.mkdir("actions-github")
    if not (place / "node_modules/@actions/github").is_dir():
        command = [
            str(where("npm")),
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "@actions/github@9",
        ]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode != 0:
            shutil.rmtree(place / "node_modules", ignore_errors=True)
            unavailable(f"npm cannot install @actions/github: {done.stderr.strip()[-300:]}")
    (place / "script.mjs").write_text(NODE)
    return place


def test_githubs_client_for_actions_needs_no_setting_and_no_token(tmp_path: Path, actions: Path) -> None:
    with api("Authorization", f"Bearer {REAL}", {"/user": {"login": "ada"}}) as server:
        route = {
            "name": "github",
            "upstream": server.url,
            "auth": {"preset": "github-token", "token": "${REAL}"},
        }
        done = executed(tmp_path, route, str(where("node")), "script.mjs", cwd=actions)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "ada\n"
        assert PREFIX not in shown(server.requests)
