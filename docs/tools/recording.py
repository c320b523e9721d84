"""Records what programs print to a terminal, and draws it as an SVG that plays once.

    with Pane("authproxy run", …) as pane:    a pseudo-terminal; what is printed is what the picture has
        pane.wait_for("listening")
    draw([("authproxy", pane.lines)], …)      panes below each other; lines appear one after the other

Nothing is made up but the pauses. Without animations (`prefers-reduced-motion`) all of it is there at once.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Self

from rich.style import Style
from rich.text import Text

COLUMNS, LINE, CHARACTER = 100, 19, 8.05
MARGIN, BAR = 16, 26
DEADLINE = 20.0  # seconds that a program has to say what is waited for
PAUSES = {"command": 1.4, "output": 0.12}  # seconds before such a line
COLOURS = {1: "#ff7b72", 2: "#7ee787", 3: "#e3b341", 4: "#79c0ff", 5: "#d2a8ff", 6: "#56d4dd", 8: "#8b949e"}
"""By their numbers in ANSI's palette; their bright twins look the same."""
STYLE = """
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #e6edf3; white-space: pre }
.bar { fill: #161b22 } .paper { fill: #0d1117 } .name { fill: #8b949e } .prompt { fill: #7ee787 }
.b { font-weight: 600 } .d { fill: #8b949e }
g.line { animation: show 0.01s both }
@keyframes show { from { opacity: 0 } to { opacity: 1 } }
@media (prefers-reduced-motion: reduce) { g.line { animation: none } }
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A line of a pane: what kind it is, when it was printed, and what with, escape sequences included."""

    kind: str
    at: float
    text: str


class Pane:
    """A program in a pseudo-terminal of its own."""

    def __init__(self, command: str, *, cwd: str, env: Mapping[str, str]) -> None:
        self.lines = [Shown("command", time.monotonic(), command)]
        self._rest = ""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        # The shell gives its place to the last program: that is who hears the end.
        self._process = subprocess.Popen(
            ["bash", "--norc", "-c", command],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=dict(env), start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE)
        os.close(self._ours)

    def wait_for(self, text: str) -> None:
        """Read until `text` was printed. Raises `TimeoutError`, also when the program ends before."""
        self._read(until=lambda: self._has(text))
        if not self._has(text):
            raise TimeoutError(f"{self.lines[0].text!r} ended: {[line.text for line in self.lines[1:]]}")

    def wait(self) -> None:
        """Read until the program has ended. Raises `TimeoutError`."""
        self._read(until=lambda: False)

    def _read(self, *, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not until():
            if not select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(
                    f"{self.lines[0].text!r} printed only {[line.text for line in self.lines]}"
                )
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # its end was closed: the program has ended
                data = b""
            if not data:
                return
            self._take(data.decode())

    def _has(self, text: str) -> bool:
        return any(text in line.text for line in self.lines[1:])

    def _take(self, text: str) -> None:
        *lines, self._rest = (self._rest + text.replace("\r\n", "\n")).split("\n")
        self.lines += [Shown("output", time.monotonic(), line) for line in lines]


def draw(panes: Sequence[tuple[str, Sequence[Shown]]], label: str) -> str:
    """Return the SVG of `panes`: a name and its lines each."""
    starts = _starts([line for _, lines in panes for line in lines])
    parts, y = [], 0
    for name, lines in panes:
        body, height = _pane(name, lines, starts, y)
        parts.append(body)
        y += height
    width = int(COLUMNS * CHARACTER + 2 * MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}" '
        f'role="img" aria-label="{escape(label)}">\n<style>{STYLE}</style>\n'
        f'<rect class="paper" width="{width}" height="{y}" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _starts(lines: Sequence[Shown]) -> dict[int, float]:
    """Return when each line appears: in the order in which they were printed, at a pace for readers."""
    now, starts = 0.0, {}
    for line in sorted(lines, key=lambda each: each.at):
        now += PAUSES[line.kind]
        starts[id(line)] = now
    return starts


def _pane(name: str, lines: Sequence[Shown], starts: dict[int, float], top: int) -> tuple[str, int]:
    width = int(COLUMNS * CHARACTER + 2 * MARGIN)
    bar = f'<rect class="bar" y="{top}" width="{width}" height="{BAR}"/>'
    parts = [f'{bar}<text class="name" x="{MARGIN}" y="{top + 17}">{escape(name)}</text>']
    y = top + BAR + LINE
    for line in lines:
        for row in _rows(line):
            parts.append(
                f'<g class="line" style="animation-delay:{starts[id(line)]:.2f}s">{_text(row, y)}</g>'
            )
            y += LINE
    return "\n".join(parts), y - top


def _rows(line: Shown) -> Iterator[Text]:
    text = Text.from_ansi(line.text)
    if line.kind == "command":
        text = Text.assemble(("$ ", "green"), (line.text, "bold"))
    yield from (text.divide(range(COLUMNS, len(text), COLUMNS)) if len(text) > COLUMNS else [text])


def _text(row: Text, y: int) -> str:
    spans = [
        f"<tspan{_look(row, start, end)}>{escape(row.plain[start:end])}</tspan>" for start, end in _runs(row)
    ]
    return f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{"".join(spans)}</text>'


def _runs(row: Text) -> Iterator[tuple[int, int]]:
    """Yield the parts of a row that look the same."""
    edges = sorted({0, len(row.plain), *(edge for span in row.spans for edge in (span.start, span.end))})
    yield from ((start, end) for start, end in pairwise(edges) if start < end)


def _look(row: Text, start: int, end: int) -> str:
    over = [span.style for span in row.spans if span.start <= start and end <= span.end]
    style = Style.combine(
        [Style.null(), *(Style.parse(each) if isinstance(each, str) else each for each in over)]
    )
    kind = " ".join(name for name, is_so in (("b", style.bold), ("d", style.dim)) if is_so)
    number = style.color.number if style.color else None
    colour = COLOURS.get(number if number in COLOURS else (number or 0) - 8)
    return (f' class="{kind}"' if kind else "") + (f' style="fill:{colour}"' if colour else "")
