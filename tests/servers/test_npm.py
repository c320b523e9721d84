"""npm and a registry that wants a token: npm has none, and installs through the proxy.

npm ──▶ authproxy ──▶ /NAME  ──▶ the package's document, in which its tarball has a full URL
         adds the token
"""

import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import RunningProxy, running_proxy
from tests.support.installed import need, where
from tests.support.wire import UNAUTHORIZED, Message, Tokens, Upstream, Wire, json_reply, reply

NAME = "tiny-thing"
SAID = b"module.exports = 'hello'\n"


def tarball() -> bytes:
    """Return the smallest package there can be."""
    files = {
        "package/package.json": json.dumps({"name": NAME, "version": "1.0.0"}).encode(),
        "package/index.js": SAID,
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return made.getvalue()


class Registry(Upstream):
    """A registry below `/npm`, for those who have a good token."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(self.serve)
        self.tokens = tokens
        self.tarball = tarball()
        self.refused: list[Message] = []

    def serve(self, came: Message, _wire: Wire) -> bytes:
        if (came.one("Authorization") or "").removeprefix("Bearer ") not in self.tokens.issued.good:
            self.refused.append(came)
            return UNAUTHORIZED
        if came.path == f"/npm/{NAME}":
            return json_reply(self.document())
        if came.path == f"/npm/{NAME}/-/{NAME}-1.0.0.tgz":
            return reply(200, "Content-Type: application/octet-stream", body=self.tarball)
        return reply(404)

    def document(self) -> dict[str, object]:
        digest = base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
        dist = {"tarball": f"{self.url}/npm/{NAME}/-/{NAME}-1.0.0.tgz", "integrity": f"sha512-{digest}"}
        version = {"name": NAME, "version": "1.0.0", "dist": dist}
        return {"name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}


@dataclass
class Shop:
    proxy: RunningProxy
    registry: Registry
    tokens: Tokens
    directory: Path

    def install(self, registry: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Have npm install the package into an empty directory, without any setting of this machine's."""
        place = self.directory / f"place-{len(list(self.directory.iterdir()))}"
        place.mkdir()
        names = {f"npm_config_{name}": value for name, value in settings.items()}
        quiet = {
            "npm_config_audit": "false",
            "npm_config_fund": "false",
            "npm_config_update_notifier": "false",
        }
        own = {"npm_config_userconfig": os.devnull, "npm_config_globalconfig": str(place / "none")}
        done = subprocess.run(
            [where("npm") or "npm", "install", "--fetch-retries=0", NAME],
            cwd=place,
            env={
                "PATH": os.environ["PATH"], "HOME": str(place), "npm_config_cache": str(place / "cache"),
                "npm_config_registry": registry, **quiet, **own, **names,
            },
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            assert (place / "node_modules" / NAME / "index.js").read_bytes() == SAID
        return done

    def installs(self) -> None:
        done = self.install(f"{self.proxy.url}/npm/", replace_registry_host="always")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    need("node", "npm")
    with Tokens() as tokens, Registry(tokens) as registry:
        auth = {
            "grant": "client_credentials", "token_url": f"{tokens.url}/token",
            "client_id": "me", "client_secret": "the-clients-secret",
        }  # fmt: skip
        route = {"name": "npm", "path": "/npm", "upstream": f"{registry.url}/npm", "auth": auth}
        with running_proxy({"routes": [route]}) as proxy:
            yield Shop(proxy, registry, tokens, tmp_path)
            assert proxy.stop() == 0


def test_without_the_proxy_npm_gets_nothing(shop: Shop) -> None:
    assert shop.install(f"{shop.registry.url}/npm/").returncode != 0
    assert shop.tokens.requests == []


def test_npm_installs_and_does_not_notice_that_the_token_died(shop: Shop) -> None:
    shop.installs()
    assert len(shop.tokens.requests) == 1
    shop.tokens.revoke()
    shop.installs()
    assert len(shop.tokens.requests) == 2
    assert len(shop.registry.refused) == 1


def test_without_its_setting_npm_leaves_the_proxy_for_the_tarball_and_is_refused_there(shop: Shop) -> None:
    assert shop.install(f"{shop.proxy.url}/npm/").returncode != 0
    (refused,) = shop.registry.refused
    assert refused.path.endswith(".tgz")
    assert refused.one("Authorization") is None
