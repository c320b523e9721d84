"""Colour and progress: for a terminal only."""

import os
import threading

import pytest

from authproxy.cli import terminal as module
from authproxy.cli.terminal import STDERR, STDOUT, Progress, columns_of, has_colour, is_watched, tell

GUARD = 10.0  # seconds until what hangs fails the test


@pytest.fixture
def watched(monkeypatch):
    """Let somebody sit at a terminal that can do everything."""
    monkeypatch.setattr(os, "isatty", lambda _descriptor: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_pipe_and_what_is_closed_are_not_watched(monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == STDOUT)
    assert is_watched(STDOUT)
    assert not is_watched(STDERR)
    monkeypatch.setattr(module.sys, "stdout", None)
    assert not is_watched(STDOUT)


@pytest.mark.parametrize(
    ("name", "value", "coloured"),
    [("NO_COLOR", "", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)],
)
@pytest.mark.usefixtures("watched")
def test_colour_is_given_up_on_request(monkeypatch, name, value, coloured):
    monkeypatch.setenv(name, value)
    assert has_colour() == coloured


@pytest.mark.usefixtures("watched")
def test_what_is_over_soon_shows_nothing(capsys):
    with Progress("waiting", delay=GUARD) as progress:
        progress.tell("a line")
    assert capsys.readouterr().err == "a line\n"


@pytest.mark.usefixtures("watched")
def test_what_takes_its_time_is_shown_and_cleared_for_lines_and_at_the_end(capsys, monkeypatch):
    shown = threading.Event()
    show = Progress._show

    def noted(progress, text):
        show(progress, text)
        shown.set()

    monkeypatch.setattr(Progress, "_show", noted)
    with Progress("waiting", delay=0.001) as progress:
        assert shown.wait(GUARD)
        progress.tell("a line")
    said = capsys.readouterr().err
    assert said.startswith("\r\x1b[Kwaiting … 1 s")
    assert "\r\x1b[Ka line\n" in said
    assert said.endswith(("\x1b[K", "a line\n"))


def test_on_a_pipe_nothing_is_ever_shown(monkeypatch, capsys):
    monkeypatch.setattr(os, "isatty", lambda _descriptor: False)
    with Progress("waiting", delay=0.0) as progress:
        assert not progress._thread.is_alive()
        tell("\x1b[1mbold\x1b[0m")
    assert capsys.readouterr().err == "bold\n"


def test_a_terminal_without_a_size_has_the_usual_one(monkeypatch):
    monkeypatch.setattr(os, "get_terminal_size", lambda _descriptor: os.terminal_size((0, 0)))
    assert columns_of(STDOUT) == 80
