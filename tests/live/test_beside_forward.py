"""`authproxy exec --forward`: programs that ask the upstreams themselves, and come by the proxy all the same.

program ──▶ the forward listener ──▶ a company's proxy, which alone knows where names lead
                                      ├─ api.corp.test      a route's: intercepted, with the route's token
                                      └─ other.corp.test    tunnelled: a certificate of the company's
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from authproxy.app.child_trust import ADDS, REPLACES
from tests.support.beside import beside, python, run_beside
from tests.support.command import authproxy
from tests.support.company import Company, running_company
from tests.support.installed import need
from tests.support.wire import API, Tokens, Upstream

API_HOST, OTHER_HOST = "api.corp.test", "other.corp.test"
SECRET = "a-real-secret-of-24-chars"
ROOTS = [*ADDS, *REPLACES, "SSL_CERT_FILE"]
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
ENVIRON = "import json, os; print(json.dumps(dict(os.environ)))"
BY_URLLIB = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode(), flush=True)"
OWN_URL = """
import os, sys, urllib.request as r
print(r.urlopen(os.environ[sys.argv[1]] + sys.argv[2]).read().decode())
"""
CONTENTS = f"""
import json, os
paths = {{name: os.environ[name] for name in {ROOTS!r}}}
modes = {{path: oct(os.stat(path).st_mode & 0o777) for path in paths.values()}}
directory = os.path.dirname(os.environ["SSL_CERT_FILE"])
print(json.dumps({{
    "paths": paths, "contents": {{name: open(path).read() for name, path in paths.items()}},
    "modes": sorted(set(modes.values())), "directory": directory,
    "directory mode": oct(os.stat(directory).st_mode & 0o777),
}}))
"""


@dataclass
class World:
    """A company's network with a route's upstream and another host, and a token endpoint on this machine."""

    company: Company
    tokens: Tokens
    api: API
    other: Upstream

    def route(self, **keys: Any) -> dict[str, Any]:
        auth = {
            "grant": "client_credentials", "token_url": f"{self.tokens.url}/token", "client_id": "a",
            "client_secret": "${API_SECRET}",
        }  # fmt: skip
        return {"name": "api", "path": "/api", "upstream": f"https://{API_HOST}", "auth": auth, **keys}

    def config(self, **keys: Any) -> dict[str, Any]:
        return {"routes": [self.route()], **keys}

    @property
    def variables(self) -> dict[str, str]:
        return {**self.company.variables, "API_SECRET": SECRET}

    def run(
        self,
        command: list[str],
        *args: str,
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Any:
        """Run a program to its end, with `exec --forward`."""
        variables = self.variables | dict(env or {})
        return run_beside(config or self.config(), command, "--forward", *args, env=variables)

    def environment(self, *args: str, **options: Any) -> dict[str, str]:
        """Return the environment that a program gets."""
        ended = self.run(python(ENVIRON), *args, **options)
        assert ended.returncode == 0, ended.stderr
        found: dict[str, str] = json.loads(ended.stdout)
        return found

    def roots(self, **options: Any) -> dict[str, Any]:
        """Return what is in the files of roots that a program is told of."""
        ended = self.run(python(CONTENTS), **options)
        assert ended.returncode == 0, ended.stderr
        found: dict[str, Any] = json.loads(ended.stdout)
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_company(tmp_path) as company, Tokens() as tokens:
        api = API(tokens.issued, tls=company.tls(API_HOST))
        with api, Upstream(tls=company.tls(OTHER_HOST)) as other:
            company.places.update({f"{API_HOST}:443": api.port, f"{OTHER_HOST}:443": other.port})
            company.places[f"127.0.0.1:{tokens.port}"] = tokens.port
            yield World(company, tokens, api, other)


# ── programs ─────────────────────────────────────────────────────────────────────────────────────

BY_REQUESTS = "import requests, sys; print(*[requests.get(url).text for url in sys.argv[1:]])"
BY_URLLIB_TOO = (
    "import sys, urllib.request as r; print(*[r.urlopen(url).read().decode() for url in sys.argv[1:]])"
)
BY_AIOHTTP = """
import aiohttp, asyncio, sys
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        for url in sys.argv[1:]:
            async with session.get(url) as got:
                print(await got.text())
