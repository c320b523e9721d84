"""`authproxy doctor --forward -- COMMAND`: whether a program comes by the proxy, and trusts it."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.beside import python
from tests.support.command import authproxy
from tests.support.company import Company, running_company
from tests.support.installed import need
from tests.support.wire import Upstream, reply

API_HOST, OTHER_HOST = "api.corp.test", "other.corp.test"
URL = f"https://{API_HOST}/v1/items?q=asked-for"
TOKEN = "the-token-of-the-route"
BY_URLLIB = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
BY_ITSELF = """
import os, urllib.request as r
r.build_opener(r.ProxyHandler({})).open(os.environ["API_URL"]).close()
"""
WITHOUT_KEY = """
import http.client, os, sys
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
connection = http.client.HTTPSConnection(proxy.hostname, proxy.port)
connection.set_tunnel(sys.argv[1])
connection.request("GET", "/")
"""
PLAINLY_WITHOUT_KEY = """
import http.client, os, sys
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTP_PROXY"])
connection = http.client.HTTPConnection(proxy.hostname, proxy.port)
connection.request("GET", sys.argv[1])
"""
BY_ANOTHER_HOST = """
import sys, urllib.request as r
r.urlopen(r.Request(sys.argv[1], headers={"Host": "another.corp.test"}))
"""
WITHOUT_NAME = """
import http.client, os, socket, ssl, sys
from base64 import b64encode
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
key = b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
sock = socket.create_connection((proxy.hostname, proxy.port))
place = f"{sys.argv[1]}:443"
key = f"Proxy-Authorization: Basic {key}"
sock.sendall(f"CONNECT {place} HTTP/1.1\\r\\nHost: {place}\\r\\n{key}\\r\\n\\r\\n".encode())
while b"\\r\\n\\r\\n" not in sock.recv(1000): pass
context = ssl.create_default_context()
context.check_hostname = False
secure = context.wrap_socket(sock, server_hostname=None)
secure.sendall(f"GET / HTTP/1.1\\r\\nHost: {sys.argv[1]}\\r\\nConnection: close\\r\\n\\r\\n".encode())
print(secure.recv(1000).split()[1].decode())
"""
BY_NODE = """
const http = require('http'), tls = require('tls'), proxy = new URL(process.env.HTTPS_PROXY);
const key = Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64');
const asked = http.request({
  host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: process.argv[1] + ':443',
  headers: {Host: process.argv[1] + ':443', 'Proxy-Authorization': 'Basic ' + key},
});
asked.on('connect', (_, socket) => {
  const secure = tls.connect({socket, servername: process.argv[1], maxVersion: process.argv[2]});
  secure.on('secureConnect', () => secure.write(`GET / HTTP/1.1\\r\\nHost: ${process.argv[1]}\\r\\n\\r\\n`));
  secure.on('data', () => process.exit(0));
  secure.on('error', error => { console.error(error.code); process.exit(1); });
});
asked.end();
"""


@dataclass
class World:
    """A company's network with a route's upstream and another host."""

    company: Company
    api: Upstream
    other: Upstream

    def examined(self, *command: str, args: tuple[str, ...] = (), **keys: Any) -> tuple[dict[str, Any], int]:
        """Return the document about a program, and the exit code."""
        auth = {"grant": "static", "token": TOKEN}
        route = {"name": "api", "upstream": f"https://{API_HOST}", "auth": auth, **keys}
        ended = self.doctor(*command, args=("--json", *args), config={"routes": [route]})
        document: dict[str, Any] = json.loads(ended.stdout)
        return document, ended.returncode

    def doctor(self, *command: str, args: tuple[str, ...] = (), config: Any) -> Any:
        """Run the doctor with a program to its end. What it says is no secret."""
        ended = authproxy(
            "doctor", "--forward", *args, config=config, env=self.company.variables, then=("--", *command)
        )
        for secret in (TOKEN, "exec:", "asked-for"):
            assert secret not in ended.stdout
        return ended


def steps_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all steps by their names; there is one route at most."""
    subjects = [document["proxy"], *document["routes"]]
    return {step["name"]: step for subject in subjects for step in subject["steps"]}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with (
        running_company(tmp_path) as company,
        Upstream(tls=company.tls(API_HOST)) as api,
        Upstream(tls=company.tls(OTHER_HOST)) as other,
    ):
        company.places.update({f"{API_HOST}:443": api.port, f"{OTHER_HOST}:443": other.port})
        yield World(company, api, other)


