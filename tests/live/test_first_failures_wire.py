"""The first thing that goes wrong on the wire: whoever sees it is told the cause, and the way out.

One case a mistake. Each is made as a user would make it, and looked for where a user looks: in the answer
that curl shows (and that of the second request, while nothing is sent), in the log of `run`, and in what
`authproxy token` says.
"""

import datetime
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.command import authproxy, running_proxy
from tests.support.ports import free_port
from tests.support.wire import Message, Tokens, Upstream, ask, connect, json_reply, reply, request

SECRET = "s3cr3t-of-a-person"
HIDDEN = "t0ken-that-nobody-should-read"
NOBODY = "127.0.0.1:1"  # a port that nobody listens on
PLAIN = {"grant": "static", "token": SECRET}
HTML = "Content-Type: text/html"

Config = dict[str, Any]
Auth = dict[str, Any]


def client(url: str, **more: Any) -> Auth:
    keys = {"grant": "client_credentials", "token_url": f"{url}/token", "client_id": "my-id"}
    return {**keys, "client_secret": SECRET, **more}


def user(url: str) -> Auth:
    keys = {"grant": "password", "token_url": f"{url}/token", "client_id": "app", "username": "ann"}
    return {**keys, "password": SECRET}


def refresh(url: str) -> Auth:
    keys = {"grant": "refresh_token", "token_url": f"{url}/token", "client_id": "app"}
    return {**keys, "refresh_token": SECRET}


def code42(url: str, **more: Any) -> Auth:
    login = f"{url}/api/v3/auth/jwt?useBody=true"
    return {"preset": "code42-user", "url": login, "username": "ann", "password": SECRET, **more}


def form(url: str) -> Auth:
    return {"grant": "token_request", "url": f"{url}/login", "form": {"username": "ann", "password": SECRET}}


def up42(url: str) -> Auth:
    return {"preset": "up42", "token_url": f"{url}/token", "username": "ann", "password": SECRET}


def route(auth: Auth, upstream: str = f"http://{NOBODY}", **keys: Any) -> Config:
    return {"routes": [{"name": "api", "upstream": upstream, "auth": auth, **keys}]}


@dataclass(frozen=True)
class Told:
    """What is to be read: `title` in the answer, the `cause` and the `way_out` everywhere."""

    title: str
    cause: str
    way_out: str

    def stands_in(self, text: str, where: str) -> None:
        plain = text.replace('\\"', '"')
        assert self.cause in plain, f"{where} does not say the cause: {text}"
        assert self.way_out in plain, f"{where} does not say the way out: {text}"


def assert_told_everywhere(config: Config, told: Told, *, env: dict[str, str] | None = None) -> None:
    """Check a failure for which no token can be had, in all the places where it shows."""
    with running_proxy(config, env=env) as proxy:
        first, again = (ask(proxy.url, request()) for _ in range(2))
        proxy.stop()
        log = proxy.log()
    verb = authproxy("token", "api", config=config, env=env)
    for answer in (first, again):
        assert answer.json["title"] == told.title
        told.stands_in(f"{answer.json['detail']} {answer.json['hint']}", "the answer")
        assert int(answer.one("Retry-After") or 0) > 0
    assert again.status in {503, 504}
    assert first.json["detail"] == again.json["detail"]
    warned, *asked = [line for line in log.splitlines() if "no token" in line or " request " in line]
    assert " warning no token " in warned
    for line in (warned, *asked):
        told.stands_in(line, "the log")
    assert (verb.returncode, verb.stdout) == (1, "")
    told.stands_in(verb.stderr, "the verb")
    for text in (str(first.head + first.body), log, verb.stderr):
        assert SECRET not in text
        assert HIDDEN not in text


# ── the token endpoint says no ───────────────────────────────────────────────────────────────────


def no(code: str, description: str, status: int = 401) -> bytes:
    return json_reply({"error": code, "error_description": description}, status)


def vendors(code: str) -> bytes:
    return json_reply({"error": [{"primaryErrorKey": code, "description": "see there"}]}, 401)