asyncio.run(main())
"""
JAVA = """
public class Get {
  public static void main(String[] given) throws Exception {
    for (String each : given)
      System.out.println(new String(java.net.URI.create(each).toURL().openStream().readAllBytes()));
  }
}
"""
PROGRAMS = {
    "curl": ["curl", "-sS", "-w", " "],
    "urllib": python(BY_URLLIB_TOO),
    "requests": python(BY_REQUESTS),
    "aiohttp": python(BY_AIOHTTP),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reaches_the_upstream_with_the_token_and_others_without(world: World, name: str) -> None:
    need(PROGRAMS[name][0])
    ended = world.run([*PROGRAMS[name], f"https://{API_HOST}/v1/items?a=1", f"https://{OTHER_HOST}/"])
    assert (ended.returncode, ended.stdout.split()) == (0, ["fine", "fine"]), ended.stderr
    assert world.api.last.target == "/v1/items?a=1"
    assert world.api.last.one("Authorization") == f"Bearer {world.tokens.issued.every[0]}"
    assert world.other.last.all("Authorization") == []
    assert not [name for name in world.other.last.names if "proxy" in name]


def test_a_token_that_dies_in_between_is_not_noticed(world: World) -> None:
    code = f"{BY_URLLIB}\ninput()\n{BY_URLLIB}"
    url = f"https://{API_HOST}/"
    with beside(world.config(), python(code, url), "--forward", env=world.variables) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "fine\n"
        world.tokens.revoke()
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "fine\n"
    assert program.returncode == 0
    assert len(world.tokens.issued.every) == 2


def test_the_routes_own_urls_stay_direct(world: World) -> None:
    code = f"{OWN_URL}\nsys.argv[1:] = sys.argv[3:]\n{OWN_URL}"
    ended = world.run(python(code, "API_URL", "/v1", "AUTHPROXY_URL", "/api/v1"))
    assert ended.stdout == "fine\nfine\n", ended.stderr
    assert [each.target for each in world.api.requests] == ["/v1", "/v1"]


def test_java_comes_by_the_proxy_and_trusts_it(world: World, tmp_path: Path) -> None:
    need("java", "javac")
    directory = tmp_path / "a directory, with blanks"
    directory.mkdir()
    (directory / "Get.java").write_text(JAVA)
    subprocess.run(["javac", "Get.java"], cwd=directory, timeout=300, check=True)
    command = ["java", "-classpath", str(directory), "Get", f"https://{API_HOST}/", f"https://{OTHER_HOST}/"]
    ended = world.run(command, "--java", env={"TMPDIR": str(directory)})
    assert ended.stdout == "fine\nfine\n", ended.stderr
    assert world.api.last.one("Authorization") == f"Bearer {world.tokens.issued.every[0]}"
    assert world.other.last.all("Authorization") == []


# ── which routes, and how ────────────────────────────────────────────────────────────────────────


def test_only_the_routes_that_are_named_are_intercepted(world: World) -> None:
    other = world.route(name="other", path="/other", upstream=f"https://{OTHER_HOST}")
    config = {"routes": [world.route(), other]}
    assert world.run(python(BY_URLLIB, f"https://{OTHER_HOST}/"), "api", config=config).stdout == "fine\n"
    assert world.other.last.all("Authorization") == []
    assert world.run(python(BY_URLLIB, f"https://{OTHER_HOST}/"), "other", config=config).stdout == "fine\n"
    assert world.other.last.one("Authorization") == f"Bearer {world.tokens.issued.every[-1]}"


def test_what_forward_says_in_the_file_holds_but_for_its_address(world: World) -> None:
    config = world.config(forward={"listen": "127.0.0.1:1", "unmatched": "refuse"})
    assert world.run(python(BY_URLLIB, f"https://{API_HOST}/"), config=config).stdout == "fine\n"
    ended = world.run(python(BY_URLLIB, f"https://{OTHER_HOST}/"), config=config)
    assert "403" in ended.stderr
    assert world.other.connections == 0


def test_without_being_asked_for_there_is_no_forward_proxy(world: World) -> None:
    config = world.config(forward={"listen": "127.0.0.1:0"})
    ended = run_beside(config, python(ENVIRON), env=world.variables)
    found = json.loads(ended.stdout)
    assert found["HTTPS_PROXY"] == world.variables["HTTPS_PROXY"]
    assert found["SSL_CERT_FILE"] == world.variables["SSL_CERT_FILE"]
    assert "http_proxy" not in found


def test_an_authority_of_ones_own_signs(world: World, tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca.private_key_pem.write_to_path(tmp_path / "ca-key.pem")
    own = {"cert_file": str(tmp_path / "ca.pem"), "key_file": str(tmp_path / "ca-key.pem")}
    config = world.config(forward={"ca": own})
    assert world.run(python(BY_URLLIB, f"https://{API_HOST}/"), config=config).stdout == "fine\n"
    contents = world.roots(config=config)["contents"]
    assert ca.cert_pem.bytes().decode().strip() in contents["SSL_CERT_FILE"]


# ── what a program is told ───────────────────────────────────────────────────────────────────────


def test_a_program_is_told_of_the_proxy_in_every_spelling(world: World) -> None:
    found = world.environment()
    assert len({found[name] for name in PROXIES}) == 1
    assert re.fullmatch(r"http://exec:[\w-]{40,}@127\.0\.0\.1:\d+", found["HTTPS_PROXY"])
    assert found["NODE_USE_ENV_PROXY"] == "1"
    assert found["NO_PROXY"] == found["no_proxy"] == "localhost,127.0.0.1,::1"
    assert "SSL_CERT_DIR" not in found
    assert "API_SECRET" not in found
    assert SECRET not in json.dumps(found)
    assert world.environment()["HTTPS_PROXY"] != found["HTTPS_PROXY"]


@pytest.mark.parametrize("before", ["*", "corp.test", ".corp.test", "*.corp.test", "api.corp.test:443"])
def test_no_proxy_does_not_keep_a_program_from_the_proxy(world: World, before: str) -> None:
    env = dict.fromkeys(("NO_PROXY", "no_proxy"), f"x.test,{before}")
    config = {
        "routes": [world.route(http_proxy=world.variables["HTTPS_PROXY"])]
    }  # which is us, not the program
    ended = world.run(python(BY_URLLIB, f"https://{API_HOST}/"), config=config, env=env)
    assert (ended.stdout, ended.returncode) == ("fine\n", 0), ended.stderr
    assert world.api.last.one("Authorization")


def test_the_key_is_for_the_forward_proxy_and_stands_in_no_command_line(world: World) -> None:
    code = """
