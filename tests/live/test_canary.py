"""No secret turns up where it does not belong: the whole program, through every error that can be caused.

Every secret that a configuration can hold is one that is known again (`tests/support/canary.py`), and so is
every token that is handed out, and what callers send. Token endpoints and upstreams answer with all that they
were sent, in every part of an answer where that could be repeated: then the log (at debug level), the answers
of our own, the admin listener, the files that are kept, the list of processes, and what every verb prints are
searched for each secret and each piece of one, plain, percent-encoded, escaped and in Base64.

What an upstream sends to its caller is between the two of them, and is not looked at.
"""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints
from urllib.parse import quote, unquote_plus

import pytest
import yaml
from joserfc.jwk import ECKey
from pydantic import SecretStr

from authproxy import capabilities
from authproxy.config.model import FileKeys
from authproxy.config.read import load
from authproxy.config.route import RouteKeys
from authproxy.grants.registry import GRANTS
from authproxy.masking import leaves
from tests.support.canary import BASE32, Canaries
from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.launch import COMMAND, GUARD, environment, write_config
from tests.support.wire import (
    BrokenOff,
    Message,
    Upstream,
    Wire,
    ask,
    json_reply,
    request,
)

KEY = "X-Authproxy-Key"
PROBLEM = "application/problem+json"

NO_SECRET = "of a caller, where secrets are not"
SHOWN = frozenset({NO_SECRET, "a body"})
"""What the inspector may show to whoever may see requests, and nothing else may. Of a body it knows nothing
that an upstream could put into a header."""

# What GET asks of the admin listener; NAME stands for each route. What is not there is a problem document.
ADMIN = [
    "/healthz", "/readyz", "/readyz?route=NAME", "/metrics", "/login/NAME", "/nowhere",
    "/callback?error=access_denied&error_description=SECRET&state=SECRET", "/callback?code=SECRET&state=x",
    "/callback?code=SECRET&code=SECRET", "/api/status", "/api/requests?limit=1000", "/api/requests?q=SECRET",
]  # fmt: skip


# ── what a configuration can hold ────────────────────────────────────────────────────────────────


def credentials(canaries: Canaries) -> dict[str, Callable[[str], dict[str, Any]]]:
    """Return, by a name, what makes an `auth` of a token endpoint's URL, with new secrets each time."""
    new = canaries.made

    def plain(name: str) -> str:
        return new(name, awkward="~")  # where OAuth lets no quotation marks in, or a header

    def oauth(style: str, **more: Any) -> Callable[[str], dict[str, Any]]:
        def made(url: str) -> dict[str, Any]:
            return {
                "grant": "client_credentials", "token_url": url, "client_id": "me", "client_auth": style,
                "client_secret": new(f"client_secret of {style}"),
                "params": {"api_key": new("params")}, "headers": {"X-Vendor-Key": plain("headers")}, **more,
            }  # fmt: skip

        return made

    def signed(url: str) -> dict[str, Any]:
        key = ECKey.generate_key("P-256")
        pem = key.as_pem(private=True).decode()
        canaries.add("key", "".join(pem.splitlines()[1:-1]))
        canaries.add("key", str(key.as_dict(private=True)["d"]))
        return {"grant": "client_credentials", "token_url": url, "client_id": "me", "key": pem,
                "client_auth": "private_key_jwt"}  # fmt: skip

    def own(kind: str) -> Callable[[str], dict[str, Any]]:
        def made(url: str) -> dict[str, Any]:
            sent = {"user": "me", "password": new(kind)}
            return {
                "grant": "token_request", "url": url, "method": "POST",
                "headers": {"X-Api-Key": plain("headers")},
                **({"json": {"deep": [sent]}} if kind == "json" else {kind: sent}),
                "basic": {"username": "me", "password": new("basic.password")},
                "totp": {"header": "totp-auth", "secret": new("totp", awkward="", alphabet=BASE32)},
            }  # fmt: skip

        return made

    client = {"client_id": "me", "client_secret": new("client_secret"), "client_auth": "client_secret_post"}
    return {
        "basic": oauth("client_secret_basic"),
        "raw": oauth("client_secret_basic_raw"),
        "post": oauth("client_secret_post"),
        "hmac": oauth("client_secret_jwt"),
        "query": oauth("client_secret_post", params_in="query"),
        "signed": signed,
        "password": lambda url: {
            "grant": "password", "token_url": url, "client_id": "me", "username": "me",
            "password": new("password"),
        },
        "refresh": lambda url: {
            "grant": "refresh_token", "token_url": url, **client, "refresh_token": plain("refresh_token"),
        },
        "assertion": lambda url: {
            "grant": "jwt_bearer", "token_url": url, **client, "assertion": plain("assertion"),
        },
        "exchange": lambda url: {
            "grant": "token_exchange", "token_url": url, **client, "subject_token": plain("subject_token"),
            "actor_token": plain("actor_token"),
        },
        "form": own("form"),
        "json": own("json"),
        "own-query": own("query"),
    }  # fmt: skip


