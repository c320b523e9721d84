"""`tls: auto`: HTTPS on this machine, with certificates of an authority that signs for this machine alone."""

import contextlib
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from cryptography import x509

from authproxy.app.local_authority import LocalAuthority
from authproxy.app.trust.store import Root
from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.edited import edited
from tests.support.installed import need
from tests.support.launch import COMMAND, GUARD, environment
from tests.support.ports import free_port
from tests.support.systems import needs_owners
from tests.support.wire import Message, Upstream, Wire, ask, connect, get, request
from tests.support.workers import children

PROCESSES = pytest.mark.parametrize("workers", [1, 2])
KEY = "a-key-for-callers-of-the-proxy"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
linux = pytest.mark.skipif(sys.platform != "linux", reason="the store of Debian")


def plain(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"name": "api", "upstream": upstream.url, "auth": {"grant": "none"}, **more}


def place(proxy: RunningProxy) -> Path:
    """Return the directory of the proxy's authority."""
    return proxy.directory / ".local/state/authproxy/authority"


def trusting(file: Path) -> ssl.SSLContext:
    """Return a client that trusts `file` and nothing else, and is as strict as Python can be."""
    context = ssl.create_default_context(cafile=file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@contextlib.contextmanager
def secure(**config: Any) -> Iterator[tuple[RunningProxy, Upstream, Path]]:
    """Run the proxy with `tls: auto`; give it, its upstream and the certificate that clients are to trust."""
    with Upstream() as upstream:
        route = plain(upstream, **config.pop("route", {}))
        with running_proxy({"tls": "auto", "routes": [route], **config}) as proxy:
            yield proxy, upstream, place(proxy) / "ca.pem"


def port_of(proxy: RunningProxy) -> int:
    return int(proxy.url.rpartition(":")[2])


def answered(proxy: RunningProxy, file: Path) -> int:
    return ask(proxy.url, request(), tls=trusting(file)).status


# ── clients ──────────────────────────────────────────────────────────────────────────────────────


def test_every_name_of_this_machine_is_certified_for_who_trusts_the_root_alone() -> None:
    listen, route = ["127.0.0.1:0", "127.0.0.7:0"], {"host": "api.localhost"}
    with secure(listen=listen, route=route) as (proxy, upstream, file):
        assert all(each.startswith("https://") for each in proxy.urls)
        context = trusting(file)
        for name in ("localhost", "127.0.0.1", "::1", "api.localhost", "127.0.0.7"):
            with connect(proxy.url) as wire:
                wire.sock = context.wrap_socket(wire.sock, server_hostname=name)
                assert wire.send(request(host="api.localhost")).answer().status == 200
        assert len(upstream.requests) == 5
        with connect(proxy.url) as wire, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(wire.sock, server_hostname="example.com")


def test_who_speaks_plain_http_is_closed_and_told_of() -> None:
    with secure() as (proxy, upstream, _), connect(proxy.url) as wire:
        wire.send(request())
        proxy.wait_for_log('a client spoke plain http to a listener of https hint="call it by https://')
    assert not upstream.requests


def test_who_does_not_trust_it_is_not_served() -> None:
    with secure() as (proxy, upstream, _), pytest.raises(ssl.SSLCertVerificationError):
        ask(proxy.url, request(), tls=ssl.create_default_context())
    assert not upstream.requests


BY_AIOHTTP = """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession() as session, session.get('{url}') as got:
        got.raise_for_status()
asyncio.new_event_loop().run_until_complete(main())
"""
CLIENTS = {
    "curl": ["curl", "--silent", "--show-error", "--fail", "--cacert", "{file}", "{url}"],
    "openssl": ["openssl", "s_client", "-brief", "-verify_return_error", "-x509_strict", "-verify_hostname",
                "localhost", "-CAfile", "{file}", "-connect", "localhost:{port}"],
    "requests": [sys.executable, "-c", "import requests; requests.get('{url}').raise_for_status()"],
    "aiohttp": [sys.executable, "-c", BY_AIOHTTP],
    "node": ["node", "-e", "fetch('{url}').then(got => process.exit(got.ok ? 0 : 1), () => process.exit(1))"],
}  # fmt: skip
VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")


def test_an_answer_that_breaks_off_where_its_end_is_the_connections_does_not_look_whole() -> None:
    seen = threading.Event()

    def answer(_request: Message, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        assert seen.wait(GUARD)
        wire.reset()

    with secure() as (proxy, upstream, file):
        upstream.answer = answer
        with connect(proxy.url, tls=trusting(file)) as wire:
            wire.sock.suppress_ragged_eofs = False  # type: ignore[attr-defined] # typeshed does not know it
            wire.send(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert wire.until(b"hello")
            seen.set()
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):  # and no close_notify
                wire.rest()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_is_told_of_the_root_is_served_and_one_that_is_not_is_not(client: str) -> None:
    need(client)
    with secure() as (proxy, upstream, file):

        def run(trusted: Path) -> subprocess.CompletedProcess[str]:
            url = f"https://localhost:{port_of(proxy)}/"
            words = [each.format(url=url, file=trusted, port=port_of(proxy)) for each in CLIENTS[client]]
            return subprocess.run(
                words, env=environment(proxy.directory, dict.fromkeys(VARIABLES, str(trusted))),
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GUARD, check=False,
            )  # fmt: skip

        done = run(file)
        assert done.returncode == 0, done.stdout + done.stderr
        other = LocalAuthority(proxy.directory / "other", keyring=lambda: None)
        other.get()
        assert run(other.public).returncode != 0, "another authority was trusted"
        assert len(upstream.requests) == (client != "openssl")


JAVA = """
import java.net.*; import java.nio.file.*; import java.security.*; import java.security.cert.*;
import javax.net.ssl.*;
public class Try {
  public static void main(String[] given) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (var file = Files.newInputStream(Path.of(given[0]))) {
      store.setCertificateEntry("a", CertificateFactory.getInstance("X.509").generateCertificate(file));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    try (Socket plain = new Socket("127.0.0.1", Integer.parseInt(given[2]));
         SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(plain, given[1], 1, true)) {
      SSLParameters parameters = socket.getSSLParameters();
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
      socket.setSSLParameters(parameters);
      socket.startHandshake();
    } catch (SSLHandshakeException refused) {
      System.err.println(refused);
      System.exit(1);
    }
  }
}
"""
BY_NODE = """
const ca = require('fs').readFileSync('{file}');
require('tls').connect({{port: {port}, host: '127.0.0.1', servername: '{name}', ca}}, () => process.exit(0))
  .on('error', () => process.exit(1));
"""
CONNECTS = {
    "curl": ["curl", "--silent", "--fail", "--cacert", "{file}", "--resolve", "{name}:{port}:127.0.0.1",
             "https://{name}:{port}/"],
    "openssl": ["openssl", "s_client", "-brief", "-verify_return_error", "-verify_hostname", "{name}",
                "-CAfile", "{file}", "-connect", "127.0.0.1:{port}"],
    "node": ["node", "-e", BY_NODE],
    "java": ["java", "{directory}/Try.java", "{file}", "{name}", "{port}"],
}  # fmt: skip


@contextlib.contextmanager
def impostor(kept: LocalAuthority, name: str, directory: Path) -> Iterator[int]:
    """Be a server that has our issuer's key and has it sign for `name`; give its port."""
    leaf = kept.get().leaf([name], lifetime=timedelta(days=1), now=kept.now(), passphrase=b"x")
    (directory / "leaf.pem").write_bytes(leaf.chain + leaf.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "leaf.pem", password=b"x")

    with Upstream(tls=context) as server:
        yield server.port


@pytest.mark.parametrize("client", CONNECTS)
def test_what_our_issuer_signs_for_another_name_is_refused_by_who_trusts_the_root(
    client: str, tmp_path: Path
) -> None:
    need("javac" if client == "java" else client)  # it is given a source
    (tmp_path / "Try.java").write_text(JAVA)
    kept = LocalAuthority(tmp_path / "authority", keyring=lambda: None)

    def connects(name: str) -> bool:
        with impostor(kept, name, tmp_path) as port:
            values = {"file": kept.public, "name": name, "port": port, "directory": tmp_path}
            words = [each.format(**values) for each in CONNECTS[client]]
            done = subprocess.run(
                words,
                env=environment(tmp_path),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=60,
            )
        return done.returncode == 0

    assert connects("x.localhost")
    assert not connects("example.com")


# ── what lies where ──────────────────────────────────────────────────────────────────────────────


@needs_owners
def test_the_one_key_on_the_disk_is_the_issuers_encrypted_and_its_owners_alone() -> None:
    with secure(log={"level": "debug"}, workers=2) as (proxy, _, file):
        assert answered(proxy, file) == 200
        with urlopen(f"{proxy.admin_url}/ca.pem", timeout=GUARD) as answer:
            given = answer.read()
        printed = authproxy("trust", "--print", env={"HOME": str(proxy.directory)})
        shown = authproxy("trust", "--json", env={"HOME": str(proxy.directory)})
        said = proxy.log() + proxy.output() + given.decode() + printed.stdout + shown.stdout
        assert "PRIVATE" not in said
        assert (place(proxy) / "authority.key").read_text().strip() not in said
        assert {stat.S_IMODE(each.stat().st_mode) for each in place(proxy).iterdir()} == {0o600}
        assert stat.S_IMODE(place(proxy).stat().st_mode) == 0o700
        texts = [each.read_bytes() for each in proxy.directory.rglob("*") if each.is_file()]
        keys = [found for text in texts for found in re.findall(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)", text)]
        assert keys == [b"ENCRYPTED PRIVATE KEY"], "which is the issuer's: see the unit tests"
        [root] = x509.load_pem_x509_certificates(given)
        assert printed.stdout.encode() == given == file.read_bytes()
        assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"authproxy-*/{file.name}.passed"))
        assert root.issuer == root.subject


def test_the_root_is_had_without_the_key_and_is_no_page_where_there_is_none() -> None:
    with secure(access={"tokens": [KEY]}) as (proxy, _, file):
        answer = get(proxy.admin_url, "/ca.pem")
        assert (answer.status, answer.body) == (200, file.read_bytes())
        assert answer.one("Content-Type") == "application/x-pem-file"
        assert get(proxy.admin_url, "/metrics").status == 401
    with Upstream() as upstream, running_proxy({"routes": [plain(upstream)]}) as proxy:
        answer = get(proxy.admin_url, "/ca.pem")
        assert (answer.status, answer.one("Content-Type")) == (404, "application/problem+json")


# ── processes ────────────────────────────────────────────────────────────────────────────────────


def test_two_that_start_at_once_end_with_one_authority(tmp_path: Path) -> None:
    with Upstream() as upstream:

        def run(_number: int) -> bytes:
            env = {"HOME": str(tmp_path)}
            with running_proxy({"tls": "auto", "routes": [plain(upstream)]}, env=env) as proxy:
                barrier.append(proxy)
                wait_until(lambda: len(barrier) == 2)
                assert answered(proxy, tmp_path / ".local/state/authproxy/authority/ca.pem") == 200
                return get(proxy.admin_url, "/ca.pem").body

        barrier: list[RunningProxy] = []
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(run, range(2))
    assert first == second
    assert not (tmp_path / ".local/state/authproxy/authority/former.pem").exists()


def test_all_workers_and_those_that_take_their_place_show_the_same_authority() -> None:
    with secure(workers=3) as (proxy, _, file):
        before = file.read_bytes()
        assert [answered(proxy, file) for _ in range(20)] == [200] * 20
        victim = children(proxy.pid)[1]
        os.kill(victim, 9)
        wait_until(lambda: victim not in children(proxy.pid) and len(children(proxy.pid)) == 4)
        assert [answered(proxy, file) for _ in range(20)] == [200] * 20
        assert file.read_bytes() == before
        assert proxy.log().count("a local authority was made") == 1


@PROCESSES
def test_a_reload_goes_to_auto_and_back_and_to_other_names(workers: int) -> None:
    with Upstream() as upstream, edited({"workers": workers, "routes": [plain(upstream)]}) as proxy:
        url, file = proxy.proxy.url, place(proxy.proxy) / "ca.pem"
        secured = url.replace("http:", "https:")
        assert get(url).status == 200
        proxy.must_reload(tls="auto")
        with connect(secured, tls=trusting(file)) as kept:
            assert kept.send(request()).answer().status == 200
            for _ in range(8):
                assert ask(secured, request(), tls=trusting(file)).status == 200
            proxy.must_reload(routes=[plain(upstream, host="new.localhost")])
            assert kept.send(request(host="new.localhost")).answer().status == 200
        for _ in range(8):
            with connect(url) as wire:
                wire.sock = trusting(file).wrap_socket(wire.sock, server_hostname="new.localhost")
                assert wire.send(request(host="new.localhost")).answer().status == 200
        assert get(proxy.proxy.admin_url, "/ca.pem").body == file.read_bytes()
        proxy.config.pop("tls")
        proxy.must_reload()
        assert get(url, host="new.localhost").status == 200
        assert get(proxy.proxy.admin_url, "/ca.pem").status == 404


def test_where_it_cannot_be_kept_the_start_and_check_say_so_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    config = "tls: auto\nroutes: [{name: a, upstream: 'http://127.0.0.1:9', auth: {grant: none}}]\n"
    for verb in ("run", "check"):
        done = authproxy(verb, config=config, env={"XDG_STATE_HOME": str(tmp_path / "file")})
        assert done.returncode == 2
        said = done.stderr if verb == "run" else done.stdout
        assert re.search(
            r"authproxy-test\.yaml:1:6: tls: cannot be served: the local authority: .*/file", said
        )
        assert "set XDG_STATE_HOME to a directory that can be written to" in said


def test_checking_a_configuration_makes_no_authority(tmp_path: Path) -> None:
    config = "tls: auto\nroutes: [{name: a, upstream: 'http://127.0.0.1:9', auth: {grant: none}}]\n"
    done = authproxy("check", config=config, env={"HOME": str(tmp_path)})
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [])