import glob, http.client, json, os
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
def ask(**headers):
    connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=20)
    connection.request("CONNECT", "other.corp.test:443", headers={"Host": "other.corp.test:443", **headers})
    return connection.getresponse().status
lines = [open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/cmdline")]
print(json.dumps({
    "without": ask(), "wrong": ask(**{"Proxy-Authorization": "Basic ZXhlYzp4"}),
    "seen": any(proxy.password.encode() in line for line in lines),
}))
"""
    ended = world.run(python(code))
    assert json.loads(ended.stdout) == {"without": 407, "wrong": 407, "seen": False}, ended.stderr
    assert world.other.connections == 0


def test_each_variable_names_a_file_with_our_roots_and_those_before(world: World, tmp_path: Path) -> None:
    company = world.company.roots.read_text().strip()
    corp, other = (trustme.CA().cert_pem.bytes().decode().strip() for _ in range(2))
    (tmp_path / "corp.pem").write_text(corp)
    (tmp_path / "other.pem").write_text(other)
    env = {"GIT_SSL_CAINFO": str(tmp_path / "corp.pem"), "PIP_CERT": str(tmp_path / "other.pem")}
    found = world.roots(env=env)
    contents = found["contents"]
    ours = contents["NODE_EXTRA_CA_CERTS"].replace(company, "").strip()
    assert ours.count("BEGIN CERTIFICATE") == 1
    assert all(ours in each for each in contents.values())
    assert corp in contents["GIT_SSL_CAINFO"]
    assert company not in contents["GIT_SSL_CAINFO"]
    assert other in contents["PIP_CERT"]
    assert other not in contents["GIT_SSL_CAINFO"]
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "DENO_CERT", "REQUESTS_CA_BUNDLE"):
        assert company in contents[name], name
    if sys.platform != "win32":
        assert (found["modes"], found["directory mode"]) == (["0o600"], "0o700")
    assert not Path(found["directory"]).exists()


def test_roots_of_a_directory_are_in_the_bundle(world: World, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    corp = trustme.CA().cert_pem.bytes().decode().strip()
    (tmp_path / "roots" / "corp.pem").write_text(corp)
    contents = world.roots(env={"SSL_CERT_DIR": str(tmp_path / "roots")})["contents"]
    assert corp in contents["SSL_CERT_FILE"]
    assert world.company.roots.read_text().strip() in contents["SSL_CERT_FILE"]


def test_where_no_key_can_be_sent_none_is_wanted(world: World) -> None:
    found = world.environment("--java")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", found["HTTPS_PROXY"])
    assert "-Djavax.net.ssl.trustStoreType=PKCS12" in found["JAVA_TOOL_OPTIONS"]
    port = found["HTTPS_PROXY"].rpartition(":")[2]
    assert f"-Dhttps.proxyPort={port}" in found["JAVA_TOOL_OPTIONS"]
    assert "exec:" not in found["JAVA_TOOL_OPTIONS"]
    assert "JAVA_TOOL_OPTIONS" not in world.environment()


# ── upstreams on this machine ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_upstream_on_this_machine_is_intercepted_and_the_routes_own_url_works(
    world: World, tmp_path: Path, host: str
) -> None:
    with Upstream(tls=world.company.tls(host)) as here:
        url = f"https://{host}:{here.port}"
        auth = {"grant": "static", "token": "${API_SECRET}"}
        config = {"routes": [world.route(upstream=url, auth=auth)]}
        assert world.run(python(BY_URLLIB, f"{url}/v1"), config=config).stdout == "fine\n"
        assert world.run(["curl", "-sS", f"{url}/v2"], config=config).stdout == "fine"
        assert world.run(python(OWN_URL, "API_URL", "/v3"), config=config).stdout == "fine\n"
        assert [each.target for each in here.requests] == ["/v1", "/v2", "/v3"]
        assert {each.one("Authorization") for each in here.requests} == {f"Bearer {SECRET}"}


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is not there by itself")
def test_the_routes_own_urls_work_beside_upstreams_by_both_names_of_this_machine(world: World) -> None:
    with Upstream(tls=world.company.tls("localhost")) as one, Upstream() as two:
        auth = {"grant": "static", "token": "${API_SECRET}"}
        config = {
            "routes": [
                world.route(upstream=f"https://localhost:{one.port}", auth=auth),
                world.route(name="two", path="/two", upstream=f"http://127.0.0.1:{two.port}", auth=auth),
            ]
        }
        for name in ("API_URL", "TWO_URL"):
            assert world.run(python(OWN_URL, name, "/own"), config=config).stdout == "fine\n"
        assert (
            world.run(python(BY_URLLIB, f"https://localhost:{one.port}/v1"), config=config).stdout == "fine\n"
        )
        assert (
            world.run(python(BY_URLLIB, f"http://127.0.0.1:{two.port}/v1"), config=config).stdout == "fine\n"
        )
        assert [each.target for each in (*one.requests, *two.requests)] == ["/own", "/v1"] * 2


# ── usage ────────────────────────────────────────────────────────────────────────────────────────


def test_java_alone_and_a_forward_proxy_in_env_are_bad_usage(world: World) -> None:
    env = world.variables
    ended = authproxy("exec", "--java", "--", "true", config=world.config(), env=env)
    assert (ended.returncode, "--forward" in ended.stderr) == (2, True)
    ended = authproxy("env", "--forward", config=world.config(), env=env)
    assert (ended.returncode, "authproxy exec --forward" in ended.stderr) == (2, True)


def test_the_exit_code_is_the_programs(world: World) -> None:
    assert world.run(python("raise SystemExit(42)")).returncode == 42
    assert world.run(["no-such-program"]).returncode == 127