def others(canaries: Canaries, url: str, directory: Path) -> dict[str, dict[str, Any]]:
    """Return each `auth` that is of another kind: without a token endpoint, or with a person."""
    plain = canaries.made("an argument", awkward="~")
    (directory / "a-token").write_text(canaries.made("a token file", awkward="~"))
    client = {"client_id": "me", "client_secret": canaries.made("client_secret of a login")}
    return {
        "static": {"grant": "static", "token": canaries.made("token", awkward="~")},
        "injected": {"grant": "static", "token": canaries.made("a token"), "inject": [
            {"header": "X-Key", "value": f"{canaries.made('a word before it', awkward='~')} {{token}}"},
            {"basic": {"username": canaries.made("a name for Basic"), "password": "{token}"}},
            {"query": "key", "value": f"{canaries.made('a word in a query')} {{token}}"},
            {"cookie": "session", "value": f"{canaries.made('a word in a cookie')}{{token}}"},
        ]},
        "basic-itself": {"grant": "basic", "username": "me", "password": canaries.made("basic")},
        "command": {"grant": "command", "command": ["sh", "-c", "echo $0; exit 1", plain]},
        "command-prints": {"grant": "command", "command": ["sh", "-c", "echo '{\"a\": \"'$0", plain]},
        "file": {"grant": "file", "path": str(directory / "a-token")},
        "referred": {"grant": "static", "token": f"${{file:{directory}/a-token}}"},
        "printed": {"grant": "static", "token": f"${{command:cat {directory}/a-token}}"},
        "code": {
            "grant": "authorization_code", "token_url": f"{url}/refused/code", **client,
            "authorization_url": f"{url}/authorize",
            "authorization_params": {"login_hint": "me@example.com"},  # for all to see who see the URL
        },
        "device": {
            "grant": "device_code", "token_url": f"{url}/refused/device", **client,
            "device_authorization_url": f"{url}/refused/device",
        },
    }  # fmt: skip


# ── servers that repeat what they are sent ───────────────────────────────────────────────────────


def all_of(came: Message) -> str:
    """Return all that was sent, as it came and decoded: on one line, quoted for nothing."""
    parts = [
        came.target,
        *(value.decode("latin-1") for _, value in came.headers),
        came.body.decode("utf-8", "replace"),
    ]
    parts.append(unquote_plus(came.target))
    if (came.one("Content-Type") or "").endswith("form-urlencoded"):
        parts.append(unquote_plus(came.body.decode("utf-8", "replace")))
    for part in list(parts):
        scheme, _, rest = part.partition(" ")
        if scheme in {"Basic", "Bearer"}:
            parts.append(rest)
        if scheme == "Basic":
            with suppress(ValueError):
                parts.append(base64.b64decode(rest).decode("utf-8", "replace"))
    return " | ".join(parts).replace("\r", " ").replace("\n", " ")


Said = Callable[[str], bytes]
Lines = tuple[str, ...]


def said(status: int | str = 200, *lines: str, body: str = "") -> bytes:
    """Return an answer whose lines may hold anything but line breaks."""
    start = f"HTTP/1.1 {status}" if isinstance(status, str) else f"HTTP/1.1 {status} Said So"
    raw = body.encode()
    return "\r\n".join([start, *lines, f"Content-Length: {len(raw)}", "", ""]).encode() + raw


ENDPOINT: dict[str, Said] = {
    "refused": lambda all_: json_reply({"error": "invalid_client", "error_description": all_}, 401),
    "plainly": lambda all_: said(400, "Content-Type: text/plain", body=all_),
    "code": lambda all_: json_reply({"error": all_}, 400),
    "details": lambda all_: json_reply(
        {"error": "invalid_grant", "error_uri": all_, "message": all_, "detail": [all_]}, 400
    ),
    "reason": lambda all_: said(f"403 {all_}"),
    "challenge": lambda all_: said(401, f'WWW-Authenticate: Bearer error="{all_}"'),
    "down": lambda all_: said(500, "Content-Type: text/html", body=f"<html><p>{all_}</html>"),
    "wait": lambda all_: said(429, f"Retry-After: {all_}"),
    "page": lambda all_: said(200, "Content-Type: text/html", body=f"<html><p>{all_}</html>"),
    "no-token": lambda all_: json_reply({"echo": all_, "deep": [all_]}),
    "keys": lambda all_: json_reply({all_: 1, "deep": {all_: 2}}),
    "half": lambda all_: said(200, body=f'{{"access_token": "{all_}'),
    "controls": lambda all_: json_reply({"access_token": f"a\r\nb{all_}"}),
    "odd": lambda all_: json_reply(
        {"access_token": all_, "token_type": all_, "expires_in": all_, "scope": all_, "refresh_token": all_}
    ),
    "kind": lambda all_: json_reply(
        {"access_token": "abcdefgh", "token_type": all_, "issued_token_type": all_}
    ),
    "moved": lambda all_: said(302, f"Location: https://elsewhere.example/?all={quote(all_)}"),
    "moved-oddly": lambda all_: said(307, f"Location: {all_}"),
    "garbage": lambda all_: all_.encode(),
    "bad-line": lambda all_: said(200, all_.replace(":", ";")),
    "bad-name": lambda all_: said(200, f"{all_.replace(':', ';')}: x"),
    "bad-length": lambda all_: f"HTTP/1.1 200 OK\r\nContent-Length: {all_}\r\n\r\n{all_}".encode(),
    "bad-chunk": lambda all_: (
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{all_}\r\n{all_}\r\n0\r\n\r\n".encode()
    ),
    "bad-encoding": lambda all_: said(200, f"Content-Encoding: {all_}", body=all_),
    "charset": lambda all_: said(400, f'Content-Type: text/plain; charset="{all_}"', body=all_),
    "cut": lambda all_: f"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{all_}".encode(),
}
"""What a token endpoint answers, by the first part of the path that it is asked for."""

