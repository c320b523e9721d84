"""The live page in a real browser: what a person sees there, and what they can do.

In every test: no error in the console, nothing against the page's own policy, and none of the secrets in the
page or in what was answered. (A page cannot keep the browser from saying that an answer was no 2xx.)
"""

import asyncio
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from tests.servers.oidc.conftest import AWKWARD
from tests.support.admin_api import SECRET, Here, admin_api
from tests.support.command import running_proxy
from tests.support.installed import need
from tests.support.launch import ANY_PORT
from tests.support.ports import free_port
from tests.support.wire import API, UNAUTHORIZED, Issued, Upstream, ask, connect, reply, request

from .conftest import PATIENCE
from .test_logins import at_oidc, log_in_at_oidc

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = "an-access-key-of-the-caller"
INEVITABLE = "Failed to load resource: "  # so a browser tells of any answer but a 2xx
MAX_ROWS = 100
FIELDS = "[...document.querySelectorAll('input')].map(each => each.value).join()"


@dataclass
class Watched:
    """What a page did that nobody may see in it."""

    page: Any
    faults: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    reading: set = field(default_factory=set)

    def start(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.page.on("response", self._response)

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(INEVITABLE):
            self.faults.append(message.text)

    def _response(self, response: Any) -> None:
        if "/stream" not in response.url:
            task = asyncio.ensure_future(self._read(response))
            self.reading.add(task)
            task.add_done_callback(self.reading.discard)

    async def _read(self, response: Any) -> None:
        try:
            self.answers.append(f"{response.headers}{await response.text()}")
        except Exception:  # noqa: BLE001 - the page has left before it was all there
            self.answers.append(str(response.headers))

    async def check(self, *secrets: str) -> None:
        if self.reading:
            await asyncio.wait(self.reading, timeout=PATIENCE / 1000)
        assert self.faults == []
        told = "".join(self.answers) + await self.page.content() + "".join(self.urls)
        told += await self.page.evaluate(FIELDS)
        assert [each for each in secrets if each in told] == []


@pytest_asyncio.fixture(loop_scope="session")
async def watched(page) -> AsyncIterator[Watched]:
    made = Watched(page)
    made.start()
    yield made
    await made.check(SECRET, KEY)


@pytest_asyncio.fixture(loop_scope="session")
async def here(watched) -> AsyncIterator[Here]:
    with admin_api() as made:
        await watched.page.goto(made.proxy.admin_url)
        await is_live(watched.page)
        yield made
        await watched.check(*made.tokens.issued.every)


async def run(command: str) -> str:
    """Have a shell run a command; return what it prints."""
    sh = await asyncio.create_subprocess_exec("sh", "-c", command, stdout=subprocess.PIPE)
    output, _ = await sh.communicate()
    assert sh.returncode == 0
    return output.decode()


async def is_live(page):
    await page.locator("[data-is=live]").wait_for()


def card(page, name):
    return page.get_by_role("article", name=name, exact=True)


def row(page, text):
    return page.get_by_role("button", name=text)


async def state_is(page, name, word):
    await card(page, name).locator(".state", has_text=word).wait_for()


async def count_is(locator, count):
    for _ in range(PATIENCE // 50):
        if await locator.count() == count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{await locator.count()} instead of {count}")


async def dialog_of(page, text):
    await row(page, text).first.click()
    dialog = page.get_by_role("dialog")
    await dialog.wait_for()
    return dialog


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


async def test_a_request_appears_by_itself_and_within_a_second(here, watched):
    page = watched.page
    await page.evaluate(
        """() => new MutationObserver(() => { window.seenAt ??= Date.now(); })
            .observe(document.getElementById("rows"), {childList: true})"""
    )
    here.call("/other/some/where?page=2")
    ended = time.time() * 1000
    await row(page, "GET /other/some/where?page=••••").wait_for()
    assert await page.evaluate("window.seenAt") - ended < 1000
    assert "200" in await page.get_by_role("row", name="/other/some/where").inner_text()


async def test_without_requests_the_page_says_how_to_make_one_and_that_works(here, watched):
    page = watched.page
    await page.get_by_text("No requests yet. Try:").wait_for()
    command = await page.locator("#empty-curl").inner_text()
    assert here.proxy.url in command
    await run(command)
    assert here.api.last.target == "/"
    await page.get_by_role("cell", name="fetched a token").wait_for()
    assert not await page.get_by_text("No requests yet").is_visible()


async def test_each_route_has_a_card_with_its_state_in_words_and_what_it_did(here, watched):
    page = watched.page
    await state_is(page, "api", "Idle")
    await state_is(page, "other", "No token needed")
    here.call("/x")
    await state_is(page, "api", "Valid")
    here.tokens.revoke()
    here.call("/x")
    await card(page, "api").get_by_text("2 · 1 repeated").wait_for()
    assert "Bearer, client_credentials" in await card(page, "api").inner_text()
    assert await card(page, "other").get_by_role("button").count() == 0


async def test_wherever_a_token_goes_its_places_are_named(watched):
    places = [{"basic": {"username": "oauth2"}}, {"query": "api_key"}, {"cookie": "SID"}, {"header": "X-K"}]
    with admin_api(auth={"grant": "static", "token": SECRET, "inject": places}) as here:
        here.call("/x")
        await watched.page.goto(here.proxy.admin_url)
        await row(watched.page, "GET /x").click()
        assert "Basic, ?api_key, cookie SID, X-K, static" in await card(watched.page, "api").inner_text()
        await watched.page.get_by_text("added Basic, ?api_key, cookie SID, X-K").first.wait_for()


def seconds(countdown: str) -> int:
    return sum(int(each) * 60**place for place, each in enumerate(reversed(countdown.split(":"))))


async def test_the_countdown_runs_down(here, watched):
    here.call("/x")
    left = card(watched.page, "api").locator(".countdown")
    await left.wait_for()
    first = await left.inner_text()
    assert re.fullmatch(r"\d+:\d\d(:\d\d)?", first)
    for _ in range(PATIENCE // 50):
        if (later := await left.inner_text()) != first:
            break
        await asyncio.sleep(0.05)
    assert 0 < seconds(later) < seconds(first)


async def test_a_route_in_trouble_says_what_is_wrong_and_what_to_do(here, watched):
    page = watched.page
    here.tokens.answer = lambda _message, _wire: reply(
        401, "Content-Type: application/json", body=b'{"error": "invalid_client"}'
    )
    here.call("/x")
    await state_is(page, "api", "Rejected")
    text = await card(page, "api").inner_text()
    assert "invalid_client" in text
    assert "client_id and client_secret" in text
    assert re.search(r"Next try in \d+ s", text)
    assert "in trouble" in await page.title()
    dialog = await dialog_of(page, "GET /x")
    assert "client_id and client_secret" in await dialog.get_by_label("Why").inner_text()


async def test_the_charts_count_and_say_so_in_words(here, watched):
    page = watched.page
    for _ in range(7):
        here.call("/x")
    here.other.answer = lambda _message, _wire: reply(500)
    here.call("/other/fails")
    here.tokens.revoke()
    here.call("/x")
    await page.get_by_text(re.compile("^9 requests, at most")).wait_for(state="attached")
    await page.get_by_text("1 answer of 500 and above.").wait_for(state="attached")
    await page.get_by_text("1 request repeated with another token.").wait_for(state="attached")
    await page.get_by_text("The charts as a table").click()
    table = page.get_by_role("region", name="The charts as a table")
    await table.get_by_role("row").nth(5).wait_for()
    cells = await table.locator("td").all_inner_texts()
    assert sum(int(each) for each in cells[0::5]) == 9
    await page.reload()
    await page.get_by_text(re.compile("^9 requests, at most")).wait_for(state="attached")


async def test_what_others_say_is_text_and_never_run(here, watched):
    page = watched.page
    evil = "<img/src=x/onerror=document.title='run'>"
    here.other.answer = lambda _message, _wire: reply(404, f"X-Evil: {evil}", body=evil.encode())
    here.call(f"/other/{evil}", f"X-Sent: {evil}")
    dialog = await dialog_of(page, evil)
    assert (await dialog.inner_text()).count(evil) >= 3
    assert await page.locator("img").count() == 0
    assert await page.title() != "run"


# ── one request ──────────────────────────────────────────────────────────────────────────────────


async def test_one_request_is_told_as_steps(here, watched):
    here.call("/x")
    here.tokens.revoke()
    here.call("/repeated", "Authorization-Not: x", "Cookie: a=s3cr3t-cookie")
    dialog = await dialog_of(watched.page, "GET /repeated")
    said = " · ".join(await dialog.get_by_label("What was done").get_by_role("listitem").all_inner_texts())
    took = r"[\d.]+ m?s"
    assert re.fullmatch(rf"matched api · added Bearer · 401 · renewed in {took} · repeated · 200", said)
    steps = await dialog.locator(".steps .name").all_inner_texts()
    assert steps[:4] == ["Added Bearer", "Upstream answered 401", "Token: renewed", "Upstream answered 200"]
    text = await dialog.inner_text()
    assert "••••" in text
    assert "s3cr3t-cookie" not in text


async def test_the_age_of_a_token_that_was_held_is_told(here, watched):
    here.call("/first")
    here.call("/second")
    dialog = await dialog_of(watched.page, "GET /first")
    said = await dialog.get_by_label("What was done").inner_text()
    assert re.search(r"fetched a token in [\d.]+ m?s", said)
    await watched.page.keyboard.press("Escape")
    dialog = await dialog_of(watched.page, "GET /second")
    said = await dialog.get_by_label("What was done").inner_text()
    assert re.search(r"added Bearer, fetched \d+ s ago", said)


@pytest.mark.parametrize(
    ("target", "lines", "why"),
    [
        ("/nowhere-at-all", ["Host: no.such.host"], "add it to allowed_hosts"),
        (
            "/x",
            ["Origin: https://evil.example"],
            "add its origin, as in https://app.example, to allowed_origins",
        ),
        ("/x", [], "The upstream answered 401"),
        ("/other/missing", [], "The upstream has nothing at that URL"),
        ("/other/moved", [], "makes? it the route|make it the route"),
    ],
    ids=["host", "origin", "401", "404", "redirect"],
)
async def test_every_refusal_says_why_and_what_to_do(here, watched, target, lines, why):
    here.api.says(UNAUTHORIZED)
    moved = reply(302, "Location: https://elsewhere.example/there?a=1")
    here.other.says(moved if target.endswith("moved") else reply(404))
    if lines and lines[0].startswith("Host"):
        ask(here.proxy.url, f"GET {target} HTTP/1.1\r\n{lines[0]}\r\n\r\n".encode())
    else:
        here.call(target, *lines)
    dialog = await dialog_of(watched.page, f"GET {target}")
    assert re.search(why, await dialog.get_by_label("Why").inner_text())


async def test_a_request_is_sent_again_and_the_new_one_shown(here, watched):
    page = watched.page
    here.call("/again?a=1")
    dialog = await dialog_of(page, "GET /again")
    here.other.reset()
    await dialog.get_by_role("button", name="Replay").click()
    await dialog.get_by_text("Sent again: this is the new request.").wait_for()
    assert [each.target for each in here.api.requests].count("/again?a=1") == 2
    await page.keyboard.press("Escape")
    await count_is(row(page, "GET /again"), 2)


async def test_why_a_request_cannot_be_sent_again_is_told(here, watched):
    here.call("/other/secret", "Cookie: a=b")
    dialog = await dialog_of(watched.page, "GET /other/secret")
    await dialog.get_by_role("button", name="Replay").click()
    await dialog.get_by_role("status").get_by_text(re.compile("secret|cookie|kept", re.IGNORECASE)).wait_for()


NASTY = 'it\'s "$HOME" `id` \\ !x {a,b} [1-3] * ~ & ; | <b> é'


async def test_copy_as_curl_makes_the_same_request(here, watched):
    page = watched.page
    need("curl", "sh")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    body = f"{NASTY}\n@file\nend".encode()
    path = "/kept/a'b/$x/{1,2}/[3-4]/../up/!y"
    here.call(path, f"X-Nasty: {NASTY.encode().decode('latin-1')}", "X-Empty:", "Accept-Encoding: gzip",
              method="POST", body=body)  # fmt: skip
    first = here.other.last
    dialog = await dialog_of(page, "POST /kept/")
    await dialog.get_by_role("button", name="Copy as curl").click()
    await dialog.get_by_text(re.compile("^Copied")).wait_for()
    command = await page.evaluate("navigator.clipboard.readText()")
    assert here.proxy.url in command
    await run(command)
    second = here.other.wait_for(2)
    assert (second.method, second.target, second.body) == (first.method, first.target, first.body)
    for name in ("X-Nasty", "X-Empty", "Content-Type"):
        assert second.one(name) == first.one(name)


@pytest.mark.parametrize("key", ["\x03", "\x1b[201~", "\r", "\x00", "\x7f"])
async def test_a_body_with_what_a_terminal_takes_for_keys_is_not_in_the_command(here, watched, key):
    here.call("/kept/keys", method="POST", body=f"a{key}\ntouch x\n".encode())
    dialog = await dialog_of(watched.page, "POST /kept/keys")
    await dialog.get_by_text("The curl command").click()
    text = await dialog.get_by_label("The request as a curl command").text_content()
    assert "touch" not in text
    assert text.replace("\n", "").isprintable()
    assert "--data-binary @BODY" in text
    await dialog.get_by_text("control characters").wait_for()


@pytest.mark.parametrize(
    "word", ["", "plain", "a b", NASTY, "'", "''", "-x", "a\nb", "$(id)", "#", "~", "=x", "%d", "é"]
)
async def test_a_word_is_quoted_so_that_the_shell_takes_it_as_it_is(here, watched, word):
    script = "async word => (await import('/page/curl.js')).quoted(word)"
    quoted = await watched.page.evaluate(script, word)
    assert await run(f"printf '%s' {quoted}") == word
    assert shlex.split(quoted) == [word]


async def test_curl_of_a_request_with_secrets_has_none_of_them_and_says_so(here, watched):
    here.call("/other/x?key=s3cr3t-in-the-query", "Cookie: a=s3cr3t-cookie")
    dialog = await dialog_of(watched.page, "GET /other/x")
    await dialog.get_by_text("The curl command").click()
    text = await dialog.get_by_label("The request as a curl command").inner_text()
    assert "s3cr3t" not in text
    assert "REDACTED" in text
    await dialog.get_by_text("put the value there").wait_for()


# ── what a person does ───────────────────────────────────────────────────────────────────────────


async def test_a_token_is_renewed(here, watched):
    here.call("/x")
    await state_is(watched.page, "api", "Valid")
    before = len(here.tokens.issued.every)
    await card(watched.page, "api").get_by_role("button", name="Renew").click()
    await card(watched.page, "api").get_by_text("Renewed.").wait_for()
    assert len(here.tokens.issued.every) == before + 1


async def test_a_renewal_that_fails_says_why_and_what_to_do(here, watched):
    here.tokens.says(reply(401, "Content-Type: application/json", body=b'{"error": "invalid_client"}'))
    await card(watched.page, "api").get_by_role("button", name="Renew").click()
    answer = card(watched.page, "api").get_by_text("It could not be renewed")
    await answer.wait_for()
    assert "client_secret" in await answer.inner_text()
    await card(watched.page, "api").get_by_role("button", name="Renew").click()
    await card(watched.page, "api").get_by_text(re.compile("It could not be renewed.*(second| s)")).wait_for()


async def test_a_token_is_forgotten_but_only_if_one_is_sure(here, watched):
    page = watched.page
    here.call("/x")
    await state_is(page, "api", "Valid")
    forget = card(page, "api").get_by_role("button", name="Forget")
    for answer in ("Escape", "Cancel"):
        await forget.click()
        dialog = page.get_by_role("dialog", name="Forget the token of api?")
        await dialog.wait_for()
        if answer == "Escape":
            await page.keyboard.press("Escape")
        else:
            await dialog.get_by_role("button", name="Cancel").click()
        await dialog.wait_for(state="hidden")
    assert here.route()["state"] == "valid"
    await forget.click()
    await page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    await state_is(page, "api", "Idle")
    await card(page, "api").get_by_text("Forgotten.").wait_for()
    assert here.route()["state"] == "idle"


async def test_the_list_is_filtered_what_comes_later_too(here, watched):
    page = watched.page
    here.call("/other/one", method="POST")
    here.call("/two%20words")
    here.call("/x", "Origin: https://evil.example")
    rows = page.locator("tr[data-id]")
    await count_is(rows, 3)
    for label, choice, left in (
        ("Route", "other", "/other/one"), ("Status", "4xx", "/x"), ("Method", "POST", "/other/one"),
    ):  # fmt: skip
        await page.get_by_label(label, exact=True).select_option(choice)
        await count_is(rows, 1)
        assert left in await rows.inner_text()
        await page.get_by_role("button", name="Clear").click()
        await count_is(rows, 3)
    await page.get_by_label("Path contains").fill("two words")
    await count_is(rows, 1)
    here.call("/other/not/this")
    here.call("/two%20words/more")
    await count_is(rows, 2)
    await page.get_by_label("Path contains").fill("nothing like it")
    nothing = page.get_by_text("No remembered request fits these filters.")
    await nothing.wait_for()
    here.call("/other/another")
    async with page.expect_response("**/api/status"):
        pass
    assert await nothing.is_visible()


async def test_older_requests_are_a_page_of_their_own(here, watched):
    page = watched.page
    with connect(here.proxy.url) as wire:
        for number in range(MAX_ROWS + 30):
            assert wire.send(request("GET", f"/other/{number:03}")).answer().status == 200
    await row(page, "/other/129").wait_for()
    await page.reload()
    await page.get_by_role("button", name="Older").click()
    await count_is(page.locator("tr[data-id]"), 30)
    await row(page, "/other/000").wait_for()
    here.call("/other/live")
    await page.get_by_role("button", name="Back to the newest").click()
    await row(page, "/other/live").wait_for()
    await count_is(page.locator("tr[data-id]"), MAX_ROWS)


async def test_the_list_holds_still_while_it_is_paused(here, watched):
    page = watched.page
    here.call("/other/before")
    await row(page, "/other/before").wait_for()
    pause = page.get_by_role("button", name="Pause")
    await pause.click()
    here.call("/other/meanwhile")
    await page.get_by_text("Paused: 1 new").wait_for()
    assert await row(page, "/other/meanwhile").count() == 0
    await pause.click()
    await row(page, "/other/meanwhile").wait_for()


async def test_the_page_can_be_used_by_keyboard_alone(here, watched):
    page, press = watched.page, watched.page.keyboard.press
    here.call("/x")
    await row(page, "GET /x").wait_for()
    here.call("/other/y")
    await row(page, "GET /other/y").wait_for()

    async def focused() -> str:
        return await page.evaluate(
            "(each => `${each.tagName} ${each.ariaLabel ?? each.labels?.[0]?.innerText ?? each.innerText}`)"
            "(document.activeElement)"
        )

    async def tab_to(wanted: str) -> list[str]:
        passed = []
        for _ in range(60):
            await press("Tab")
            passed.append(await focused())
            if re.search(wanted, passed[-1]):
                return passed
        raise AssertionError(f"{wanted} cannot be reached: {passed}")

    passed = await tab_to("GET /other/y")
    for each in ("Skip to the requests", "Reload", "Renew", "Forget", "Route", "Path contains", "Pause"):
        assert any(each in name for name in passed), (each, passed)
    here.call("/other/z")
    await row(page, "GET /other/z").wait_for()
    assert "GET /other/y" in await focused(), "the focus is kept while rows come"
    await press("Enter")
    dialog = page.get_by_role("dialog")
    await dialog.wait_for()
    for _ in range(25):
        await press("Tab")
        assert await page.evaluate(
            "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        )
    await press("Escape")
    await dialog.wait_for(state="hidden")
    assert "GET /other/y" in await focused(), "the focus is where it was"
    await page.evaluate("document.activeElement.blur()")
    await page.locator("h1").click()
    await tab_to("Forget")
    await press("Enter")
    await page.get_by_role("dialog", name="Forget the token of api?").wait_for()
    assert "Cancel" in await focused(), "what does no harm is at hand"
    await press("Tab")
    await press("Enter")
    await state_is(page, "api", "Idle")
    assert "Forget" in await focused()
    before = len(here.tokens.issued.every)
    await press("Shift+Tab")
    await press("Enter")
    await card(page, "api").get_by_text("Renewed.").wait_for()
    assert len(here.tokens.issued.every) == before + 1
    assert "Renew" in await focused()


@pytest.mark.parametrize(
    "keys", [{"client_id": "confidential", "client_secret": AWKWARD}, {"client_id": "public"}]
)
async def test_a_person_logs_in_from_the_page(watched, oidc_provider, tmp_path, keys):
    page = watched.page
    store = {"type": "file", "path": str(tmp_path / "tokens")}
    with running_proxy({"token_store": store, "routes": [at_oidc(oidc_provider, **keys)]}) as proxy:
        await page.goto(proxy.admin_url)
        await state_is(page, "api", "Login required")
        async with page.expect_popup() as opened:
            await card(page, "api").get_by_role("link", name="Log in").click()
        there = await opened.value
        await log_in_at_oidc(there)
        await there.get_by_role("heading", name="Logged in to api").wait_for()
        await state_is(page, "api", "Valid")
        assert not await card(page, "api").get_by_text("Next try").is_visible()
        assert ask(proxy.url, request("GET", "/api/x")).status == 200
        await row(page, "GET /api/x").wait_for()


# ── the key ──────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def locked(watched, **access) -> AsyncIterator[Here]:
    with admin_api(access={"tokens": [KEY], **access}) as here:
        await watched.page.goto(here.proxy.admin_url)
        await watched.page.get_by_label("Access key").wait_for()
        yield here


async def test_the_page_asks_for_the_key_says_when_it_is_wrong_and_keeps_it_to_itself(watched):
    page, headers = watched.page, []
    page.on("request", lambda request: headers.append((request.url, request.headers)))
    async with locked(watched) as here:
        assert await page.evaluate("document.activeElement.id") == "lock-key"
        await page.keyboard.type("wrong")
        await page.keyboard.press("Enter")
        await page.get_by_text("That key is not valid.").wait_for()
        assert not await page.get_by_role("heading", name="Routes").is_visible()
        await page.get_by_label("Access key").fill(KEY)
        await page.get_by_role("button", name="Open").click()
        await is_live(page)
        here.call("/other/with-key")
        await row(page, "/other/with-key").wait_for()
        await card(page, "api").get_by_role("button", name="Renew").click()
        await card(page, "api").get_by_text("Renewed.").wait_for()
        await page.reload()
        await is_live(page)
        assert await page.context.cookies() == []
        assert await page.evaluate("[localStorage.length, Object.values(sessionStorage)]") == [0, [KEY]]
        sent = [each for url, each in headers if "/api/" in url and KEY in each.values()]
        assert sent
        assert all(each["x-authproxy-key"] == KEY for each in sent)
        assert all("cookie" not in each for _, each in headers)
        dialog = await dialog_of(page, "/other/with-key")
        await dialog.get_by_text("The curl command").click()
        assert '-H "X-Authproxy-Key: $KEY"' in await dialog.inner_text()
        async with page.context.expect_page() as opened:  # another tab knows nothing of it
            await page.evaluate("window.open('/', '_blank', 'noopener')")
        await (await opened.value).get_by_label("Access key").wait_for()


async def exit_code_of(command):
    """Return what comes of a command for curl as it stands, in a shell that has the key."""
    environ = {"PATH": os.environ["PATH"], "KEY": SECRET}
    words = ["sh", "-c", f"{command} --silent --fail"]
    return (await asyncio.to_thread(subprocess.run, words, env=environ, check=False)).returncode


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix:{directory}/s"])
async def test_with_tls_auto_the_commands_name_the_authority_and_work(watched, tmp_path, listen):
    need("curl", "sh")
    page = watched.page
    with API(Issued()) as api:
        api.answer = lambda _message, _wire: reply(body=b"fine")
        config = {
            "tls": "auto",
            "listen": listen.format(directory=tmp_path),
            "admin": {"listen": "127.0.0.1:0"},
            "access": {"tokens": [SECRET]},
            "routes": [{"name": "a", "upstream": api.url, "auth": {"grant": "none"}}],
        }
        with running_proxy(config) as proxy:
            await page.goto(proxy.admin_url)
            await page.get_by_label("Access key").fill(SECRET)
            await page.keyboard.press("Enter")
            await is_live(page)
            await page.get_by_text("No requests yet").wait_for()
            command = await page.locator("#empty-curl").inner_text()
            assert "--cacert" in command
            assert (await exit_code_of(command), len(api.requests)) == (0, 1)
            dialog = await dialog_of(page, "/")
            await dialog.get_by_text("The curl command").click()
            text = await dialog.get_by_label("The request as a curl command").inner_text()
            assert (await exit_code_of(text), len(api.requests)) == (0, 2)


@pytest.mark.parametrize(
    ("header", "written"),
    [("X-Its-Own", '"X-Its-Own: $KEY"'), ("X-It's&Own", """'X-It'\\''s&Own: '"$KEY\"""")],
)
async def test_the_key_goes_in_the_header_that_the_configuration_names(watched, header, written):
    page, key = watched.page, "schlüssel-für-alle"
    config = {
        "access": {"tokens": [key], "header": header},
        "routes": [{"name": "a", "upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}}],
    }
    with running_proxy(config) as proxy:
        await page.goto(proxy.admin_url)
        await page.get_by_label("Access key").fill(key)
        await page.keyboard.press("Enter")
        await is_live(page)
        await page.get_by_text("No requests yet").wait_for()
        assert await page.locator("#empty-curl").inner_text() == f"curl -H {written} {proxy.url}/"


async def test_a_key_that_is_wanted_from_now_on_is_asked_for(here, watched):
    page = watched.page
    text = here.proxy.config_file.read_text()
    here.proxy.config_file.write_text(f"{text}access: {{tokens: [{KEY}], header: X-New}}\n")
    await page.get_by_role("button", name="Reload").click()
    await page.get_by_label("Access key").fill(KEY)
    await page.keyboard.press("Enter")
    await is_live(page)
    here.key = (f"X-New: {KEY}",)
    here.call("/other/again")
    await row(page, "/other/again").wait_for()


# ── the configuration, and the proxy that goes ───────────────────────────────────────────────────


async def test_a_faulty_configuration_is_told_with_the_place(here, watched):
    page, file = watched.page, here.proxy.config_file
    text = file.read_text()
    await page.get_by_text(str(file)).wait_for()
    file.write_text(text.replace("grant: client_credentials", "grant: client_credential"))
    line = next(n for n, each in enumerate(file.read_text().splitlines(), 1) if "client_credential" in each)
    await page.get_by_role("button", name="Reload").click()
    faults = page.locator("#faults")
    await faults.get_by_text("Nothing was changed: the configuration has 1 fault.").wait_for()
    told = await faults.inner_text()
    assert re.search(rf"{re.escape(str(file))}:{line}:\d+ routes\[0\]\.auth\.grant", told)
    assert here.call("/x").status == 200, "the old one goes on"
    await page.reload()
    await faults.get_by_text("The last reload changed nothing").wait_for()
    file.write_text(text.replace("upstream:", "upstraem:", 2))
    await page.get_by_role("button", name="Reload").click()
    await faults.get_by_text("the configuration has 2 faults").wait_for()
    async with page.expect_response("**/api/status"):  # which knows of the first alone
        pass
    assert await faults.get_by_role("listitem").count() == 2
    file.write_text(text)
    await page.get_by_role("button", name="Reload").click()
    said = page.get_by_role("status").get_by_text("The configuration was read again")
    await said.wait_for(state="attached")
    assert not await faults.is_visible()


async def test_the_page_says_that_the_proxy_is_gone_and_goes_on_when_it_is_back(watched):
    page = watched.page
    config = {
        "listen": f"127.0.0.1:{free_port()}",
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "routes": [{"name": "a", "upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}}],
    }
    with running_proxy(config) as proxy:
        await page.goto(proxy.admin_url)
        await is_live(page)
    await page.get_by_text("The proxy is gone").wait_for()
    assert await page.get_by_role("article", name="a", exact=True).is_visible(), "what was known stays"
    with running_proxy(config) as proxy:
        await page.get_by_role("button", name="Try now").click()
        await is_live(page)
        ask(proxy.url, request("GET", "/back"))
        await row(page, "GET /back").wait_for()


async def test_nobody_is_asked_for_anything_while_nobody_looks(here, watched):
    page = watched.page
    hide = """isHidden => {
        Object.defineProperty(document, "hidden", {configurable: true, get: () => isHidden});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    await page.evaluate(hide, arg=True)
    await page.locator("[data-is=paused]").wait_for()
    here.call("/other/unseen")
    asked = len(watched.urls)
    await page.wait_for_timeout(2500)  # longer than the page takes between two looks
    assert watched.urls[asked:] == []
    await page.evaluate(hide, arg=False)
    await is_live(page)
    await row(page, "/other/unseen").wait_for()


async def test_of_too_many_requests_the_page_stays_small_and_says_how_many_it_does_not_list(here, watched):
    page = watched.page
    with connect(here.proxy.url) as wire:
        for _ in range(15):
            wire.send(request("GET", "/other/many") * 100)
            for _ in range(100):
                assert wire.answer().status == 200
    await page.get_by_text(re.compile(r"\d+ not listed")).wait_for()
    here.call("/other/the-last")
    assert await page.locator("tr[data-id]").count() <= MAX_ROWS + 1
    await page.get_by_text(re.compile("^1,50[01] requests, at most")).wait_for(state="attached")


# ── for everybody ────────────────────────────────────────────────────────────────────────────────


def axe_source() -> str:
    from axe_playwright_python.base import AXE_FILE_PATH  # noqa: PLC0415 - it may be missing

    return AXE_FILE_PATH.read_text()


async def serious_faults(page) -> list[str]:
    """Return what axe-core finds wrong that is serious or worse."""
    await page.evaluate(axe_source())
    found = json.loads(await page.evaluate("async () => JSON.stringify((await axe.run()).violations)"))
    return [
        f"{each['id']}: {node['html']} {node['failureSummary']}"
        for each in found
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_axe_finds_nothing_serious(here, watched, scheme, width):
    need("axe_playwright_python")
    page = watched.page
    await page.emulate_media(color_scheme=scheme)
    await page.set_viewport_size({"width": width, "height": 800})
    assert await serious_faults(page) == [], "empty"
    here.call("/x")
    here.tokens.revoke()
    here.call("/repeated")
    here.other.answer = lambda _message, _wire: reply(404)
    here.call("/other/missing", "Origin: https://evil.example")
    here.call("/other/missing")
    here.other.answer = lambda _message, _wire: reply(500)
    here.call("/kept/x", method="POST", body=b"hello")
    here.api.says(UNAUTHORIZED)
    here.call("/refused")
    await state_is(page, "api", "Refused")
    await row(page, "/refused").wait_for()
    await page.get_by_text("The charts as a table").click()
    assert await serious_faults(page) == [], "in trouble"
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    for text in ("/refused", "/repeated", "/kept/x"):
        dialog = await dialog_of(page, text)
        await dialog.get_by_text("The curl command").click()
        assert await serious_faults(page) == [], text
        assert await dialog.evaluate("each => each.scrollWidth <= each.clientWidth")
        await page.keyboard.press("Escape")
    await card(page, "api").get_by_role("button", name="Forget").click()
    assert await serious_faults(page) == [], "confirm"
    await page.keyboard.press("Escape")
    file = here.proxy.config_file
    file.write_text(file.read_text().replace("upstream", "upstraem", 1))
    await page.get_by_role("button", name="Reload").click()
    await page.locator("#faults").wait_for()
    assert await serious_faults(page) == [], "with faults"
    here.proxy.stop()
    await page.get_by_text("The proxy is gone").wait_for()
    assert await serious_faults(page) == [], "gone"


async def test_axe_finds_nothing_serious_in_what_asks_for_the_key(watched):
    need("axe_playwright_python")
    async with locked(watched):
        await watched.page.keyboard.type("wrong")
        await watched.page.keyboard.press("Enter")
        await watched.page.get_by_text("That key is not valid.").wait_for()
        assert await serious_faults(watched.page) == []


async def test_who_listens_is_told_of_what_counts_and_not_of_each_request(here, watched):
    page = watched.page
    await page.evaluate(
        """() => {
            window.told = [];
            for (const region of document.querySelectorAll("[role=status], [role=alert], [aria-live]"))
                new MutationObserver(() => region.textContent && window.told.push(region.textContent))
                    .observe(region, {childList: true, characterData: true, subtree: true});
        }"""
    )
    for number in range(20):
        here.call(f"/other/{number}")
    await row(page, "/other/19").wait_for()
    assert await page.evaluate("window.told") == []
    here.api.says(UNAUTHORIZED)
    here.call("/x")
    await state_is(page, "api", "Refused")
    assert await page.evaluate("window.told") == ["api is refused by the upstream."]


# ── routes with an address of their own ──────────────────────────────────────────────────────────


async def test_a_route_with_an_address_of_its_own_is_called_there(watched):
    page = watched.page
    need("curl", "sh")
    with Upstream() as upstream:
        route = {"name": "own", "path": "/own", "listen": ANY_PORT, "upstream": upstream.url}
        routes = [
            route | {"auth": {"grant": "static", "token": SECRET}},
            {"name": "alone", "listen": ANY_PORT, "upstream": upstream.url, "auth": {"grant": "none"}},
        ]
        with running_proxy({"routes": routes}) as proxy:
            await page.goto(proxy.admin_url)
            await is_live(page)
            address = proxy.own["own"].removeprefix("http://")
            await card(page, "own").get_by_text(f"{address}, /own").wait_for()
            await card(page, "alone").get_by_text(proxy.own["alone"].removeprefix("http://")).wait_for()
            assert await page.locator("#empty-curl").inner_text() == f"curl {proxy.own['own']}/"
            for url, target in ((proxy.own["own"], "/here?a=1"), (proxy.url, "/own/there")):
                ask(url, request("GET", target))
                dialog = await dialog_of(page, f"GET {target.partition('?')[0]}")
                await dialog.get_by_text("The curl command").click()
                text = await dialog.get_by_label("The request as a curl command").inner_text()
                assert f"{url}{target.partition('?')[0]}" in text
                await dialog.get_by_role("button", name="Replay").click()
                await dialog.get_by_text("Sent again: this is the new request.").wait_for()
                await page.keyboard.press("Escape")
            assert [each.target for each in upstream.requests] == ["/here?a=1"] * 2 + ["/there"] * 2