CODE_INVALID = "TIME_BASED_ONE_TIME_PASSWORD_INVALID"
CODE_REQUIRED = "TIME_BASED_ONE_TIME_PASSWORD_REQUIRED"
CODE_SECRET = {"totp": "JBSWY3DPEHPK3PXP"}
LATE = formatdate(time.time() + 600, usegmt=True)

REFUSALS: dict[str, tuple[Callable[[str], Auth], bytes, Told]] = {
    "a wrong password": (
        user,
        no("invalid_grant", "Invalid user credentials"),
        Told("Credential rejected", "invalid_grant: Invalid user", "check `username` and `password`"),
    ),
    "a wrong password for up42": (
        up42,
        no("invalid_grant", "Invalid user credentials"),
        Told("Credential rejected", "401 invalid_grant", "the password of the UP42 account"),
    ),
    "a wrong password in a form": (
        form,
        json_reply({"message": "who are you?"}, 401),
        Told("Credential rejected", "401 who are you?", "check the name and the password in `form`"),
    ),
    "id and secret swapped": (
        client,
        no("invalid_client", "unknown client"),
        Told("Credential rejected", "401 invalid_client: unknown client", "(are they swapped?)"),
    ),
    "id and secret swapped, without a word": (
        client,
        reply("401 Unauthorized"),
        Told("Credential rejected", "/token answered 401", "(are they swapped?)"),
    ),
    "404": (
        client,
        reply("404 Not Found", HTML, body=b"<html>Not here</html>"),
        Told("No token endpoint there", "answered 404 with an HTML page", "check `token_url`"),
    ),
    "404 with words of its own": (
        client,
        json_reply({"error": "Realm does not exist"}, 404),
        Told("No token endpoint there", "answered 404 Realm does not exist", "a realm or tenant in it"),
    ),
    "404 at a login": (
        form,
        reply("404 Not Found"),
        Told("No token endpoint there", "/login answered 404", "check `url`"),
    ),
    "404 of up42": (
        up42,
        json_reply({"error": "Could not find resource"}, 404),
        Told("No token endpoint there", "answered 404", "for api.sa.up42.com come from auth.sa.up42.com"),
    ),
    "415": (
        client,
        reply("415 Unsupported Media Type"),
        Told("Token request not understood", "answered 415", "`params`, `params_in`, `headers`"),
    ),
    "415 of up42": (
        up42,
        json_reply({"error": "HTTP 415 Unsupported Media Type"}, 415),
        Told("Token request not understood", "answered 415", "as a form in the body"),
    ),
    "a redirect": (
        client,
        reply("302 Found", "Location: https://sso.example/login?next=/token"),
        Told("Token endpoint redirects", "to https://sso.example", "final URL into `token_url`"),
    ),
    "a missing one-time code": (
        code42,
        vendors(CODE_REQUIRED),
        Told("Credential rejected", CODE_REQUIRED, "set `totp` to its secret"),
    ),
    "a wrong secret of one-time codes": (
        lambda url: code42(url, **CODE_SECRET),
        vendors(CODE_INVALID),
        Told("Credential rejected", CODE_INVALID, "that `totp` holds the secret of this account's"),
    ),
    "an old one-time code": (
        lambda url: code42(url, totp="123456"),
        vendors(CODE_INVALID),
        Told("Credential rejected", CODE_INVALID, "set `totp` to the secret of the second factor"),
    ),
    "a wrong clock": (
        lambda url: code42(url, **CODE_SECRET),
        json_reply({"error": {"primaryErrorKey": CODE_INVALID}}, 401, f"Date: {LATE}"),
        Told("Credential rejected", CODE_INVALID, "s behind the server's: set it right"),
    ),
    "an expired refresh token": (
        refresh,
        no("invalid_grant", "Token is not active", 400),
        Told("Credential rejected", "Token is not active", "put a new one into `refresh_token`"),
    ),
    "a scope that is not granted": (
        lambda url: client(url, scope="all"),
        no("invalid_scope", "not yours", 400),
        Told("Scope refused", "invalid_scope: not yours", "check `scope`"),
    ),
    "a locked account": (
        user,
        json_reply({"message": "locked"}, 423),
        Told("Account locked", "answered 423 locked", "have the account unlocked first"),
    ),
    "a login page": (
        client,
        reply("200 OK", HTML, body=b"<!DOCTYPE html><title>Sign in</title>"),
        Told("HTML page instead of a token", "an HTML page where JSON was due", "a login page, or a captive"),
    ),
    "a login page at a login": (
        form,
        reply("200 OK", HTML, body=b"<!DOCTYPE html><title>Sign in</title>"),
        Told("HTML page instead of a token", "an HTML page where JSON was due", "check `url`"),
    ),
    "a token in another field": (
        client,
        json_reply({"data": {"accessToken": HIDDEN, "ttl": 7}}),
        Told(
            "No token in the reply",
            "without a token at /access_token; the fields there are: /data/accessToken, /data/ttl",
            "set `response.token` to the place of the token in the reply, perhaps /data/accessToken",
        ),
    ),
    "no JSON": (
        client,
        reply("200 OK", body=HIDDEN.encode()),
        Told("No token in the reply", "text that is not JSON came where JSON was due", "check `token_url`"),
    ),
    "https where nginx says that it is": (
        client,
        reply("400 Bad Request", HTML, body=b"<h1>The plain HTTP request was sent to HTTPS port"),
        Told("Token endpoint speaks https", "answered 400", "write https:// in `token_url`"),
    ),
    "an outage": (
        client,
        reply("500 Internal Server Error"),
        Told("Token endpoint unavailable", "answered 500", "authproxy tries again"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", REFUSALS)
def test_the_token_endpoint_says_no(mistake: str) -> None:
    auth, said, told = REFUSALS[mistake]
    with Upstream() as tokens:
        tokens.says(said)
        assert_told_everywhere(route(auth(tokens.url)), told)


def test_after_a_restart_a_rejection_is_told_as_at_first(tmp_path: Path) -> None:
    _, said, told = REFUSALS["a locked account"]
    with Upstream() as tokens:
        tokens.says(said)
        for _ in range(2):
            with running_proxy(route(user(tokens.url)), env={"HOME": str(tmp_path)}) as proxy:
                answer = ask(proxy.url, request())
            assert answer.json["title"] == told.title
            told.stands_in(f"{answer.json['detail']} {answer.json['hint']}", "the answer")
        assert len(tokens.requests) == 1


# ── it cannot be reached ─────────────────────────────────────────────────────────────────────────


@dataclass
class Certificates:
    ca: trustme.CA
    file: Path

    def server(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        now = datetime.datetime.now(datetime.UTC)
        dates = {"not_before": now - datetime.timedelta(9), "not_after": now - datetime.timedelta(1)}
        made = self.ca.issue_cert(*names, **(dates if expired else {}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.configure_cert(context)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem")
    made.ca.cert_pem.write_to_path(made.file)
    return made


@contextmanager
def answering(first: bytes) -> Iterator[str]:
    """Yield the address of a server that says `first` to whatever comes, and hangs up."""

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.recv(1 << 16)
                sock.sendall(first)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


Place = Callable[[ExitStack, Certificates], str]


def tls(*names: str, expired: bool = False) -> Place:
    return lambda stack, made: stack.enter_context(Upstream(tls=made.server(*names, expired=expired))).url


ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
BAD = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
UNREACHABLE: dict[str, tuple[Place, bool, str, str, str, str]] = {
    # where · is the authority trusted · cause · way out (token_url) · way out (upstream) · title (token_url)
    "an unknown authority": (
        tls("127.0.0.1"), False, "signed by an authority that is not trusted here",
        "in `auth.tls.ca_file`", "in `tls.ca_file`", "Token endpoint not trusted",
    ),
    "an expired certificate": (
        tls("127.0.0.1", expired=True), True, "its certificate has expired",
        "has to renew it; or this machine's clock is wrong", "has to renew it", "Token endpoint not trusted",
    ),
    "a certificate of another host": (
        tls("other.example"), True, "its certificate is that of another host",
        "correct the host in `token_url`", "correct the host in `upstream`", "Token endpoint not trusted",
    ),
    "https where it is http": (
        lambda stack, _: f"https://{stack.enter_context(answering(BAD))}", False, "speaks plain http there",
        "write http:// in `token_url`", "write http:// in `upstream`", "Token endpoint speaks plain http",
    ),
    "http where it is https": (
        lambda stack, _: f"http://{stack.enter_context(answering(ALERT))}", False, "but in TLS",
        "write https:// in `token_url`", "write https:// in `upstream`", "Token endpoint speaks https",
    ),
    "http where it is https, and hangs up": (
        lambda stack, _: f"http://{stack.enter_context(answering(b''))}", False,
        "closed the connection without an answer",
        "is it https:// there?", "is it https:// there?", "Token endpoint unavailable",
    ),
    "an unknown host": (
        lambda _stack, _made: "https://no-such-host.invalid", False, "does not resolve",
        "check the host in `token_url`", "check `upstream`", "Unknown token endpoint host",
    ),
    "nobody there": (
        lambda _stack, _made: f"http://{NOBODY}", False, "Connection refused",
        "check host and port in `token_url`", "check `upstream`, and whether", "Token endpoint unavailable",
    ),
    "a container that means its host": (
        lambda _stack, _made: f"http://{NOBODY}", False, "cannot connect to",
        "in a container 127.0.0.1 is the container itself",
        "in a container 127.0.0.1 is the container itself", "Token endpoint unavailable",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", UNREACHABLE)
def test_the_token_endpoint_cannot_be_reached(mistake: str, certificates: Certificates) -> None:
    place, trusted, cause, way_out, _, title = UNREACHABLE[mistake]
    env = {"SSL_CERT_FILE": str(certificates.file)} if trusted else None
    with ExitStack() as stack:
        config = route(client(place(stack, certificates)))
        assert_told_everywhere(config, Told(title, cause, way_out), env=env)


@pytest.mark.parametrize("mistake", UNREACHABLE)
def test_the_upstream_cannot_be_reached(mistake: str, certificates: Certificates) -> None:
    place, trusted, cause, _, way_out, _ = UNREACHABLE[mistake]
    told = Told("", cause, way_out)
    env = {"SSL_CERT_FILE": str(certificates.file)} if trusted else None
    with ExitStack() as stack, running_proxy(route(PLAIN, place(stack, certificates)), env=env) as proxy:
        answer = ask(proxy.url, request())
        proxy.stop()
        assert answer.status == 502
        assert answer.json["title"] not in {"Bad gateway", "Bad Gateway"}
        told.stands_in(f"{answer.json['detail']} {answer.json['hint']}", "the answer")
        told.stands_in(line_of(proxy.log()), "the log")


def line_of(log: str) -> str:
    """Return the last line of a log about a request."""
    return [line for line in log.splitlines() if " request " in line][-1]


def test_an_upstream_that_waits_for_plain_http_is_told_from_one_that_takes_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = route(PLAIN, f"https://127.0.0.1:{silent.getsockname()[1]}", timeouts={"connect": "300ms"})
        with running_proxy(config) as proxy:
            answer = ask(proxy.url, request())
    assert answer.status == 504
    assert "took the connection, but did not answer in TLS within 0.3 s" in answer.json["detail"]
    assert "is it http:// there?" in answer.json["hint"]


def test_without_redis_memory_serves_and_that_is_said() -> None:
    pytest.importorskip("redis")
    with Tokens() as tokens, Upstream() as api:
        store = {"type": "redis", "url": f"redis://:{SECRET}@127.0.0.1:{free_port()}/0", "key": "k" * 32}
        config = {**route(client(tokens.url), api.url), "token_store": store}
        with running_proxy(config) as proxy:
            assert ask(proxy.url, request()).status == 200
            log = proxy.wait_for_log("token store unavailable")
        verb = authproxy("token", "api", config=config)
    assert verb.returncode == 0
    assert verb.stdout.strip() in tokens.issued.every
    for text in (log, verb.stderr):
        assert "cannot be used: Connection refused" in text
        assert "check host and port in token_store.url, and whether Redis is up" in text
        assert "memory serves" in text
        assert SECRET not in text


def test_a_token_endpoint_elsewhere_over_plain_http_is_a_fault_that_names_the_key() -> None:
    ended = authproxy("check", config=route(client("http://tokens.example")))
    assert ended.returncode == 2
    assert "routes[0].auth.token_url: would carry the credential over plain http" in ended.stdout
    assert "use https, or set `insecure: true`" in ended.stdout


# ── the upstream says no ─────────────────────────────────────────────────────────────────────────


@contextmanager
def asked(
    said: bytes, *lines: str, target: str = "/v1/things?secret=1", **keys: Any
) -> Iterator[tuple[Message, str]]:
    """Yield an upstream's answer as it comes back, and the log."""
    base = keys.pop("base", "")
    with Upstream() as api:
        api.says(said)
        with running_proxy(route(keys.pop("auth", PLAIN), api.url + base, **keys)) as proxy:
            answer = ask(proxy.url, request("GET", target, *lines))
            proxy.stop()
            yield answer, proxy.log().replace(api.url, "http://upstream")


@pytest.mark.parametrize(
    ("challenge", "wanted", "setting"),
    [("Token", "Token", "`scheme: Token`"), ('Basic realm="x"', "Basic", "`grant: basic`")],
)
def test_another_scheme_is_wanted(challenge: str, wanted: str, setting: str) -> None:
    with asked(reply("401 Unauthorized", f"WWW-Authenticate: {challenge}")) as (answer, log):
        told = Told("", f"sent as Bearer where the upstream asks for {wanted}", f"set {setting}")
        told.stands_in(answer.one("Proxy-Status") or "", "the answer")
        told.stands_in(log, "the log")


def test_a_scheme_that_nobody_names_may_be_wrong() -> None:
    with asked(reply("401 Unauthorized")) as (answer, log):
        assert answer.one("Proxy-Status") == 'authproxy; received-status=401; details="a static token"'
        assert "is `scheme` right" in log


def test_a_path_that_is_joined_wrongly() -> None:
    keys = {"path": "/api", "base": "/v1", "target": "/api/v1/things?secret=1"}
    with asked(reply("404 Not Found"), **keys) as (answer, log):
        assert answer.status == 404
        line = line_of(log)
        assert "upstream=http://upstream/v1/v1/things " in line
        assert "the base path is in the URL twice: remove it from the request, or from `upstream`" in line


def test_a_path_that_is_not_there() -> None:
    with asked(reply("404 Not Found")) as (_, log):
        assert "upstream=http://upstream/v1/things hint=" in line_of(log)
        assert "`strip_path`" in line_of(log)


def test_a_redirect_to_another_host() -> None:
    with asked(reply("302 Found", "Location: https://login.example/sso?secret=1")) as (answer, log):
        assert answer.status == 302
        line = line_of(log)
        assert "redirect=https://login.example " in line
        assert "set `upstream` to that host" in line
        assert "does not take the credential" in line


def test_the_callers_own_authorization_is_kept() -> None:
    with asked(reply("401 Unauthorized"), "Authorization: Bearer mine") as (answer, log):
        cause = "no credential: the caller's own Authorization was kept (incoming: keep)"
        assert cause in (answer.one("Proxy-Status") or "")
        assert cause in log
        assert "remove the caller's own credential, or set `incoming: replace`" in log


def test_an_upstream_that_says_it_speaks_https() -> None:
    said = b"Client sent an HTTP request to an HTTPS server.\n"
    with asked(reply("400 Bad Request", body=said)) as (answer, log):
        assert answer.body == said
        assert "write https:// in `upstream`" in line_of(log)


# ── calling the proxy ────────────────────────────────────────────────────────────────────────────

FORWARD_PROXY = (
    "this address is not a forward proxy (curl -x, HTTPS_PROXY): call a route by its own URL here, or use "
    "`authproxy exec --forward`"
)
CALLS: dict[str, tuple[bytes, int, str, str]] = {
    "a page of another origin": (
        request("GET", "/", "Origin: https://app.example"), 403,
        "a web page of another origin may not use this proxy", "to `allowed_origins`",
    ),
    "a page of another site": (
        request("GET", "/", "Sec-Fetch-Site: cross-site"), 403,
        "a web page of another site may not use this proxy", "to `allowed_origins`",
    ),
    "another host": (
        request("GET", "/", host="api.internal.example"), 403,
        "requests to the host api.internal.example are not answered here",
        "call it by 127.0.0.1 or localhost; or, if that name is yours, add it to `allowed_hosts`",
    ),
    "a container": (
        request("GET", "/", host="host.docker.internal:8080"), 403,
        "requests to the host host.docker.internal are not answered here",
        "add host.docker.internal to `allowed_hosts`",
    ),
    "curl -x of http": (
        b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 403,
        "requests to the host example.com are not answered here", FORWARD_PROXY,
    ),
    "curl -x of https": (
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 403,
        "CONNECT is not forwarded", FORWARD_PROXY,
    ),
    "curl -x of http to this machine": (
        b"GET http://localhost:9/x HTTP/1.1\r\nHost: localhost:9\r\n\r\n", 404,
        "no route is mounted there; the routes are: /api", FORWARD_PROXY,
    ),
    "a bare visit": (
        request("GET", "/", "Accept: text/html"), 404,
        "no route is mounted there; the routes are: /api", "begin the path with one of them",
    ),
    "a browser's icon": (
        request("GET", "/favicon.ico"), 404,
        "no route is mounted there; the routes are: /api", "begin the path with one of them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", CALLS)
def test_the_proxy_is_called_as_it_cannot_be(mistake: str) -> None:
    sent, status, cause, way_out = CALLS[mistake]
    with running_proxy(route(PLAIN, path="/api")) as proxy:
        answer = ask(proxy.url, sent)
        proxy.stop()
        assert answer.status == status
        assert answer.json["detail"] == cause
        assert cause in (answer.one("Proxy-Status") or "")
        assert way_out in answer.json["hint"]
        Told("", cause, way_out).stands_in(line_of(proxy.log()), "the log")


def test_a_head_of_nothing_is_told_in_the_header() -> None:
    with running_proxy(route(PLAIN, path="/api")) as proxy:
        answer = ask(proxy.url, request("HEAD"))
        assert answer.status == 404
        assert "the routes are: /api" in (answer.one("Proxy-Status") or "")


def test_https_to_a_plain_listener_is_named_in_the_log() -> None:
    with running_proxy(route(PLAIN)) as proxy:
        hello = ssl.MemoryBIO()
        shaking = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            shaking.do_handshake()
        with connect(proxy.url) as wire:
            answer = wire.send(hello.read()).answer()
        proxy.stop()
        told = Told("", "a client spoke TLS (https://) to a listener of plain http", "call it by http://")
        assert answer.status == 400
        told.stands_in(f"{answer.json['detail']} {answer.json['hint']}", "the answer")
        told.stands_in(line_of(proxy.log()), "the log")


def test_a_health_check_of_the_wrong_port_says_which_is_the_right_one() -> None:
    with running_proxy(route(PLAIN, path="/api")) as proxy, Upstream() as another:
        for url, cause in {
            proxy.url: "that is a listener for requests, not the admin listener",
            another.url: "the answer is not from authproxy",
            f"http://{NOBODY}": "does not answer: the connection was refused",
        }.items():
            ended = authproxy("healthcheck", url)
            assert ended.returncode == 1
            assert cause in ended.stderr
            assert "`admin.listen`" in ended.stderr


def test_a_health_check_may_name_a_page_and_a_query() -> None:
    with running_proxy(route(PLAIN, path="/api")) as proxy:
        plain = re.sub("^http://", "", proxy.admin_url)
        for url in ("?route=api", "/readyz?route=api", "/healthz", ""):
            assert authproxy("healthcheck", proxy.admin_url + url).returncode == 0
            assert authproxy("healthcheck", plain + url).returncode == 0
        ended = authproxy("healthcheck", f"{proxy.admin_url}?route=nowhere")
        assert (ended.returncode, ended.stderr) == (
            1,
            "authproxy: not ready: there is no route of that name\n",
        )