UPSTREAM: dict[str, Said] = {
    "fine": lambda _all: said(),
    "refused": lambda all_: said(f"401 {all_}", f'WWW-Authenticate: Bearer error="{all_}"', body=all_),
    "scope": lambda all_: said(
        401, f'WWW-Authenticate: Bearer error="insufficient_scope", scope="{all_.replace(chr(34), "")}"'
    ),
    "forbidden": lambda all_: said(403, body=all_),
    "down": lambda all_: said(500, body=all_),
    "moved": lambda all_: said(302, f"Location: https://elsewhere.example/?all={quote(all_)}"),
    "moved-oddly": lambda all_: said(302, f"Location: {all_}", f"Link: <{all_}>; rel=next"),
    "cookie": lambda all_: said(200, f"Set-Cookie: all={quote(all_)}; Domain=example.com; Path=/{all_}"),
    "garbage": lambda all_: all_.encode(),
    "bad-line": lambda all_: said(200, all_.replace(":", ";")),
    "bad-name": lambda all_: said(200, f"{all_.replace(':', ';')}: x"),
    "bad-length": lambda all_: f"HTTP/1.1 200 OK\r\nContent-Length: {all_}\r\n\r\n".encode(),
    "bad-chunk": lambda all_: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{all_}\r\n".encode(),
    "bad-encoding": lambda all_: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {all_}\r\n\r\n".encode(),
    "two-lengths": lambda all_: said(200, f"Content-Length: {all_}"),
    "switched": lambda all_: f"HTTP/1.1 101 {all_}\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".encode(),
    "early": lambda all_: f"HTTP/1.1 103 Early Hints\r\nLink: <{all_}>\r\n\r\n".encode() + said(),
    "version": lambda all_: f"HTTP/9.{all_} 200 OK\r\n\r\n".encode(),
    "cut": lambda all_: f"HTTP/1.1 200 OK\r\nX-All: {all_}\r\nContent-Length: 99999\r\n\r\n{all_}".encode(),
}  # fmt: skip
"""What an upstream answers, by the first part of the path below it."""

CLOSES = frozenset({"garbage", "cut", "bad-length", "bad-chunk", "version"})


class Echoes(Upstream):
    """A server that says all that it was sent, in the way of the path's first part; `/good` gives tokens."""

    def __init__(self, said_by: dict[str, Said], canaries: Canaries) -> None:
        super().__init__(self._say)
        self._said_by = said_by
        self._canaries = canaries

    def _say(self, came: Message, wire: Wire) -> bytes | None:
        way = came.target.split("?")[0].split("/")[1]
        if way == "good":
            token, more = (
                self._canaries.made(f"a {name} token", awkward="~") for name in ("handed out", "refresh")
            )
            return json_reply(
                {"access_token": token, "refresh_token": more, "id_token": token, "expires_in": 3600}
            )
        data = self._said_by[way](all_of(came))
        if way not in CLOSES:
            return data
        wire.send(data)
        return None


# ── the proxy at work ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    made = Canaries()
    yield made
    print(
        f"\n{made.places} places, {made.size >> 10} KiB, searched for {len(made.needles)} pieces of secrets"
    )


class Everything:
    """A proxy with every kind of credential before every kind of answer."""

    def __init__(self, stack: ExitStack, canaries: Canaries, directory: Path) -> None:
        self.canaries = canaries
        self.directory = directory
        self.key = canaries.made("access.tokens", awkward="~")
        self.tokens = stack.enter_context(Echoes(ENDPOINT, canaries))
        self.api = stack.enter_context(Echoes(UPSTREAM, canaries))
        self.routes: list[dict[str, Any]] = []
        for kind, auth in credentials(canaries).items():
            for way in (*ENDPOINT, "good"):
                self._add(f"{kind}-{way}", auth(f"{self.tokens.url}/{way}/{kind}"))
        for kind, made in others(canaries, self.tokens.url, directory).items():
            self._add(kind, made)
        self._add("silent", self.routes[0]["auth"] | {"token_url": "http://127.0.0.1:9/"})
        self._add("behind", self.routes[0]["auth"], http_proxy=self._proxy("127.0.0.1:9"))
        self._add("lost", self.routes[0]["auth"], upstream="http://127.0.0.1:9")
        self._add("nowhere", {"grant": "none"}, upstream="http://nowhere.invalid")

    def _proxy(self, place: str) -> str:
        return f"http://me:{quote(self.canaries.made('http_proxy'), safe='')}@{place}"

    def _add(self, name: str, auth: dict[str, Any], **more: Any) -> None:
        value = self.canaries.made("headers.set", awkward="~")
        route = {"name": name, "path": f"/{name}", "upstream": self.api.url, "auth": auth}
        self.routes.append({**route, "headers": {"set": {"X-Team-Key": value}}, **more})

    def config(self, **more: Any) -> dict[str, Any]:
        store = {"type": "file", "path": "state/tokens", "key": self.canaries.made("token_store.key")}
        return {
            "access": {"tokens": [self.key]}, "token_store": store, "limits": {"drain": "1s"},
            "routes": self.routes, **more,
        }  # fmt: skip