def test_a_program_that_comes_and_trusts(world: World) -> None:
    code = f"{BY_URLLIB}\nsys.argv[1] = sys.argv[2]\n{BY_URLLIB}"
    document, exit_code = world.examined(*python(code, URL, f"https://{OTHER_HOST}/"))
    steps = steps_of(document)
    assert (exit_code, document["ok"]) == (0, True)
    assert "exit code 0" in steps["program"]["detail"]
    assert "1 intercepted, 1 tunnelled" in steps["proxy"]["detail"]
    assert steps["elsewhere"]["detail"] == f"{OTHER_HOST}:443"
    assert steps["trust"]["detail"] == (
        f"{API_HOST}:443: our certificate was accepted, and it named the server (SNI)"
    )
    assert steps["requests"]["detail"] == "GET /v1/items answered 200"
    assert world.api.last.one("Authorization") == f"Bearer {TOKEN}"
    assert world.other.last.all("Authorization") == []


def test_a_program_that_uses_no_proxy(world: World) -> None:
    document, exit_code = world.examined(*python("print('nothing')"))
    assert (exit_code, steps_of(document)["proxy"]["ok"]) == (1, False)
    assert "does not use HTTPS_PROXY" in steps_of(document)["proxy"]["cause"]
    document, exit_code = world.examined(*python(BY_ITSELF))
    assert exit_code == 1
    assert "1 request came by a route's own URL" in steps_of(document)["proxy"]["cause"]


def test_a_program_that_sends_no_key(world: World) -> None:
    document, exit_code = world.examined(*python(WITHOUT_KEY, API_HOST))
    assert exit_code == 1
    assert "without the user and the password" in steps_of(document)["proxy"]["cause"]
    assert world.api.connections == 0


def test_a_program_that_does_not_trust_us(world: World, tmp_path: Path) -> None:
    need("curl")
    trustme.CA().cert_pem.write_to_path(tmp_path / "another.pem")
    document, exit_code = world.examined("curl", "-sS", "--cacert", str(tmp_path / "another.pem"), URL)
    trust = steps_of(document)["trust"]
    assert (exit_code, trust["ok"]) == (1, False)
    assert trust["cause"] == f"{API_HOST}:443: it refused our certificate: unknown ca"
    assert "SSL_CERT_FILE" in trust["next"]
    assert world.api.requests == []


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_one_that_says_nothing_of_it_is_known_by_its_silence(world: World, version: str) -> None:
    need("node")
    command = ("node", "-e", BY_NODE, API_HOST, version)
    document, exit_code = world.examined(*command)
    assert exit_code == 0, document
    if os.name == "posix":
        document, exit_code = world.examined("env", "-u", "NODE_EXTRA_CA_CERTS", *command)
        assert exit_code == 1
        assert "does not trust our certificate" in steps_of(document)["trust"]["cause"]


def test_a_program_that_names_no_server(world: World) -> None:
    document, exit_code = world.examined(*python(WITHOUT_NAME, API_HOST))
    assert exit_code == 0, document
    assert steps_of(document)["trust"]["detail"].endswith("accepted, and it named no server (SNI)")


def test_an_upstream_that_refuses_and_an_answer_of_our_own_fail(world: World) -> None:
    world.api.says(reply(401))
    document, exit_code = world.examined(*python(BY_URLLIB, URL))
    assert (exit_code, steps_of(document)["trust"]["ok"]) == (1, True)
    assert "answered 401" in steps_of(document)["requests"]["cause"]
    assert "authproxy doctor api" in steps_of(document)["requests"]["next"]
    document, exit_code = world.examined(*python(BY_URLLIB, URL), allow={"methods": ["POST"]})
    assert exit_code == 1
    assert "answered 403: " in steps_of(document)["requests"]["cause"]
    assert "`allow.methods`" in steps_of(document)["requests"]["next"]


def test_an_answer_of_our_own_in_a_tunnel_is_no_matter_of_trust(world: World) -> None:
    below = f"https://{API_HOST}/v1"
    document, exit_code = world.examined(*python(BY_URLLIB, f"https://{API_HOST}/zz"), upstream=below)
    steps = steps_of(document)
    assert (exit_code, steps["trust"]["ok"], "elsewhere" in steps) == (1, True, False)
    assert "GET /zz answered 404: " in steps["requests"]["cause"]
    assert steps["requests"]["next"]
    assert world.api.requests == []
    also = BY_URLLIB + "\nr.urlopen(sys.argv[2])"
    document, exit_code = world.examined(*python(also, URL, f"https://{API_HOST}/zz"), upstream=below)
    assert (exit_code, len(world.api.requests)) == (1, 1)
    assert "GET /zz answered 404: " in steps_of(document)["requests"]["cause"]


def test_another_host_in_a_tunnel_is_no_matter_of_trust_either(world: World) -> None:
    document, exit_code = world.examined(*python(BY_ANOTHER_HOST, URL))
    steps = steps_of(document)
    assert (exit_code, steps["trust"]["ok"]) == (1, True)
    assert "answered 421: " in steps["requests"]["cause"]


