"""`authproxy login`: its user at the terminal, and the browser's way back. Nobody listens."""

import asyncio

import click
import pytest
from aiohttp.test_utils import make_mocked_request

from authproxy.app.sockets import ListenError
from authproxy.cli import login as module
from authproxy.cli.login import LoopbackReceiver, Terminal
from authproxy.cli.terminal import Progress
from authproxy.errors import LoginRequired
from authproxy.grants.steps import Show

DEVICE = Show("https://id.example/device", "WDJB-MJHT", "https://id.example/device?code=1")
URL = "https://id.example/authorize?state=s"


# ── what is refused at once ──────────────────────────────────────────────────────────────────────


def test_a_route_that_needs_nobody_says_so(write, run):
    assert run("login", "fixed", "-c", write()).stdout == (
        "route fixed needs no login: its grant gets tokens by itself\n"
    )


@pytest.mark.parametrize(
    ("route", "flags", "says"),
    [
        ("person", ["--no-browser", "--device"], "--no-browser and --device cannot be used together"),
        ("nowhere", [], "there is no route 'nowhere'"),
    ],
)
def test_bad_usage_is_told(write, run, route, flags, says):
    assert says in run("login", route, *flags, "-c", write(), exits=2).stderr


ROUTE = """
routes:
  - name: a
    upstream: https://a.example
    auth: {{grant: authorization_code, client_id: me, authorization_url: 'https://id.example/a',
            token_url: 'https://id.example/t'}}
"""


def test_a_login_by_code_needs_an_endpoint_for_it(write, run):
    said = run("login", "a", "--device", "-c", write(ROUTE), exits=2).stderr
    assert "has no device_authorization_url, nor an issuer" in " ".join(said.split())


def test_a_login_that_would_be_lost_at_once_is_not_begun(write, run):
    config = write("token_store: {{type: memory}}\n" + ROUTE)
    assert "the token would be lost at once" in run("login", "a", "-c", config, exits=1).stderr


# ── the terminal ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def typed(monkeypatch):
    """Return a setter of the lines that a person types; they end then."""

    def typed(*lines):
        def read(put):
            for line in [*lines, ""]:
                put(line)

        monkeypatch.setattr(module, "_read_lines", read)

    return typed


async def test_a_browser_is_opened_and_its_url_shown_all_the_same(monkeypatch, capsys):
    opened = asyncio.get_running_loop().create_future()
    here = asyncio.get_running_loop()
    monkeypatch.setattr(
        module.webbrowser, "open", lambda url: here.call_soon_threadsafe(opened.set_result, url)
    )
    await Terminal(no_browser=False, progress=Progress("")).show(Show(URL))
    assert await opened == URL
    assert URL in capsys.readouterr().err


@pytest.mark.parametrize(("show", "said"), [(Show(URL), [URL]), (DEVICE, ["WDJB-MJHT", DEVICE.complete_url])])
async def test_without_a_browser_nothing_is_opened(monkeypatch, capsys, show, said):
    monkeypatch.setattr(module.webbrowser, "open", lambda _url: pytest.fail("a browser was opened"))
    await Terminal(no_browser=True, progress=Progress("")).show(show)
    output = capsys.readouterr()
    assert all(each in output.err for each in said)
    assert output.out == ""


async def test_the_url_that_is_pasted_is_the_answer(typed):
    typed("https://127.0.0.1/callback?code=c&state=s\n")
    assert await Terminal(no_browser=True, progress=Progress("")).callback("s") == {"code": "c", "state": "s"}


async def test_anything_else_is_asked_for_again(typed, capsys):
    typed(
        "what?\n", "http://a/?code=c&state=another\n", "http://a/?code=c&code=d&state=s\n", "code=c&state=s\n"
    )
    assert (await Terminal(no_browser=True, progress=Progress("")).callback("s"))["code"] == "c"
    said = capsys.readouterr().err
    assert said.count("Try again:") == 3
    assert said.count("belongs to another login") == 1


async def test_an_input_that_ends_ends_the_login(typed):
    typed("what?\n")
    with pytest.raises(LoginRequired, match="the input ended before the login was completed"):
        await Terminal(no_browser=True, progress=Progress("")).callback("s")


# ── the way back ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def terminal():
    terminal = Terminal(no_browser=False, progress=Progress(""))
    terminal.state = "s"
    return terminal


async def comes(terminal, target, method="GET"):
    """Return the page that a browser gets which comes to `target`."""
    return await LoopbackReceiver(terminal, None)._answer(make_mocked_request(method, target))


async def test_the_browser_that_comes_back_ends_the_wait_and_only_once(terminal):
    page = await comes(terminal, "/callback?state=s&code=c")
    assert (page.status, "Return to the terminal" in page.text) == (200, True)
    assert page.headers["Cache-Control"] == "no-store"
    assert await terminal.callback("s") == {"state": "s", "code": "c"}
    assert (await comes(terminal, "/callback?state=s&code=d")).status == 400


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/callback?state=forged&code=c", 400),
        ("GET", "/callback?code=c", 400),
        ("GET", "/callback?state=s&code=c&code=d", 400),
        ("POST", "/callback?state=s&code=c", 404),
        ("GET", "/elsewhere?state=s&code=c", 404),
    ],
)
async def test_nothing_else_ends_the_wait(terminal, method, target, status):
    page = await comes(terminal, target, method)
    assert page.status == status
    assert "forged" not in page.text
    assert not terminal.came_back.done()


async def test_before_the_login_has_a_state_nobody_can_come_back(terminal):
    terminal.state = None
    assert (await comes(terminal, "/callback?code=c")).status == 400


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/", "http://proxy.example:1/", "http://10.0.0.1:1/"])
async def test_a_redirect_uri_that_leads_elsewhere_is_refused(terminal, url):
    with pytest.raises(click.ClickException) as caught:
        await LoopbackReceiver(terminal, url).__aenter__()
    assert "does not point at this machine" in caught.value.message
    assert "--no-browser" in caught.value.message


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (None, "127.0.0.1:0"),
        ("http://localhost:7/back", "localhost:7"),
        ("http://[::1]:7/", "[::1]:7"),
        ("http://127.0.0.1", "127.0.0.1:80"),
    ],
)
async def test_the_browser_is_waited_for_where_the_redirect_uri_leads(terminal, monkeypatch, url, address):
    asked = []

    def sockets(address):
        asked.append(address)
        raise ListenError("in use")

    monkeypatch.setattr(module, "listening_sockets", sockets)
    with pytest.raises(ListenError) as caught:
        await LoopbackReceiver(terminal, url).__aenter__()
    assert asked == [address]
    assert "--no-browser" in caught.value.hint