@pytest.fixture(scope="module")
def everything(canaries: Canaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    with ExitStack() as stack:
        yield Everything(stack, canaries, tmp_path_factory.mktemp("files"))


def exchange(url: str, sent: bytes) -> Message | None:
    """Return what is answered; None for nothing that is whole."""
    try:
        return ask(url, sent)
    except (BrokenOff, OSError, AssertionError, ValueError):
        return None


def head_and_body(answer: Message) -> bytes:
    return answer.head + answer.body


def look_at_own(canaries: Canaries, place: str, answer: Message | None) -> None:
    """Search an answer if it is of our own."""
    if answer is not None and answer.one("Content-Type") == PROBLEM:
        canaries.look(place, head_and_body(answer))


def look_at_admin(here: Everything, proxy: RunningProxy, names: list[str]) -> None:
    """Search all that the admin listener says, to who has the key and to who has not."""
    secret = here.canaries.made("a query")
    paths = [path.replace("SECRET", quote(secret, safe="")) for path in ADMIN]
    paths = [path.replace("NAME", name) for path in paths for name in (names if "NAME" in path else [""])]
    for lines in ((), (f"{KEY}: {here.key}",), (f"{KEY}: {here.canaries.made('a wrong key', awkward='~')}",)):
        for path in paths:
            answer = ask(proxy.admin_url, request("GET", path, *lines))
            if answer.status == 302 and path.startswith("/login/"):
                continue  # the way to the login, which has what its URL was configured with
            here.canaries.look(f"the admin listener's {path}", head_and_body(answer), but=SHOWN)
            for each in of_the_api(answer):
                one = ask(proxy.admin_url, request("GET", f"/api/requests/{each}", *lines))
                place = f"the admin listener's {path}: {each}"
                here.canaries.look(place, head_and_body(one), but=SHOWN)
    form = f"key={quote(here.canaries.made('a key in a form'), safe='')}".encode()
    answer = ask(proxy.admin_url, request("POST", "/login/code", body=form))
    here.canaries.look("the page of a login", head_and_body(answer))


def of_the_api(answer: Message) -> list[str]:
    """Return the ids of the requests that the inspector lists."""
    if answer.status != 200 or not (answer.one("Content-Type") or "").startswith("application/json"):
        return []
    document = json.loads(answer.body)
    listed = document.get("requests", []) if isinstance(document, dict) else []
    return [str(each["id"]) for each in listed]


def look_at_process(canaries: Canaries, pid: int) -> None:
    """Search what the system shows of a process and its children, to whom it does."""
    proc = Path("/proc")
    if not (proc / str(pid) / "cmdline").exists():
        return
    listed = (proc / f"{pid}/task/{pid}/children").read_text().split()
    for each in (str(pid), *listed):
        for name in ("cmdline", "comm", "status", "wchan"):
            canaries.look(f"/proc/{each}/{name}", (proc / each / name).read_bytes())
        if hasattr(capabilities, "clear_variable"):  # what is read once is taken out
            canaries.look(f"/proc/{each}/environ", (proc / each / "environ").read_bytes())


def look_at_files(canaries: Canaries, directory: Path, *, but: set[str]) -> None:
    """Search every file below `directory`, and the names of all."""
    for path in directory.rglob("*"):
        canaries.look(f"the name {path}", str(path.relative_to(directory)))
        if path.is_file() and path.name not in but:
            canaries.look(f"the file {path}", path.read_bytes())


@pytest.mark.parametrize(("workers", "style"), [(1, "text"), (2, "json")])
def test_nothing_that_a_running_proxy_says_or_keeps_has_a_secret_in_it(
    everything: Everything, workers: int, style: str
) -> None:
    here, canaries = everything, everything.canaries
    key, before = f"{KEY}: {here.key}", everything.canaries.places
    env = {"REFERRED": canaries.made("a variable", awkward="~")}
    here.routes[-1] = {**here.routes[-1], "headers": {"set": {"X-Variable": "${REFERRED}"}}}
    settings = here.config(log={"level": "debug", "format": style}, workers=workers)
    names = [route["name"] for route in here.routes]
    with running_proxy(settings, env=env) as proxy:
        for name in names:
            for _ in range(2):  # the second time it is left alone
                look_at_own(canaries, name, exchange(proxy.url, request("GET", f"/{name}/fine", key)))
        for way in UPSTREAM:
            for name in ("post-good", "static", "basic-itself", "raw-good", "exchange-good"):
                for sent in (
                    request("GET", f"/{name}/{way}", key),
                    request("POST", f"/{name}/{way}", key, body=canaries.made("a body").encode()),
                    request("GET", f"/{name}/{way}", key, "Connection: upgrade", "Upgrade: websocket"),
                ):
                    look_at_own(canaries, f"{name}, {way}", exchange(proxy.url, sent))
        for place, sent in of_callers(canaries, key):
            look_at_own(canaries, place, exchange(proxy.url, sent))
        look_at_admin(here, proxy, ["code", "device", "post-good", "basic-refused", "keys"])
        look_at_process(canaries, proxy.pid)
        assert proxy.stop() == 0
        canaries.look("the log", proxy.log())
        canaries.look("the output", proxy.output())
        assert proxy.log().count("no token") > 200
        look_at_files(canaries, proxy.directory, but={"authproxy-test.yaml"})
    assert canaries.places - before > 700


def of_callers(canaries: Canaries, key: str) -> Iterator[tuple[str, bytes]]:
    """Yield requests in which a caller has secrets of its own, some of them malformed."""

    def new() -> str:
        return canaries.made("of a caller", awkward="~")

    def plain() -> str:
        return canaries.made(NO_SECRET, awkward="~")

    yield "no key", request("GET", "/static/fine")
    yield "a wrong key", request("GET", "/static/fine", f"{KEY}: {new()}")
    yield "two keys", request("GET", "/static/fine", key, f"{KEY}: {new()}")
    for lines in (
        (f"Authorization: Bearer {new()}",),
        (f"Authorization: Bearer {new()}", f"Authorization: Basic {new()}"),
        (f"Cookie: session={new()}", f"Cookie: other={new()}"),
        (f"Proxy-Authorization: Basic {new()}",),
        (f"Referer: http://localhost/?token={new()}",),
        ("Origin: https://attacker.example",),  # which is logged: whose page asked
        (f"Sec-Fetch-Site: {plain()}",),
        (f"Expect: {plain()}",),
        (f"Content-Length: {plain()}",),
        (f"Transfer-Encoding: {plain()}",),
        (f"Connection: close, {plain()}",),
        (f"Authorization Bearer {new()}",),
        (f"Bad Name {plain()}: x",),
        (f"X: {plain()}\x00",),
        (f" folded {plain()}",),
        (f"X-Large: {plain() * 3000}",),
    ):
        for path in ("/static/fine", "/post-good/refused", "/nobody/is/here"):
            yield f"{lines[0][:20]}…", request("GET", path, key, *lines)
    for target in (
        f"/static/fine?access_token={new()}",
        f"/static/refused?password={new()}&x=1",
        f"/nobody?key={new()}",
        f"/static/%2e%2e/?key={new()}",
        f"/static/fine#{new()}",
        f"http://me:{new()}@localhost/static/fine",
        f"http://{new().replace('~', '-')}.example/static/fine",
        f"ftp://me:{new()}@localhost/",
        f"?{new()}",
    ):
        yield target[:20], request("GET", target, key)
        yield target[:20], request("CONNECT", target, key)
        yield target[:20], request("OPTIONS", target, key, "Access-Control-Request-Method: GET")
    for host in (f"me:{new()}@localhost", f"{plain()}.example", f"localhost:{plain()}", f"a b{plain()}"):
        yield "a host", request("GET", "/static/fine", key, host=host)
    yield "a version", f"GET /static/fine HTTP/1.{new()}\r\nHost: localhost\r\n\r\n".encode()
    yield "no version", f"GET /static/fine?{new()}\r\n\r\n".encode()
    yield (
        "a bad chunk",
        request("POST", "/static/fine", key, "Transfer-Encoding: chunked") + new().encode() + b"\r\n",
    )
    yield (
        "a bad body",
        request("POST", "/static/fine", key, "Transfer-Encoding: chunked")
        + (f"5\r\n{new()}\r\n0\r\n\r\n".encode()),
    )
    yield (
        "a trailer",
        request("POST", "/static/fine", key, "Transfer-Encoding: chunked")
        + (f"0\r\nAuthorization: Bearer {new()}\r\n bad\r\n\r\n".encode()),
    )


# ── the other verbs ──────────────────────────────────────────────────────────────────────────────

ONE_AFTER_THE_OTHER = """
import json, sys
from authproxy.cli import main

for line in sys.stdin:
    sys.argv[1:] = json.loads(line)
    try:
        main()
    except SystemExit as end:
        print(f"ended with {end.code}", flush=True)
"""
"""Runs a verb a line in one process: starting costs more than most of them do."""


def look_at_verbs(canaries: Canaries, lines: list[list[str]], directory: Path, **env: str) -> str:
    """Run verbs to their ends, and search what they say, without what is their result; return it."""
    ended = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER], cwd=directory, env=environment(directory, env),
        input="\n".join(map(json.dumps, lines)), timeout=4 * GUARD,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    canaries.look(f"what {len(lines)} verbs write to stderr", ended.stderr)
    canaries.look(f"what {len(lines)} verbs write to stdout", ended.stdout)
    assert "Traceback" not in ended.stderr
    assert ended.stdout.count("ended with ") == len(lines), ended.stderr
    return ended.stdout


