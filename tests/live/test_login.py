"""`authproxy login` and `logout`, with a person who types, or a browser that comes back.

Whatever a login sees of secrets, none of them may stand in what is printed.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest

from tests.support.async_command import authproxy, running_proxy
from tests.support.authorization_server import (
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPES,
    Provider,
    challenge,
    provider,
    user,
)
from tests.support.launch import COMMAND

PATIENCE = 20.0  # seconds until what hangs has failed
BROWSER = """
import sys, urllib.request, urllib.error
def visit(url):
    try:
        with urllib.request.urlopen(url) as page:
            return page.status
    except urllib.error.HTTPError as error:
        return error.code
with open({trail!r}, "w") as trail:
    for url in {before}:
        print(visit(url), file=trail)
    print(visit(sys.argv[1]), file=trail)
"""


@pytest.fixture
async def server() -> AsyncIterator[Provider]:
    async with provider() as found:
        yield found


@pytest.fixture
async def ann():
    async with user() as found:
        yield found


@pytest.fixture
def store(tmp_path):
    return {"type": "file", "path": str(tmp_path / "tokens")}


def config(server, store, auth=None, **route):
    """Return a configuration with one route, `api`, behind a login."""
    made = {"name": "api", "upstream": f"{server.url}/api", "auth": auth or server.auth(), **route}
    return {"log": {"level": "debug"}, "routes": [made], **({"token_store": store} if store else {})}


class Verb:
    """A verb at work, with a person at its terminal."""

    def __init__(self, process) -> None:
        self._process = process
        self.log = ""

    async def says(self, *texts: str) -> str:
        """Return the first line on stderr, from here on, that holds one of `texts`."""
        while line := (await self._process.stderr.readline()).decode():
            self.log += line
            if any(text in line for text in texts):
                return line.strip()
        raise AssertionError(f"never said {texts}:\n{self.log}")

    def type(self, line: str) -> None:
        self._process.stdin.write(f"{line}\n".encode())

    async def interrupted(self) -> int:
        """Press Ctrl-C, once, and return the exit code."""
        self._process.send_signal(signal.SIGINT)
        return await self._process.wait()

    async def end(self) -> tuple[int, str]:
        """Return the exit code and what it wrote to stdout."""
        self._process.stdin.close()
        result, log = await self._process.communicate()
        self.log += log.decode()
        return self._process.returncode, result.decode()


@asynccontextmanager
async def verb(directory: Path, settings: dict, *args: str, env=None, secrets=()) -> AsyncIterator[Verb]:
    """Run `authproxy` with `args` and a configuration; no secret may stand in what it prints."""
    file = directory / "authproxy.yaml"
    file.write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *args,
        "-c",
        str(file),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"BROWSER": "false"} | (env or {}),
    )
    running = Verb(process)
    try:
        async with asyncio.timeout(PATIENCE):
            yield running
            code, result = await running.end()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert "Traceback" not in running.log
    assert code >= 0
    for secret in secrets:
        assert secret not in result + running.log


def browser(directory: Path, before: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the environment in which a browser opens `before`, and then what it is told to."""
    script, trail = directory / "browser.py", directory / "trail"
    script.write_text(BROWSER.format(trail=str(trail), before=before))
    return {"BROWSER": f"{sys.executable} {script} %s"}


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def with_query(url: str, **changes: str | None) -> str:
    """Return `url` with other values in its query; None takes a parameter away."""
    query = {name: value for name, value in (query_of(url) | changes).items() if value is not None}
    return urlunsplit(urlsplit(url)._replace(query=urlencode(query)))


def nothing_secret(server, *outputs: str) -> bool:
    return not any(secret in text for text in outputs for secret in [CLIENT_SECRET, *server.handed_out])


# ── a browser on another machine: `--no-browser` ─────────────────────────────────────────────────


