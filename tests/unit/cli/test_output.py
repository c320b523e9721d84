"""What is written survives any encoding."""

import io
import json
import sys
from types import SimpleNamespace

import pytest

from authproxy.cli.output import is_unicode, prepare_output

SAID = "•••• “ü” — 😀 → \udcff…"


@pytest.fixture
def written(monkeypatch):
    """Return what a program's stdout of some encoding gets, once that is made to survive."""

    def write(text, encoding, **options):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, **options))
        prepare_output()
        sys.stdout.write(text)
        sys.stdout.flush()
        return raw.getvalue()

    return write


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "•••• “ü” — 😀 → \\udcff…"),
        ("latin-1", "**** \\u201cü\\u201d - \\ud83d\\ude00 -> \\udcff..."),
        ("ascii", "**** \\u201c\\u00fc\\u201d - \\ud83d\\ude00 -> \\udcff..."),
        ("US-ASCII", "**** \\u201c\\u00fc\\u201d - \\ud83d\\ude00 -> \\udcff..."),
        ("cp1252", "•••• “ü” — \\ud83d\\ude00 -> \\udcff…"),
    ],
)
def test_what_cannot_be_shown_gives_way_to_its_likeness_or_an_escape(written, encoding, shown):
    assert written(SAID, encoding).decode(encoding) == shown


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_a_line_that_was_json_still_is(written, encoding):
    line = json.dumps({"a": "ü 😀 \u2028"}, ensure_ascii=False)
    assert json.loads(written(line, encoding).decode(encoding)) == {"a": "ü 😀 \u2028"}


def test_a_stream_of_ascii_has_a_name_that_click_does_not_take_for_ascii(written):
    """Click would write UTF-8 to it."""
    written("", "ascii")
    assert sys.stdout.encoding != "ascii"
    assert not is_unicode(sys.stdout)


@pytest.mark.parametrize("lines", [True, False])
def test_a_stream_is_flushed_as_before(written, lines):
    written("", "ascii", line_buffering=lines)
    assert sys.stdout.line_buffering == lines


def test_a_stream_that_is_closed_or_somebody_elses_is_left_alone(monkeypatch):
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    monkeypatch.setattr(sys, "stderr", None)
    prepare_output()
    assert sys.stdout is mine
    assert sys.stderr is None


@pytest.mark.parametrize(
    ("encoding", "unicode"),
    [("utf-8", True), ("UTF-16", True), ("ascii", False), ("latin-1", False), ("", False), (None, False)],
)
def test_where_every_character_can_be_written_is_told(encoding, unicode):
    assert is_unicode(SimpleNamespace(encoding=encoding)) is unicode


def test_no_stream_at_all_takes_no_character():
    assert not is_unicode(None)