def test_no_verb_says_a_secret(everything: Everything, tmp_path: Path) -> None:
    here, canaries = everything, everything.canaries
    config = here.config(log={"level": "debug"})
    del config["token_store"]
    all_of_it = str(write_config(tmp_path, config))
    lines = [
        [*verb.split(), "-c", all_of_it] for verb in ("check", "routes", "routes --json", "token nobody")
    ]
    failing = [f"basic-{way}" for way in ENDPOINT if way not in {"odd", "kind"}]
    failing += [f"{kind}-refused" for kind in credentials(Canaries())]
    verbs = [f"token {name}" for name in (*failing, "command", "command-prints", "silent", "behind")]
    for verb in [*verbs, "logout code", "login code --no-browser", "login device"]:
        _, name, *_ = words = verb.split()
        (tmp_path / name).mkdir(exist_ok=True)
        mine = [route for route in here.routes if route["name"] == name]
        file = write_config(tmp_path / name, {**config, "routes": mine})
        lines.append([*words, "-c", str(file)])
    told = look_at_verbs(canaries, lines, tmp_path, REFERRED=canaries.made("a variable", awkward="~"))
    assert told.count("ended with 1") >= len(verbs)


@pytest.mark.parametrize("options", [[], ["--header"], ["--format", "exec-credential"]])
def test_who_asks_for_a_token_gets_it_on_stdout_alone(everything: Everything, options: list[str]) -> None:
    route = next(route for route in everything.routes if route["name"] == "post-good")
    ended = authproxy("token", "post-good", *options, config={"routes": [route], "log": {"level": "debug"}})
    assert everything.canaries.found_in(ended.stdout.encode())
    everything.canaries.look("what `token` writes to stderr", ended.stderr)


