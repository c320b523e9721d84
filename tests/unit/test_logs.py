"""The log's lines, and what never stands in them."""

import asyncio
import contextlib
import gc
import io
import json
import logging
import re
from datetime import datetime
from time import time as now

import pytest

from authproxy import logs

RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?[+-]\d\d:\d\d"
ESCAPES = "\x1b[31m red \x9b0m \x7f bell\x07"


class Stderr(io.StringIO):
    def set_up(self, level, style):
        """Set the log up to write here."""
        with contextlib.redirect_stderr(self):
            logs.set_up(level, style)


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


# ── events ───────────────────────────────────────────────────────────────────────────────────────


def test_a_line_is_an_event_and_its_facts(stderr):
    stderr.set_up("info", "text")
    logs.info("token renewed", route="up42", seconds=0.21, cause=None, hint="a b", tries=2)
    stamp, level, rest = stderr.getvalue().split(" ", 2)
    assert re.fullmatch(RFC_3339, stamp)
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
    time = document.pop("time")
    assert re.fullmatch(RFC_3339, time)
    assert abs(datetime.fromisoformat(time).timestamp() - now()) < 5
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


@pytest.mark.parametrize("style", ["text", "json"])
async def test_an_exception_that_nobody_awaited_is_told_without_its_words(stderr, style):
    stderr.set_up("info", style)

    async def fail():
        raise ValueError("Bearer s3cr3t")

    await asyncio.wait([asyncio.create_task(fail())])
    gc.collect()  # which is when asyncio tells
    assert "Task exception was never retrieved" in stderr.getvalue()
    assert "ValueError at " in stderr.getvalue()
    assert "s3cr3t" not in stderr.getvalue()


def test_aiohttp_does_not_repeat_what_a_client_sent(stderr):
    stderr.set_up("debug", "text")
    logging.getLogger("aiohttp.server").error("Bearer s3cr3t")
    logging.getLogger("aiohttp.access").info("/?password=s3cr3t")
    assert stderr.getvalue() == ""
