"""pip and a package index (PEP 503) that wants a token: pip has none, and fetches through the proxy.

pip ──▶ authproxy ──▶ /simple/NAME/  ──▶ links to files, relative or from the root
         adds the token
"""

import base64
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import RunningProxy, running_proxy
from tests.support.installed import need
from tests.support.wire import UNAUTHORIZED, Message, Tokens, Upstream, Wire, reply

NAME, FILE = "tiny-thing", "tiny_thing-1.0-py3-none-any.whl"


def wheel() -> bytes:
    """Return the smallest wheel there can be."""
    info = "tiny_thing-1.0.dist-info"
    files = {
        "tiny_thing.py": b"said = 'hello'\n",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for name, data in files.items()}
    lines = [
        f"{name},sha256={digest.decode().rstrip('=')},{len(files[name])}" for name, digest in digests.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


class Index(Upstream):
    """A package index below `/repository`, for those who have a good token."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(self.serve)
        self.tokens = tokens
        self.wheel = wheel()
        self.has_moved = False
        self.link = f"../../packages/{FILE}"
        self.hash = f"#sha256={hashlib.sha256(self.wheel).hexdigest()}"

    def serve(self, came: Message, _wire: Wire) -> bytes:
        if (came.one("Authorization") or "").removeprefix("Bearer ") not in self.tokens.issued.good:
            return UNAUTHORIZED
        folder, _, name = came.path.removeprefix("/repository/").partition("/")
        if self.has_moved and folder != "moved":
            return reply(301, f"Location: {self.url}/repository/moved/{name}")
        if name == f"{NAME}/":
            page = f'<!DOCTYPE html><title>x</title><a href="{self.link}{self.hash}">{FILE}</a>'
            return reply(200, "Content-Type: text/html", body=page.encode())
        if name == FILE:
            return reply(200, "Content-Type: application/octet-stream", body=self.wheel)
        return reply(404)


@dataclass
class Shop:
    proxy: RunningProxy
    index: Index
    tokens: Tokens
    directory: Path

    def download(self, index_url: str, name: str = NAME) -> subprocess.CompletedProcess[str]:
        isolated = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PIP_CONFIG_FILE": os.devnull,
            "PYTHONNOUSERSITE": "1",
        }
        options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--disable-pip-version-check"]
        options += ["--no-input", "--retries", "0", "--timeout", "20", "--dest", str(self.directory / "got")]
        return subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, "--index-url", index_url, name],
            cwd=self.directory, env=isolated, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def fetches(self, name: str = NAME) -> None:
        """Have pip download the wheel through the proxy, and see that it is the one."""
        done = self.download(f"{self.proxy.url}/pypi/simple/", name)
        assert done.returncode == 0, done.stderr + done.stdout
        got = self.directory / "got" / FILE
        assert got.read_bytes() == self.index.wheel
        got.unlink()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    need("pip")
    with Tokens() as tokens, Index(tokens) as index:
        auth = {
            "grant": "client_credentials",
            "token_url": f"{tokens.url}/token",
            "client_id": "me",
            "client_secret": "the-clients-secret",
        }
        routes = [
            {"name": "pypi", "path": "/pypi", "upstream": f"{index.url}/repository", "auth": auth},
            # Links from the root do not begin with /pypi; pages are not rewritten, by nobody's proxy.
            {"name": "root", "path": "/repository", "upstream": f"{index.url}/repository", "auth": auth},
        ]
        with running_proxy({"routes": routes}) as proxy:
            yield Shop(proxy, index, tokens, tmp_path)
            assert proxy.stop() == 0


def test_without_the_proxy_pip_gets_nothing(shop: Shop) -> None:
    assert shop.download(f"{shop.index.url}/repository/simple/").returncode != 0
    assert not (shop.directory / "got" / FILE).exists()


@pytest.mark.parametrize("link", [f"../../packages/{FILE}", f"/repository/packages/{FILE}"])
def test_pip_fetches_a_wheel_by_a_link_that_is_relative_or_from_the_root(shop: Shop, link: str) -> None:
    shop.index.link = link
    shop.fetches()
    assert [came.path for came in shop.index.requests] == [
        f"/repository/simple/{NAME}/",
        f"/repository/packages/{FILE}",
    ]
    assert len(shop.tokens.requests) == 1


def test_pip_does_not_notice_that_the_token_died(shop: Shop) -> None:
    shop.fetches()
    shop.tokens.revoke()
    shop.fetches()
    assert len(shop.tokens.requests) == 2


def test_a_wheel_with_another_hash_is_refused_by_pip_so_it_does_look(shop: Shop) -> None:
    shop.index.hash = "#sha256=" + "0" * 64
    done = shop.download(f"{shop.proxy.url}/pypi/simple/")
    assert done.returncode != 0
    assert "HASH" in done.stderr.upper()


def test_an_index_that_redirects_to_its_own_address_keeps_pip_on_the_proxy(shop: Shop) -> None:
    """Its `Location` names the upstream, where pip would be lost; the proxy makes it its own."""
    shop.index.has_moved = True
    shop.fetches()
    assert [came.path for came in shop.index.requests] == [
        f"/repository/simple/{NAME}/",
        f"/repository/moved/{NAME}/",
        f"/repository/packages/{FILE}",
        f"/repository/moved/{FILE}",
    ]
    assert len(shop.tokens.requests) == 1