def faulty(canaries: Canaries) -> dict[str, str]:
    """Return configurations that will not do, each with secrets in or beside what is wrong with it."""
    new = canaries.made

    def with_route(**keys: Any) -> dict[str, Any]:
        route = {"name": "a", "upstream": "https://api.example.com", "auth": {"grant": "none"}, **keys}
        return {"routes": [route]}

    def with_auth(**auth: Any) -> dict[str, Any]:
        return with_route(auth=auth)

    def with_token(token: object, **more: Any) -> dict[str, Any]:
        return with_auth(grant="static", token=token, **more)

    def with_password(password: object) -> dict[str, Any]:
        return with_auth(grant="basic", username="me", password=password)

    def with_client(**more: Any) -> dict[str, Any]:
        client = {"grant": "client_credentials", "token_url": "https://id.example.com", "client_id": "me"}
        return with_auth(**{**client, **more})

    def with_key(key: str) -> dict[str, Any]:
        return with_client(client_auth="private_key_jwt", key=key)

    def with_store(url: str) -> dict[str, Any]:
        return {**with_route(), "token_store": {"type": "redis", "url": url, "key": new("token_store.key")}}

    word = new("argument", awkward="~")
    wrong: dict[str, Any] = {
        "a list for a secret": with_token([new("token")]),
        "a mapping for a secret": with_password({new("x"): new("y")}),
        "an unknown key": with_token(new("token"), tokn=new("token")),
        "another grant's key": with_token(new("token"), client_secret=new("secret")),
        "an unknown grant": with_auth(grant=new("grant")),
        "an unknown preset": with_auth(preset=new("preset"), password=new("password")),
        "a line break": with_password(f"{new('p')}\n{new('p')}"),
        "a character that no header has": with_token(f"ü{new('token')}"),
        "a byte order mark": with_token(f"\ufeff{new('token')}"),
        "white space": with_password(f" {new('p')} "),
        "no base32": with_auth(
            grant="token_request", url="https://x.example", totp={"header": "t", "secret": new("totp")}
        ),
        "no key": with_key(new("key")),
        "half a key": with_key(f"-----BEGIN PRIVATE KEY-----\n{new('key')}\n-----END PRIVATE KEY-----"),
        "a JWK that is none": with_key(json.dumps({"kty": "EC", "crv": "P-256", "d": new("key")})),
        "a secret for HMAC": with_client(client_auth="client_secret_jwt", client_secret=""),
        "a scheme": with_token(new("token"), scheme=new("scheme")),
        "a header": with_token(new("token"), header=f"X {new('header')}"),
        "a token URL": with_client(token_url=f"https://me:{new('url')}@id.example.com"),
        "a token URL of another kind": with_client(token_url=f"ftp://me:{new('url')}@x.example"),
        "a header's value": with_route(headers={"set": {"X": f"ü{new('v')}\n"}}),
        "a proxy": with_route(http_proxy=f"socks5://me:{new('p')}@x:1"),
        "a proxy without a port": with_route(http_proxy=f"http://me:{new('p')}@x"),
        "an upstream": with_route(upstream=f"https://me:{new('u')}@x.example/?a={new('q')}"),
        "a duration": with_route(timeouts={"connect": "${SECRET}"}),
        "a number": with_route(max_connections="${SECRET}"),
        "a name": with_route(name="${SECRET}"),
        "an address": {**with_route(), "listen": "${SECRET}"},
        "a host": {**with_route(), "allowed_hosts": ["${SECRET}"]},
        "an origin": {**with_route(), "allowed_origins": ["${SECRET}"]},
        "a switch": {**with_route(), "allow_remote": "${SECRET}"},
        "a level": {**with_route(), "log": {"level": "${SECRET}"}},
        "a file": {**with_route(), "tls": {"cert_file": "${SECRET}", "key_file": "${SECRET}"}},
        "a grant by reference": with_auth(grant="${SECRET}"),
        "a Redis": with_store(f"http://:{new('r')}@x"),
        "a Redis with a space": with_store(f"redis://:{new('r')} @x"),
        "access": {**with_route(), "access": {"tokens": [f" {new('a')}"]}},
        "no list": {**with_route(), "access": {"tokens": new("a")}},
        "a default": with_token(f"${{MISSING:-{new('default')}"),
        "a bad reference": with_token(f"${{file:/no/where/x}}{new('rest')}"),
        "a program's argument": with_token(f"${{command:false {word}}}"),
        "a program that is not there": with_token(f"${{command:no-such {word}}}"),
        "a quotation mark": with_token(f"${{command:cat '{word}}}"),
        "a program that prints rubbish": with_token("${command:printenv SECRET}\n\x07"),
        "no mapping": [new("text")],
        "a string": new("text"),
    }  # fmt: skip
    texts = {name: yaml.safe_dump(config) for name, config in wrong.items()}
    token = new("token", awkward="~")
    texts |= {
        "an open quotation mark": f'routes: [{{auth: {{grant: static, token: "{token}}}}}]',
        "a tab": f"routes:\n  - auth:\n\ttoken: {token}\n",
        "an unknown tag": f"routes: [{{auth: {{token: !secret {token}}}}}]",
        "an unknown alias": f"routes: [{{auth: {{token: *{token.replace('~', '-')}}}}}]",
        "a key twice": f"routes: [{{auth: {{token: {token}, token: {token}}}}}]",
        "a merge": f"routes: [{{auth: {{<<: {token}}}}}]",
        "two documents": f"a: {token}\n---\nb: {token}\n",
        "a control character": f"token: {token}\x07\n",
        "an open brace": f"routes: [{{auth: {{token: {token}",
        "a colon": f"routes:\n  - auth: token: {token}\n",
    }
    return texts


