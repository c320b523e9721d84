"""The log's lines, and what never stands in them."""

import contextlib
import html
import io
import json
import logging
import re
from base64 import b64encode, urlsafe_b64encode
from time import process_time
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import pytest

from authproxy import logs
from authproxy.masking import MASK, scrub, without_query
from authproxy.observe.access_log import AccessLog

ESCAPES = "\x1b[31m red \x9b0m \x7f bell\x07"


class Stderr(io.StringIO):
    def set_up(self, level, style):
        """Set the log up to write here."""
        with contextlib.redirect_stderr(self):
            logs.set_up(level, style)

    def take(self, log):
        """Let an access log write here, as a terminal would."""
        with contextlib.redirect_stderr(self):
            log.flush()


@pytest.fixture
def stderr():
    """Stand in for stderr; the logging of the test run is put back afterwards."""
    root = logging.getLogger()
    names = ["", "authproxy", "asyncio", "aiohttp.server", "aiohttp.access", "aiohttp.client"]
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = root.handlers[:]
    yield Stderr()
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def seen(**changes):
    facts = {
        "route_name": "up42",
        "path": "/v2/x",
        "status": 200,
        "sent": 12,
        "retried": False,
        "cause": None,
    }
    return SimpleNamespace(**facts | changes)


# ── events ───────────────────────────────────────────────────────────────────────────────────────


def test_a_line_is_an_event_and_its_facts(stderr):
    stderr.set_up("info", "text")
    logs.info("token renewed", route="up42", seconds=0.21, cause=None, hint="a b", tries=2)
    stamp, level, rest = stderr.getvalue().split(" ", 2)
    assert stamp[10] == "T"
    assert level == "info"
    assert rest == 'token renewed route=up42 seconds=0.210 hint="a b" tries=2\n'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("a\nb info forged", r'"a\nb info forged"'),
        ("grün", "grün"),
        (7, "7"),
        (1 / 3, "0.333"),
    ],
)
def test_a_fact_stays_on_its_line_and_in_its_place(stderr, value, text):
    stderr.set_up("info", "text")
    logs.info("event", fact=value)
    assert stderr.getvalue().partition("event ")[2] == f"fact={text}\n"


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_fact_cannot_talk_to_the_terminal(stderr, style):
    stderr.set_up("info", style)
    logs.info("event", fact=ESCAPES)
    logs.info("event", fact=ESCAPES.replace(" ", ""))
    assert not set(stderr.getvalue()) & set("\x1b\x9b\x7f\x07")


def test_json_holds_one_document_a_line(stderr):
    stderr.set_up("info", "json")
    logs.warning("token renewal failed", route="grün", cause="a\nb", retry=1.5)
    document = json.loads(stderr.getvalue())
    assert document.pop("time") > 1_600_000_000
    assert document == {
        "level": "warning",
        "event": "token renewal failed",
        "route": "grün",
        "cause": "a\nb",
        "retry": 1.5,
    }


