"""docker and a registry that wants a token as the password of Basic: by its helper, and through a route.

docker ──asks──▶ docker-credential-authproxy, which is `authproxy token … --format docker-credential`
   └─────────────────▶ a door that wants the token ──▶ docker-registry
   └─▶ authproxy ────▶
"""

import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.servers.test_credential_helpers import program
from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.installed import need, where
from tests.support.launch import GUARD, write_config
from tests.support.wire import Message, Tokens, Upstream, Wire, reply

NAME = "team/hello"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
UNAUTHORIZED = reply(401, 'WWW-Authenticate: Basic realm="registry"')
TLS_HANDSHAKE = b"\x16"
PASSED_ON = ("host", "accept", "content-type")  # `Host`: the registry makes its `Location` of it


class Door(Upstream):
    """Lets in who has a good token for a password."""

    def __init__(self, registry: str, tokens: Tokens) -> None:
        super().__init__(self.serve)
        self.registry = urlsplit(registry)
        self.tokens = tokens
        self.refused = 0

    def _talk(self, wire: Wire) -> None:
        if wire.sock.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE:  # docker's first try
            wire.send(reply(400))
        else:
            super()._talk(wire)

    def serve(self, came: Message, _wire: Wire) -> bytes:
        if not (came.one("Authorization") or "").startswith("Basic "):
            return UNAUTHORIZED
        username, _, password = came.basic.partition(":")
        if username != "oauth2" or password not in self.tokens.issued.good:
            self.refused += 1
            return UNAUTHORIZED
        asking = http.client.HTTPConnection(self.registry.hostname or "", self.registry.port, timeout=GUARD)
        headers = {name: ", ".join(values) for name in PASSED_ON if (values := came.all(name))}
        asking.request(came.method, came.target, came.body, headers)
        answer = asking.getresponse()
        body = answer.read()
        lines = [
            f"{name}: {value}" for name, value in answer.getheaders() if name.lower() != "content-length"
        ]
        asking.close()
        return reply(answer.status, *lines, body=body)


@contextmanager
def running_registry(directory: Path) -> Iterator[str]:
    """Run docker's own registry with nothing in it; yield its address."""
    config = directory / "registry.yml"
    config.write_text("{version: 0.1, storage: {inmemory: {}}, http: {addr: '127.0.0.1:0'}}")
    log_file = directory / "registry.log"
    with (
        log_file.open("wb") as log,
        subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ) as process,
    ):
        try:
            wait_until(lambda: "listening on " in log_file.read_text(), log_file.read_text)
            yield "http://" + re.search(r"listening on ([\d.:]+)", log_file.read_text())[1]
        finally:
            process.terminate()


@dataclass
class Quay:
    """docker with a configuration of its own, the proxy, and what is behind it."""

    directory: Path
    config: Path
    proxy: RunningProxy
    door: Door
    tokens: Tokens

    def docker(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "--config", str(self.directory), *args],
            env={"PATH": f"{self.directory}:{os.environ['PATH']}", "HOME": str(self.directory)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def inspects(self, url: str) -> subprocess.CompletedProcess[str]:
        """Have docker ask a registry for the manifest of the image."""
        return self.docker("manifest", "inspect", "--insecure", f"{urlsplit(url).netloc}/{NAME}:1")


@pytest.fixture
def quay(tmp_path: Path) -> Iterator[Quay]:
    need(
        "docker-registry", *([] if where("docker") else ["docker's client"])
    )  # a module is called docker too
    with running_registry(tmp_path) as registry, Tokens() as tokens, Door(registry, tokens) as door:
        auth = {
            "grant": "client_credentials", "token_url": f"{tokens.url}/token",
            "client_id": "me", "client_secret": "the-clients-secret",
            "inject": [{"basic": {"username": "oauth2", "password": "{token}"}}],
        }  # fmt: skip
        config = {
            "token_store": {"type": "file", "path": str(tmp_path / "tokens")},
            "routes": [{"name": "registry", "upstream": door.url, "auth": auth}],
        }
        with running_proxy(config) as proxy:
            helper = ("token", "registry", "--format", "docker-credential")
            file = write_config(tmp_path, config)
            program(tmp_path, "docker-credential-authproxy", file, *helper)
            quay = Quay(tmp_path, file, proxy, door, tokens)
            push(proxy.url)
            yield quay


def push(url: str) -> None:
    """Put an image of one small layer into the registry, as its API has it (uploads go where it says)."""
    layer, config = b"no layer at all", b'{"architecture": "amd64", "os": "linux"}'
    for blob in (layer, config):
        with urlopen(Request(f"{url}/v2/{NAME}/blobs/uploads/", method="POST")) as begun:
            where = urljoin(url, begun.headers["Location"])
        assert where.startswith(url), where
        mark = "&" if "?" in where else "?"
        target = f"{where}{mark}digest={digest(blob)}"
        octets = {"Content-Type": "application/octet-stream"}
        with urlopen(Request(target, blob, octets, method="PUT")) as done:
            assert done.status == 201
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": described("application/vnd.docker.container.image.v1+json", config),
        "layers": [described("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
    }  # fmt: skip
    target = f"{url}/v2/{NAME}/manifests/1"
    typed = {"Content-Type": MANIFEST_TYPE}
    with urlopen(Request(target, json.dumps(manifest).encode(), typed, method="PUT")) as done:
        assert done.status == 201


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def described(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(data), "digest": digest(data)}


def test_without_a_credential_docker_is_refused(quay: Quay) -> None:
    done = quay.inspects(quay.door.url)
    assert done.returncode != 0
    assert "no basic auth credentials" in done.stderr


def test_docker_gets_in_by_the_helper_and_after_a_logout_with_another_token(quay: Quay) -> None:
    where = urlsplit(quay.door.url).netloc
    (quay.directory / "config.json").write_text(json.dumps({"credHelpers": {where: "authproxy"}}))
    done = quay.inspects(quay.door.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["config"]["digest"].startswith("sha256:")
    asked = len(quay.tokens.requests)
    quay.tokens.revoke()
    assert quay.inspects(quay.door.url).returncode != 0  # docker tells no helper that a token was refused
    assert len(quay.tokens.requests) == asked  # so it is given the one that is stored
    assert authproxy("logout", "registry", "-c", str(quay.config)).returncode == 0
    assert quay.inspects(quay.door.url).returncode == 0
    assert len(quay.tokens.requests) == asked + 1


def test_docker_through_a_route_needs_no_credential_and_does_not_notice_that_the_token_died(
    quay: Quay,
) -> None:
    quay.tokens.revoke()
    done = quay.inspects(quay.proxy.url)
    assert done.returncode == 0, done.stderr
    assert quay.door.refused == 1