def test_no_fault_of_a_configuration_quotes_a_secret(canaries: Canaries, tmp_path: Path) -> None:
    lines = []
    for number, text in enumerate(faulty(canaries).values()):
        (tmp_path / str(number)).mkdir()
        lines.append(["check", "-c", str(write_config(tmp_path / str(number), text))])
    told = look_at_verbs(canaries, lines, tmp_path, SECRET=canaries.made("a variable", awkward="~ä"))
    assert told.count("ended with 2") >= len(lines) - 1  # white space is odd, and no fault


def test_no_command_line_is_quoted(canaries: Canaries, tmp_path: Path) -> None:
    new = canaries.made
    run = ["run", "--upstream", "https://x.example", "--set"]
    lines = [
        ["run", "--upstream", f"https://me:{new('u')}@x.example/"],
        ["run", "--upstream", f"nonsense {new('u')}"],
        [*run, f"token={new('t')}"],
        [*run, f"grant={new('t')}"],
        [*run, f"=grant{new('t')}"],
        [*run, "grant=static", "--set", f"token=[{new('t')}"],
        [*run, "grant=static", "--set", f"token=ü{new('t')}"],
        [*run, f"pasword={new('t')}", "--preset", "up42"],
        ["healthcheck", f"http://me:{quote(new('h'), safe='')}@127.0.0.1:9/?key={new('q', awkward='~')}"],
        ["healthcheck", f"http://me:{quote(new('h'), safe='')}@x y/"],
    ]
    told = look_at_verbs(canaries, lines, tmp_path)
    assert told.count("ended with 2") + told.count("ended with 1") == len(lines)


# ── what breaks ──────────────────────────────────────────────────────────────────────────────────

FAULT = """
import sys
from importlib import import_module

module, _, path = {where!r}.partition(":")
owner, name = import_module(module), path.split(".")
for each in name[:-1]:
    owner = getattr(owner, each)
true = getattr(owner, name[-1])

def broken(*args, **kwargs):
    raise {error}("broken with {secret}", args, kwargs)

setattr(owner, name[-1], broken)
"""
BROKEN = {
    "a handler": "authproxy.proxy.handler:ProxyHandler.start",
    "the way to an upstream": "authproxy.proxy.send:Sender.send",
    "a repeated request": "authproxy.proxy.renewal:Credential.send",
    "a token's renewal": "authproxy.tokens.cache:CachedSource.token",
    "a grant": "authproxy.grants.client_credentials:ClientCredentials.obtain",
    "the runner": "authproxy.grants.runner:FlowRunner.run",
    "the answer of a token endpoint": "authproxy.grants.grant:Grant.read_token",
    "the admin listener": "authproxy.admin.metrics:exposition",
    "the states": "authproxy.app.route_tokens:RouteTokens.states",
    "a login": "authproxy.app.route_tokens:RouteTokens.begin_login",
    "the log": "authproxy.observe.access_log:AccessLog.__call__",
    "the head of a reply": "authproxy.proxy.headers:ResponseHeaders.plain",
    "the start": "authproxy.app.site:build_site",
    "the drain": "authproxy.app.application:App.drain",
    "a connection": "authproxy.proxy.upstream.pool:Pool.connect",
}
PARSING = ("authproxy.proxy.", "authproxy.grants.")
"""Where a ValueError may mean that what a peer sent cannot be read."""