def test_what_it_cannot_certify_is_told_at_the_start_and_by_check() -> None:
    with secure(listen="0.0.0.0:0", allow_remote=True, route={"host": "api.example"}) as (proxy, _, _):
        proxy.stop()
        told = [line for line in proxy.log().splitlines() if "has no certificate with `tls: auto`" in line]
        assert [re.search(r"(\S+) has no certificate", line)[1] for line in told] == [
            "listen",
            "routes[0].host",
        ]


# ── our own verbs ────────────────────────────────────────────────────────────────────────────────


def test_the_line_that_routes_prints_works_as_it_stands() -> None:
    need("curl")
    with secure(listen=f"127.0.0.1:{free_port()}") as (proxy, upstream, _):
        env = environment(proxy.directory)
        shown = subprocess.run(
            [*COMMAND, "routes", "api", "--json", "-c", str(proxy.config_file)],
            env=env, capture_output=True, text=True, check=True, timeout=GUARD,
        )  # fmt: skip
        assert json.loads(shown.stdout)["url"] == proxy.url
        told = subprocess.run(
            [*COMMAND, "routes", "api", "-c", str(proxy.config_file)],
            env=env, capture_output=True, text=True, check=True, timeout=GUARD,
        )  # fmt: skip
        [line] = re.findall(r"^curl: (.*)$", told.stdout, re.MULTILINE)
        assert f"--cacert {place(proxy)}/ca.pem" in line
        done = subprocess.run(["sh", "-c", f"{line} --fail --silent"], env=env, check=False, timeout=GUARD)
        assert (done.returncode, len(upstream.requests)) == (0, 1)


