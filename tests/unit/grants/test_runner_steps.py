"""The steps that need no program and no file: discovery, time, codes used up, certificates, people."""

import asyncio
import ssl

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from authproxy.errors import BadTokenReply, CredentialRejected, LoginRequired, TokenUnavailable
from authproxy.grants.runner import FlowRunner
from authproxy.grants.steps import Ask, Callback, ClientCertificate, Discover, Now, Read, Show, UseUp, Wait
from authproxy.tokens.token import Token

NOW = 1_700_000_000.0


@pytest.fixture
def slept():
    return []


@pytest.fixture
async def runner(clock, slept, monkeypatch):
    async def sleep(seconds):
        slept.append(seconds)

    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    clock.now = NOW
    async with FlowRunner(clock=clock, sleep=sleep) as runner:
        yield runner


async def take(runner, *steps, ui=None):
    """Take `steps`; return their answers, an error for a step that failed."""
    answers = []

    def talk():
        for step in steps:
            try:
                answers.append((yield step))
            except (BadTokenReply, CredentialRejected, LoginRequired, TokenUnavailable) as error:
                answers.append(error)
        return Token("x")

    await runner.run(talk(), ui)
    return answers


async def test_a_flow_may_go_on_after_a_failed_step(runner):
    failed, now = await take(runner, Read("/nonexistent"), Now())
    assert isinstance(failed, TokenUnavailable)
    assert now == NOW


async def test_waiting_is_sleeping(runner, slept):
    await take(runner, Wait(5), Wait(7))
    assert slept == [5, 7]


async def test_a_one_time_code_is_used_once_at_each_place(runner):
    first, elsewhere, again, other = await take(
        runner,
        UseUp("123456", "https://a.example/"),
        UseUp("123456", "https://b.example/"),
        UseUp("123456", "https://a.example/"),
        UseUp("654321", "https://a.example/"),
    )
    assert (first, elsewhere, other) == (None, None, None)
    assert isinstance(again, CredentialRejected)
    assert "new code" in again.hint
    assert "123456" not in repr(again) + repr(UseUp("123456", "https://a.example/"))


# ── discovery ────────────────────────────────────────────────────────────────────────────────────


class Issuer:
    """A server that describes itself, and counts how often it is asked to."""

    def __init__(self):
        self.asked = []
        self.named = None
        self.url = ""

    async def answer(self, request):
        self.asked.append(request.path)
        if request.path == "/.well-known/openid-configuration":
            raise web.HTTPNotFound
        return web.json_response({"issuer": self.named or self.url, "token_endpoint": f"{self.url}/token"})


@pytest.fixture
async def issuer():
    found = Issuer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", found.answer)
    server = TestServer(application)
    await server.start_server()
    found.url = str(server.make_url("/")).rstrip("/")
    yield found
    await server.close()


async def test_what_an_issuer_publishes_is_remembered_for_an_hour(runner, clock, issuer):
    both = await take(runner, Discover(issuer.url), Discover(issuer.url))
    assert [server.token_url for server in both] == [f"{issuer.url}/token"] * 2
    assert issuer.asked == [
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ]
    clock.advance(3601)
    await take(runner, Discover(issuer.url))
    assert len(issuer.asked) == 4


async def test_a_failed_discovery_is_not_remembered(runner, issuer):
    issuer.named = "https://evil.example"
    (failed,) = await take(runner, Discover(issuer.url))
    assert isinstance(failed, BadTokenReply)
    issuer.named = None
    (server,) = await take(runner, Discover(issuer.url))
    assert server.issuer == issuer.url


# ── certificates ─────────────────────────────────────────────────────────────────────────────────


async def test_a_client_certificate_is_shown(runner, tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    mine = authority.issue_cert("proxy.example")
    mine.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL

    async def who(request):
        certificate = request.transport.get_extra_info("peercert")
        return web.Response(text=str(certificate and certificate["subjectAltName"]))

    application = web.Application()
    application.router.add_post("/token", who)
    server = TestServer(application)
    await server.start_server(ssl=context)
    url = str(server.make_url("/token"))
    shown = ClientCertificate(str(tmp_path / "client.pem"))
    (reply,) = await take(runner, Ask("POST", url, client_certificate=shown))
    await server.close()
    assert b"proxy.example" in reply.body


@pytest.mark.parametrize("content", [None, "PEM"])
async def test_a_certificate_that_cannot_be_used(runner, tmp_path, content):
    path = tmp_path / "client.pem"
    if content is not None:
        path.write_text(content)
    (failed,) = await take(
        runner, Ask("POST", "https://127.0.0.1:1/", client_certificate=ClientCertificate(str(path)))
    )
    assert isinstance(failed, TokenUnavailable)
    assert "cannot be used" in failed.detail


# ── people ───────────────────────────────────────────────────────────────────────────────────────


class User:
    """Somebody who logs in as soon as they are shown where."""

    def __init__(self):
        self.shown = []

    async def show(self, show):
        self.shown.append(show.url)

    async def callback(self, state):
        await asyncio.sleep(0)
        return {"state": state, "code": "c0de"}


async def test_a_login_has_its_conversation_with_a_person_too(runner):
    user = User()
    answers = await take(runner, Show("https://id.example/"), Callback("s"), ui=user)
    assert answers == [None, {"state": "s", "code": "c0de"}]
    assert user.shown == ["https://id.example/"]


@pytest.mark.parametrize("step", [Show("https://id.example/"), Callback("s")])
async def test_without_a_person_there_is_no_login(runner, step):
    (failed,) = await take(runner, step)
    assert isinstance(failed, LoginRequired)