@pytest.mark.parametrize(
    ("where", "error"),
    [
        *((where, "RuntimeError") for where in BROKEN.values()),
        *((where, "ValueError") for where in BROKEN.values() if where.startswith(PARSING)),
    ],
)
def test_what_breaks_in_the_proxy_is_told_without_what_it_was_about(
    canaries: Canaries, where: str, error: str, tmp_path: Path
) -> None:
    secret = canaries.made("of an exception", awkward="~")
    client_secret = canaries.made("client_secret", awkward="~")
    (tmp_path / "sitecustomize.py").write_text(FAULT.format(where=where, error=error, secret=secret))
    env = {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}
    with Echoes(ENDPOINT, canaries) as tokens, Upstream() as api:
        auth = {"grant": "client_credentials", "token_url": f"{tokens.url}/good/x", "client_id": "me",
                "client_secret": client_secret}  # fmt: skip
        url = f"{tokens.url}/refused/x"
        login = {"grant": "device_code", "token_url": url, "client_id": "me", "device_authorization_url": url}
        config = {
            "log": {"level": "debug"}, "limits": {"drain": "1s"},
            "routes": [{"name": "api", "upstream": api.url, "auth": auth},
                       {"name": "login", "path": "/login", "upstream": api.url, "auth": login}],
        }  # fmt: skip
        file = write_config(tmp_path, {"listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}, **config})
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            process = subprocess.Popen(
                [*COMMAND, "run", "-c", str(file)], cwd=tmp_path, env=environment(tmp_path, env),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip
        try:
            provoke(canaries, process, tmp_path)
        finally:
            process.kill()
            process.wait()
    log = (tmp_path / "err").read_bytes()
    assert f"{error} at ".encode() in log or b" status=502 " in log, "nobody was told"
    canaries.look(f"the log of a fault in {where}", log)
    canaries.look(f"the output of a fault in {where}", (tmp_path / "out").read_bytes())


def provoke(canaries: Canaries, process: subprocess.Popen[bytes], directory: Path) -> None:
    """Ask for all that may break, and end."""

    def urls() -> list[str]:
        lines = (directory / "out").read_text().splitlines()
        return [line.rpartition(" ")[2] for line in lines]

    wait_until(lambda: len(urls()) == 2 or process.poll() is not None, "it neither listens nor ends")
    if process.poll() is None:
        proxy, admin = urls()
        for path in ("/", "/a", "/login/x"):
            for _ in range(2):
                answer = exchange(proxy, request("GET", path))
                if answer is not None:
                    canaries.look("an answer", head_and_body(answer))
        for path in ("/healthz", "/readyz", "/metrics", "/login/login", "/callback?code=x&state=y"):
            answer = exchange(admin, request("GET", path))
            if answer is not None:
                canaries.look("an answer of the admin listener", head_and_body(answer))
        process.send_signal(signal.SIGTERM)
        process.wait(GUARD)


@pytest.mark.parametrize(
    ("verb", "where"),
    [
        (["check"], "authproxy.config.read:parse"),
        (["check"], "authproxy.config.checks:route_faults"),
        (["routes"], "authproxy.config.effective:effective"),
        (["token", "api"], "authproxy.grants.runner:FlowRunner.run"),
        (["login", "api"], "authproxy.cli.options:find_route"),
        (["logout", "api"], "authproxy.app.application:App.__init__"),
        (["run"], "authproxy.config.find:find_config"),
        (["healthcheck"], "authproxy.config.find:find_config"),
    ],
)  # fmt: skip
def test_what_breaks_in_a_verb_is_told_without_what_it_was_about(
    canaries: Canaries, verb: list[str], where: str, tmp_path: Path
) -> None:
    secret = canaries.made("of an exception", awkward="~")
    (tmp_path / "sitecustomize.py").write_text(FAULT.format(where=where, error="RuntimeError", secret=secret))
    env = {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}
    auth = {"grant": "client_credentials", "token_url": "http://127.0.0.1:9", "client_id": "me",
            "client_secret": canaries.made("client_secret", awkward="~")}  # fmt: skip
    config = {"routes": [{"name": "api", "upstream": "http://127.0.0.1:9", "auth": auth}]}
    ended = authproxy(*verb, config=config, env=env)
    assert ended.returncode == 1
    assert "RuntimeError" in ended.stderr
    assert "sitecustomize.py" in ended.stderr, "where it was is not told"
    canaries.look(f"authproxy {' '.join(verb)}, broken", ended.stderr + ended.stdout)


def test_no_core_is_left_behind(canaries: Canaries, tmp_path: Path) -> None:
    token = canaries.made("token", awkward="~")
    route = {"name": "api", "upstream": "http://127.0.0.1:9", "auth": {"grant": "static", "token": token}}
    most = "unlimited" if hasattr(capabilities, "keep_memory_private") else "0"
    limit = ("sh", "-c", f'ulimit -c {most} 2>/dev/null; exec "$@"', "sh")
    as_users_have_it = {"AUTHPROXY_DUMPABLE": ""}
    with running_proxy({"routes": [route]}, before=limit, env=as_users_have_it) as proxy:
        proxy.signal(signal.SIGABRT)
        proxy.wait()
        look_at_files(canaries, proxy.directory, but={"authproxy-test.yaml"})


# ── that nothing was forgotten ───────────────────────────────────────────────────────────────────


def secret_keys(kind: Any) -> set[str]:
    """Return the names of all fields that a dataclass, and those in it, say are secret."""
    hints = get_type_hints(kind, include_extras=True)
    found = set()
    for each in fields(kind):
        parts = _parts(hints[each.name])
        if SecretStr in parts or not each.repr:
            found.add(each.name)
        for part in parts:
            if is_dataclass(part):
                found |= secret_keys(part)
    return found


def _parts(hint: Any) -> set[Any]:
    arguments = get_args(hint)
    return {hint}.union(*map(_parts, arguments)) if arguments else {hint} if isinstance(hint, type) else set()


def test_every_secret_that_a_configuration_can_hold_was_one_of_ours(
    everything: Everything, tmp_path: Path
) -> None:
    config = everything.config(tls={}) | {"token_store": {
        "type": "redis", "url": f"redis://:{quote(everything.canaries.made('redis'), safe='')}@localhost",
        "key": everything.canaries.made("token_store.key"),
    }}  # fmt: skip
    del config["tls"]
    loaded = load(write_config(tmp_path, config), environ={"REFERRED": everything.key})
    seen: dict[str, str] = {}
    for part in (loaded, *(route.grant for route in loaded.routes)):
        for leaf in leaves(part):
            value = leaf.value.get_secret_value() if isinstance(leaf.value, SecretStr) else leaf.value
            if leaf.is_secret and isinstance(value, str) and everything.canaries.found_in(value.encode()):
                assert leaf.declared is not None
                seen[leaf.declared.name] = value
    wanted = set().union(*map(secret_keys, (FileKeys, RouteKeys, *GRANTS.values())))
    # No secret by themselves; of one use; for a browser's address line.
    assert wanted - {"claims", "code", "authorization_params"} - seen.keys() == set()


@pytest.mark.parametrize(
    "spelled",
    [
        lambda secret: secret,
        lambda secret: quote(secret, safe=""),
        json.dumps,
        lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(f"myself:{secret}".encode()).decode(),
        lambda secret: secret.encode().hex(),
        lambda secret: f"{secret[:12]}…",
        lambda secret: f"…{secret[-12:]}",
    ],
)  # fmt: skip
def test_a_secret_would_be_found_in_every_spelling(spelled: Callable[[str], str]) -> None:
    made = Canaries()
    with pytest.raises(AssertionError, match="the place has the name"):
        made.look("the place", f"it is {spelled(made.made('the name'))}!")
    made.look("another place", "it is nothing of the kind")
    assert made.places == 2