@pytest.mark.parametrize(
    ("level", "heard"), [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e")]
)
def test_a_level_silences_what_is_below_it(stderr, level, heard):
    stderr.set_up(level, "text")
    logs.debug("d")
    logs.info("i")
    logs.warning("w")
    logs.error("e")
    assert "".join(line.split()[-1] for line in stderr.getvalue().splitlines()) == heard


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_internal_error_shows_its_place_but_not_its_words(stderr, style):
    stderr.set_up("info", style)
    with pytest.raises(ValueError, match="s3cr3t") as caught:
        int("Bearer s3cr3t")
    logs.logger.error("internal error", exc_info=caught.value)
    assert "s3cr3t" not in stderr.getvalue()
    assert "ValueError at " in stderr.getvalue()
    assert "test_logs.py:" in stderr.getvalue()


def test_aiohttp_does_not_repeat_what_a_client_sent(stderr):
    stderr.set_up("debug", "text")
    logging.getLogger("aiohttp.server").error("Bearer s3cr3t")
    logging.getLogger("aiohttp.access").info("/?password=s3cr3t")
    assert stderr.getvalue() == ""


# ── the access log ───────────────────────────────────────────────────────────────────────────────


async def test_a_request_is_one_line(stderr):
    log = AccessLog("text")
    log("GET", seen(), 0.01234)
    stderr.take(log)
    _, _, line = stderr.getvalue().partition(" ")
    assert line == "info request route=up42 method=GET path=/v2/x status=200 bytes=12 ms=12.3\n"


async def test_a_request_that_went_wrong_says_why(stderr):
    log = AccessLog("text")
    log("GET", seen(route_name=None, status=404, retried=True, cause="no route"), 0)
    stderr.take(log)
    assert "route=- " in stderr.getvalue()
    assert stderr.getvalue().endswith('ms=0.0 retried=yes cause="no route"\n')


async def test_a_request_as_json(stderr):
    log = AccessLog("json")
    log("GET", seen(), 0.01234)
    log("GET", seen(cause="it broke"), 0)
    stderr.take(log)
    first, second = map(json.loads, stderr.getvalue().splitlines())
    assert first.pop("time") > 1_600_000_000
    assert first == {
        "level": "info",
        "event": "request",
        "route": "up42",
        "method": "GET",
        "path": "/v2/x",
        "status": 200,
        "bytes": 12,
        "ms": 12.3,
        "retried": False,
    }
    assert second["cause"] == "it broke"


@pytest.mark.parametrize("style", ["text", "json"])
async def test_a_path_cannot_talk_to_the_terminal_nor_break_the_line(stderr, style):
    log = AccessLog(style)
    log("GET", seen(path="/\x9b31m\u2028/\udc80"), 0)
    stderr.take(log)
    assert not set(stderr.getvalue()) & set("\x9b\u2028\udc80")
    assert len(stderr.getvalue().splitlines()) == 1


async def test_lines_are_written_together(stderr, monkeypatch):
    writes = []
    monkeypatch.setattr(stderr, "write", writes.append)
    log = AccessLog("text")
    for _ in range(100):
        log("GET", seen(), 0)
    assert writes == []
    stderr.take(log)
    stderr.take(log)
    assert len(writes) == 1
    assert writes[0].count("\n") == 100


# ── what must never be printed ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/token?password=s3cr3t", "https://a.example/token"),
        ("https://a.example/token#s3cr3t", "https://a.example/token"),
        ("https://a.example/token#x?s3cr3t", "https://a.example/token"),
        ("https://joe:s3cr3t@a.example/token", "https://a.example/token"),
        ("https://joe:s3cr3t@a.example", "https://a.example"),
        ("https://a.example?s3cr3t", "https://a.example"),
        ("https://a.example:8443/x@y", "https://a.example:8443/x@y"),
        ("/path?s3cr3t", "/path"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url, shown):
    assert without_query(url) == shown


@pytest.mark.parametrize(
    ("text", "secrets", "shown"),
    [
        ("nothing in it", ["s3cr3t"], "nothing in it"),
        ("it is s3cr3t, s3cr3t!", ["s3cr3t"], f"it is {MASK}, {MASK}!"),
        ("s3cr3t-long", ["s3cr3t", "s3cr3t-long"], MASK),  # the longer one leaves no rest
        ("text", ["", "x"], "text"),  # an empty secret is none, a short one no part of a word
        ("me: some name parameter, me", ["me"], f"{MASK}: some name parameter, {MASK}"),
        ("unsupported_grant", ["grant"], "unsupported_grant"),
        ("pw=hunter2&x, (hunter2) 'hunter2'", ["hunter2"], f"pw={MASK}&x, ({MASK}) '{MASK}'"),
        (
            r"pw%3Dhunter2%26 \nhunter2\t \u0022hunter2\u0022",
            ["hunter2"],
            rf"pw%3D{MASK}%26 \n{MASK}\t \u0022{MASK}\u0022",
        ),
        ("code#7x, #7x7", ["#7x"], f"code{MASK}, #7x7"),
        ("\u30d1\u30b9hunter2\u304c", ["hunter2"], f"\u30d1\u30b9{MASK}\u304c"),
        ("pr\u00e4me\u00e4", ["me"], "pr\u00e4me\u00e4"),
        ("xhunter2-longx", ["hunter2-long"], f"x{MASK}x"),  # a long one is none by chance
        ("s3cr3t-one-two", ["s3cr3t-one", "one-two"], MASK),  # two that overlap leave no rest
        ("s3cr3t-one-two-three", ["s3cr3t-one", "one-two", "two-three"], MASK),
        (
            "\ud800 a\udcff s3cr3t-one\udfff",
            ["s3cr3t-one"],
            f"\ufffd a\ufffd {MASK}\ufffd",
        ),  # nothing that cannot be printed
        ("a\r\nSet-Cookie: b\x1b[0m", [], "a Set-Cookie: b [0m"),
        ("  a  ", [], "a"),
    ],
)
def test_foreign_text_is_scrubbed(text, secrets, shown):
    assert scrub(text, secrets) == shown


@pytest.mark.parametrize("secret", ["p&ss wörd/+", 'say "hi" \\o/', "<a>'b'~*!()", "short/", "p w", "ü"])
@pytest.mark.parametrize(
    "spelled",
    [
        str,
        quote,
        quote_plus,
        lambda secret: quote(secret, safe=""),
        lambda secret: quote(secret, safe="!'()*"),
        lambda secret: re.sub("%..", lambda escape: escape[0].lower(), quote_plus(secret)),
        lambda secret: json.dumps(secret)[1:-1],
        lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1].replace("/", "\\/"),
        html.escape,
        lambda secret: b64encode(secret.encode()).decode(),
        lambda secret: urlsafe_b64encode(secret.encode()).decode().rstrip("="),
    ],
)
def test_a_secret_is_masked_in_every_spelling_in_which_it_may_be_echoed(secret, spelled):
    echoed = spelled(secret)
    padding = echoed[len(echoed.rstrip("=")) :]
    shown = scrub(f"got [{echoed}] and pw={echoed}&", [secret])
    assert shown == f"got [{MASK}{padding}] and pw={MASK}{padding}&"


def test_a_long_text_is_scrubbed_without_a_pause():
    secrets = ["p@ss w/rd&é", "client-secret-000000000000", "me", "hunter2", "x" * 3000]
    for unit in ("a b c ", "client-secret-000000000000", "hunter2 ", "x", "%3D", "me"):
        began = process_time()
        assert len(scrub(unit * (1_000_000 // len(unit)), secrets)) <= 300
        assert process_time() - began < 2, "in time with the square of the length it is minutes"


def test_foreign_text_is_not_repeated_at_length():
    assert scrub("x" * 300, []) == "x" * 300
    assert scrub("x" * 301, []) == "x" * 299 + "…"


def test_a_secret_is_masked_before_the_text_is_cut():
    assert "s3c" not in scrub("x" * 295 + "s3cr3t-and-more", ["s3cr3t-and-more"])