def test_healthcheck_doctor_and_status_know_of_it() -> None:
    with secure(route={"path": "/api"}) as (proxy, _, file):
        env = {"HOME": str(proxy.directory)}
        asked = authproxy("healthcheck", proxy.url, env=env)
        assert "that is a listener for requests, not the admin listener" in asked.stderr, "over verified TLS"
        assert "not trusted here" in authproxy("healthcheck", proxy.url).stderr, (
            "of which another user does not know"
        )
        assert authproxy("healthcheck", proxy.admin_url, env=env).returncode == 0
        status = json.loads(get(proxy.admin_url, "/api/status").body)
        assert (status["listeners"], status["ca_file"]) == ([proxy.url], str(file))


# ── the system's trust store ─────────────────────────────────────────────────────────────────────


@linux
@pytest.mark.skipif(not IS_ROOT, reason="root alone may change whom the system trusts")
@pytest.mark.skipif(
    os.environ.get("AUTHPROXY_REQUIRE_ALL") != "1",
    reason="for a moment this machine would trust another authority: only where AUTHPROXY_REQUIRE_ALL=1",
)
def test_once_installed_curl_needs_no_option_and_after_removal_it_does_again() -> None:
    need("curl")
    if shutil.which("update-ca-certificates", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        need("update-ca-certificates")  # of Debian's package ca-certificates
    system = (Path("/usr/local/share/ca-certificates"), Path("/etc/ssl/certs"))
    with secure() as (proxy, upstream, file):
        env = environment(proxy.directory)

        def curl() -> int:
            words = ["curl", "--silent", "--fail", f"https://localhost:{port_of(proxy)}/"]
            return subprocess.run(words, env=env, check=False, timeout=GUARD).returncode

        def trust(*options: str) -> subprocess.CompletedProcess[str]:
            return authproxy("trust", *options, env={"HOME": str(proxy.directory)})

        assert curl() == 60, "curl's word for an authority that it does not know"
        try:
            done = trust("--install", "--yes")
            assert done.returncode == 0, done.stderr
            assert curl() == 0
            assert json.loads(trust("--json").stdout)["installed"] is True
            told = authproxy(
                "routes", "api", "-c", str(proxy.config_file), env={"HOME": str(proxy.directory)}
            )
            assert "curl https://" in told.stdout, "which needs no --cacert now"
        finally:
            done = trust("--remove", "--yes")
        assert done.returncode == 0, done.stderr
        assert curl() == 60
        assert len(upstream.requests) == 1
        root = Root.of(x509.load_pem_x509_certificate(file.read_bytes()), file)
    entries = [each for folder in system for each in folder.iterdir()]
    names = {each.name for each in entries if not each.exists() or root.mark in each.name}
    assert names == set(), "neither a file of ours, nor a link to one that is gone"
    assert root.pem not in (system[1] / "ca-certificates.crt").read_bytes()