async def test_a_login_without_a_browser_prints_the_url_and_reads_back_where_it_led(
    server, ann, store, tmp_path
):
    auth = server.auth(authorization_params={"prompt": "consent"}, audience="the api")
    settings = config(server, store, auth)
    async with verb(tmp_path, settings, "login", "api", "--no-browser") as login:
        back = await ann.log_in(await login.says("/authorize?"))
        await login.says("paste")
        login.type(back)
        assert await login.end() == (0, "logged in to api\n")
        assert nothing_secret(server, login.log)
    (asked,), (redeemed,) = server.asked, server.redeemed
    assert asked.pop("code_challenge") == challenge(redeemed["code_verifier"])
    assert len(redeemed["code_verifier"]) >= 43  # RFC 7636 §4.1
    assert len(asked.pop("state")) >= 32
    assert asked == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": "http://127.0.0.1/callback",
        "code_challenge_method": "S256",
        "scope": SCOPES,
        "audience": "the api",
        "prompt": "consent",
    }
    assert redeemed["redirect_uri"] == asked["redirect_uri"]


async def test_what_was_pasted_wrongly_is_asked_for_again_and_goes_nowhere(server, ann, store, tmp_path):
    async with verb(tmp_path, config(server, store), "login", "api", "--no-browser") as login:
        back = await ann.log_in(await login.says("/authorize?"))
        for wrong in (
            "what?",
            "",
            "http://127.0.0.1/callback",
            with_query(back, state=None),
            back + "&code=another",
            with_query(back, state="somebody-elses"),
        ):
            login.type(wrong)
            await login.says("Try again")
        assert server.redeemed == []
        login.type(f"  {back}  ")
        assert (await login.end())[0] == 0
        assert nothing_secret(server, login.log)


async def test_the_answer_of_another_issuer_ends_the_login_and_redeems_nothing(server, ann, store, tmp_path):
    settings = config(server, store, server.discovered())
    async with verb(tmp_path, settings, "login", "api", "--no-browser") as login:
        login.type(with_query(await ann.log_in(await login.says("/authorize?")), iss="https://evil.example"))
        assert await login.end() == (1, "")
        assert "iss" in login.log
        assert server.url in login.log
        assert nothing_secret(server, login.log)
    assert server.redeemed == []


async def test_a_code_that_was_redeemed_before_is_refused_by_the_server_and_that_is_said(
    server, ann, store, tmp_path
):
    async with verb(tmp_path, config(server, store), "login", "api", "--no-browser") as login:
        back = await ann.log_in(await login.says("/authorize?"))
        server.forget_codes()
        login.type(back)
        assert (await login.end())[0] == 1
        assert "invalid_grant" in login.log
        assert nothing_secret(server, login.log)
    assert not Path(store["path"]).exists() or query_of(back)["code"] not in _bytes(store["path"])


async def test_ctrl_c_or_the_end_of_the_input_ends_a_login_that_waits(server, store, tmp_path):
    async def interrupted(*options: str) -> int:
        async with verb(tmp_path, config(server, store), "login", "api", *options) as login:
            await login.says("paste", "If no browser opens")
            return await login.interrupted()

    async def without_input() -> int:
        async with verb(tmp_path, config(server, store), "login", "api", "--no-browser") as login:
            await login.says("paste")
            return (await login.end())[0]

    ways = interrupted("--no-browser"), interrupted(), without_input()
    assert await asyncio.gather(*ways) == [130, 130, 1]


# ── a browser on this machine ────────────────────────────────────────────────────────────────────


async def test_a_login_opens_the_browser_and_waits_for_it_on_loopback(server, ann, store, tmp_path):
    settings = config(server, store, server.discovered())
    async with verb(tmp_path, settings, "login", "api", env=browser(tmp_path)) as login:
        assert await login.end() == (0, "logged in to api\n")
        assert nothing_secret(server, login.log)
    assert (tmp_path / "trail").read_text().split() == ["200"]
    redirect_uri = urlsplit(server.asked[0]["redirect_uri"])
    assert (redirect_uri.scheme, redirect_uri.hostname, redirect_uri.path) == (
        "http",
        "127.0.0.1",
        "/callback",
    )
    assert redirect_uri.port, "a free port of its own (RFC 8252 §7.3)"
    async with running_proxy(settings) as proxy:
        assert (await ann.open(f"{proxy.url}/events")).status == 200


