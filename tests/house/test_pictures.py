"""The pictures are small, name nothing of the machine they were taken on, and can be drawn again."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.tools.recording import COLUMNS, Shown, draw

ROOT = Path(__file__).parents[2]
PICTURES = sorted([*ROOT.glob("docs/*/*.svg"), *ROOT.glob("docs/*/*.png")])
DRAWINGS = [path for path in PICTURES if path.suffix == ".svg"]
MAX_BYTES = 200_000


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_it_is_small(path):
    assert path.stat().st_size < MAX_BYTES


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.name)
def test_it_can_be_read_by_itself_and_says_what_it_shows(path):
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.get("aria-label")
    assert not re.search(r"/(home|root|tmp|Users|work)/|(href|src)=\"http|url\(http", text)


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.name)
def test_it_has_a_dark_side(path):
    assert "prefers-color-scheme: dark" in path.read_text(encoding="utf-8") or path.name == "terminal.svg"


def lines_of(svg):
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def test_a_recording_shows_every_line_escaped_and_in_its_pane():
    svg = draw(
        [
            ("one", [Shown("command", 1, "run <x>"), Shown("output", 3, "\x1b[31mred\x1b[0m & plain")]),
            ("two", [Shown("command", 2, "ask")]),
        ],
        "two panes",
    )
    assert lines_of(svg) == ["one", "$ run <x>", "red & plain", "two", "$ ask"]
    assert re.search(r"fill:#ff7b72[^<]*>red<", svg)


def test_a_recording_breaks_long_lines_as_a_terminal_does():
    svg = draw([("one", [Shown("output", 1, "x" * (COLUMNS + 5))])], "a long line")
    assert lines_of(svg) == ["one", "x" * COLUMNS, "x" * 5]


def test_lines_appear_in_the_order_in_which_they_were_printed():
    svg = draw(
        [
            ("a", [Shown("output", 1, "first"), Shown("output", 3, "third")]),
            ("b", [Shown("output", 2, "second")]),
        ],
        "",
    )
    delays = [float(each) for each in re.findall(r"animation-delay:([\d.]+)s", svg)]
    assert delays[0] < delays[2] < delays[1]