def test_plain_http_to_a_host_that_is_https_is_a_request_that_failed(world: World) -> None:
    document, exit_code = world.examined(*python(BY_URLLIB, f"http://{API_HOST}:443/v1"))
    steps = steps_of(document)
    assert (exit_code, "elsewhere" in steps) == (1, False)
    assert "answered 400: " in steps["requests"]["cause"]
    assert world.api.connections == 0


def test_https_to_a_route_whose_upstream_is_http_is_told_with_the_way_out(world: World) -> None:
    with Upstream() as plain:
        upstream = f"http://127.0.0.1:{plain.port}"
        document, exit_code = world.examined(
            *python(BY_URLLIB, upstream.replace("http:", "https:")), upstream=upstream
        )
        steps = steps_of(document)
        assert (exit_code, plain.requests) == (1, [])
        assert steps["requests"]["cause"] == (
            f"127.0.0.1:{plain.port}: the program spoke https, but this route's upstream is http://"
        )
        assert "write https:// in the route's `upstream`" in steps["requests"]["next"]


def test_plain_http_is_told_by_its_own_variable(world: World) -> None:
    with Upstream() as plain:
        upstream = f"http://127.0.0.1:{plain.port}"
        document, exit_code = world.examined(*python(BY_URLLIB, upstream), upstream=upstream)
        assert (exit_code, len(plain.requests)) == (0, 1)
        assert steps_of(document)["proxy"]["detail"] == "it uses HTTP_PROXY: 1 request to a route"
        document, exit_code = world.examined(*python(PLAINLY_WITHOUT_KEY, upstream), upstream=upstream)
        steps = steps_of(document)
        assert (exit_code, "elsewhere" in steps) == (1, False)
        assert "without the user and the password" in steps["proxy"]["cause"]


def test_a_credential_that_the_program_brings_along_is_told_of(world: World) -> None:
    code = (
        "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], headers={'Authorization': 'x'}))"
    )
    world.api.says(reply(401))
    document, exit_code = world.examined(*python(code, URL))
    assert (exit_code, world.api.last.one("Authorization")) == (1, "x")
    assert "`incoming: replace`" in steps_of(document)["requests"]["next"]


def test_a_host_that_is_refused_fails_with_the_hint_of_its_answer(world: World) -> None:
    config = {
        "forward": {"unmatched": "refuse"},
        "routes": [{"name": "api", "upstream": f"https://{API_HOST}", "auth": {"grant": "none"}}],
    }
    command = python(BY_URLLIB, f"https://{OTHER_HOST}/")
    ended = world.doctor(*command, args=("--json",), config=config)
    elsewhere = steps_of(json.loads(ended.stdout))["elsewhere"]
    assert (ended.returncode, elsewhere["ok"], world.other.connections) == (1, False, 0)
    assert "`forward.unmatched: tunnel`" in elsewhere["next"]


def test_a_program_that_asks_for_none_of_the_routes_hosts(world: World) -> None:
    document, exit_code = world.examined(*python(BY_URLLIB, f"https://{OTHER_HOST}/"))
    assert exit_code == 1
    assert "asked for no route's upstream" in steps_of(document)["proxy"]["cause"]


def test_what_it_writes_is_kept_apart_and_its_exit_code_is_its_own(world: World) -> None:
    code = f"{BY_URLLIB}\nprint('to stdout', file=sys.stdout)\nraise SystemExit(7)"
    config = {"routes": [{"name": "api", "upstream": f"https://{API_HOST}", "auth": {"grant": "none"}}]}
    ended = world.doctor(*python(code, URL), config=config)
    assert ended.returncode == 0
    assert "to stdout" in ended.stderr
    assert "to stdout" not in ended.stdout
    assert f"{API_HOST}:443: our certificate was accepted" in ended.stdout
    assert ended.stdout.endswith("\nthe program comes by the proxy, and trusts it\n")
    assert re.search(r"program +\d+ ms +python\S*: exit code 7\n", ended.stdout)


def test_a_program_that_is_not_there(world: World) -> None:
    document, exit_code = world.examined("no-such-program")
    assert exit_code == 1
    assert "cannot run no-such-program" in steps_of(document)["program"]["cause"]


@pytest.mark.parametrize("args", [("--forward",), ("--forward", "api")])
def test_without_a_command_the_way_is_told(world: World, args: tuple[str, ...]) -> None:
    ended = authproxy("doctor", *args, config={"routes": [{"name": "api", "upstream": "https://x.test"}]})
    assert ended.returncode == 2
    assert "authproxy doctor --forward [ROUTE]... -- COMMAND [ARG]..." in ended.stderr