async def test_a_redirect_uri_of_the_configuration_is_where_the_browser_is_awaited(server, store, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        auth = server.auth(redirect_uri=f"http://127.0.0.1:{free.getsockname()[1]}/back/here")
    async with verb(tmp_path, config(server, store, auth), "login", "api", env=browser(tmp_path)) as login:
        assert (await login.end())[0] == 0
    assert server.asked[0]["redirect_uri"] == server.redeemed[0]["redirect_uri"] == auth["redirect_uri"]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_browser_that_comes_back_to_localhost_is_awaited_in_both_families(
    server, ann, store, tmp_path, host
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = config(server, store, server.auth(redirect_uri=f"http://localhost:{port}/back"))
    async with verb(tmp_path, settings, "login", "api") as login:
        back = await ann.log_in(await login.says("/authorize?"))
        assert back.startswith(f"http://localhost:{port}/back?")
        assert (await ann.open(back.replace("localhost", host))).status == 200
        assert await login.end() == (0, "logged in to api\n")


async def test_only_the_browser_that_was_sent_can_come_back_and_only_once(server, ann, store, tmp_path):
    async with verb(tmp_path, config(server, store), "login", "api") as login:
        back = await ann.log_in(await login.says("/authorize?"))
        for forged, status in (
            (with_query(back, state="forged"), 400),
            (with_query(back, state=None), 400),
            (f"{back}&code=another", 400),
            (f"{back}&state=another", 400),
            (back.replace("/callback", "/elsewhere"), 404),
        ):
            page = await ann.open(forged)
            assert page.status == status, forged
            assert nothing_secret(server, page.text)
        assert server.redeemed == []
        assert (await ann.open(back)).status == 200
        assert (await login.end())[0] == 0
    assert len(server.redeemed) == 1
    async with verb(tmp_path, config(server, store), "login", "api") as login:
        other = await ann.log_in(await login.says("/authorize?"))
        replayed = urlunsplit(urlsplit(other)._replace(query=urlsplit(back).query))
        assert (await ann.open(replayed)).status == 400
        assert len(server.redeemed) == 1
        assert (await ann.open(other)).status == 200
        assert (await login.end())[0] == 0


# ── a device code ────────────────────────────────────────────────────────────────────────────────


async def test_a_login_by_device_code_polls_until_the_code_is_entered(server, ann, store, tmp_path):
    settings = config(server, store, server.discovered())
    server.device_answers = ["authorization_pending"] * 3
    async with verb(tmp_path, settings, "login", "api", "--device") as login:
        assert (
            await login.says("code") == f"Open {server.url}/enter on any device and enter the code WDJB-MJHT"
        )
        assert await login.says("or open") == f"or open {server.url}/enter?user_code=WDJB-MJHT"
        assert await login.end() == (0, "logged in to api\n")
        assert nothing_secret(server, login.log)
    assert len(server.redeemed) == 4


# ── where the token goes ─────────────────────────────────────────────────────────────────────────


async def test_a_running_proxy_picks_up_a_login_and_keeps_it_over_a_restart(server, ann, store, tmp_path):
    settings = config(server, store)
    async with running_proxy(settings) as proxy:
        admin = proxy.admin_url
        for _ in range(3):
            refused = await ann.open(f"{proxy.url}/events")
            assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        problem = json.loads(refused.text)
        assert f"{admin}/login/api" in problem["hint"]
        assert f"authproxy login api -c {proxy.config_file}" in problem["hint"]
        readiness = json.loads((await ann.open(f"{admin}/readyz")).text)
        assert readiness["routes"]["api"]["state"] == "login_required"
        async with verb(tmp_path, settings, "login", "api", "--no-browser") as login:
            login.type(await ann.log_in(await login.says("/authorize?")))
            assert (await login.end())[0] == 0
        assert (await ann.open(f"{proxy.url}/events")).status == 200
        assert (await ann.open(f"{admin}/readyz")).status == 200
        assert len(server.redeemed) == 1, "the stored token is the one that is used"
        server.revoke()
        assert (await ann.open(f"{proxy.url}/events")).status == 200, "by the refresh token"
        assert await proxy.stop() == 0
        assert nothing_secret(server, proxy.log())
    async with running_proxy(settings) as proxy:
        assert (await ann.open(f"{proxy.url}/events")).status == 200
        server.revoke()
        assert (await ann.open(f"{proxy.url}/events")).status == 200
    grants = [each["grant_type"] for each in server.redeemed]
    assert grants == ["authorization_code", "refresh_token", "refresh_token"]
    for secret in [CLIENT_SECRET, *server.handed_out]:
        assert secret not in _bytes(store["path"]), "what is stored is sealed"


async def test_a_login_without_a_refresh_token_warns_and_logout_forgets_it(server, ann, store, tmp_path):
    server.gives_refresh_tokens = False
    settings = config(server, store)
    async with verb(tmp_path, settings, "login", "api", "--no-browser") as login:
        login.type(await ann.log_in(await login.says("/authorize?")))
        assert await login.end() == (0, "logged in to api\n")
        assert "offline_access" in login.log
    for said in ("forgot the tokens of api\n", "no tokens are stored for api: there is nothing to forget\n"):
        ended = await authproxy("logout", "api", config=settings)
        assert (ended.returncode, ended.stdout) == (0, said)
    async with running_proxy(settings) as proxy:
        assert (await ann.open(f"{proxy.url}/events")).status == 503


async def test_a_store_that_cannot_be_used_fails_before_anybody_logs_in(server, store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Path(store["path"]).symlink_to(tmp_path / "elsewhere")
    settings = config(server, store)
    for ended in await asyncio.gather(*[authproxy(v, "api", config=settings) for v in ("login", "logout")]):
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "symbolic link" in ended.stderr
        assert "/authorize" not in ended.stderr


# ── nobody can log in ────────────────────────────────────────────────────────────────────────────


async def test_a_login_that_cannot_be_is_bad_usage_and_told_what_would_help(server):
    cases = [
        (["login", "api"], config(server, {"type": "memory"}), "token_store"),
        (["login", "api", "--device", "--no-browser"], config(server, None), "cannot be used together"),
        (["login", "api", "--device"], config(server, None), "device_authorization_url"),
    ]
    ended = await asyncio.gather(*[authproxy(*args, config=settings) for args, settings, _ in cases])
    for (_, _, says), each in zip(cases, ended, strict=True):
        assert (each.returncode, each.stdout) == (2, "")
        assert says in each.stderr
        assert "t0ken" not in each.stderr
        assert ("Usage:" in each.stderr) == (says != "token_store"), "the configuration is at fault there"
    assert server.asked == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["login", "api"], "route api needs no login: its grant gets tokens by itself\n"),
        (["logout", "api"], "no tokens are stored for api: there is nothing to forget\n"),
    ],
)
async def test_where_there_is_nothing_to_do_it_is_said_and_done(server, args, says):
    ended = await authproxy(*args, config=config(server, None, {"grant": "static", "token": "t0ken"}))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, says, "")


async def test_a_redirect_uri_where_the_browser_cannot_be_awaited_is_refused_with_the_other_ways(
    server, store
):
    remote, taken = await asyncio.gather(
        *[
            authproxy("login", "api", config=config(server, store, server.auth(redirect_uri=uri)))
            for uri in ("https://app.example.com/back", f"{server.url}/callback")
        ]
    )
    assert (remote.returncode, taken.returncode) == (2, 1)
    assert "Usage:" not in remote.stderr
    assert "--no-browser" in remote.stderr
    assert "--no-browser" in taken.stderr


def _bytes(path: str) -> str:
    found = Path(path)
    files = [found] if found.is_file() else [each for each in found.rglob("*") if each.is_file()]
    return "".join(each.read_bytes().decode("latin-1") for each in files)
