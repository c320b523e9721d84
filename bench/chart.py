"""Bar charts as SVG: no script, no font of its own, legible on light and on dark."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import inf

WIDTH, MARGIN, LABELS, NUMBERS = 760, 16, 150, 60
LINE, GAP, TITLE = 20, 14, 30
COLOURS = {
    "authproxy": "#2f6fde", "authproxy before": "#9db9ee", "nginx": "#3a9d5d", "HAProxy": "#7fb8a4",
    "Envoy": "#b65fc4", "Go": "#29a3b8",
}  # fmt: skip
OTHER = "#9a9a9a"
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 13px }
.mark { stroke: #8a8f98; stroke-dasharray: 3 3 }
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .paper { fill: #0d1117 } }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, its length, the figure beside it, and whose colour it has."""

    label: str
    value: float
    figure: str
    of: str


@dataclass(frozen=True, slots=True)
class Group:
    """Bars under one heading; an empty one takes no line."""

    heading: str
    bars: list[Bar]


def draw(title: str, groups: Sequence[Group], *, marks: Sequence[float] = (), most: float = inf) -> str:
    """Return the SVG of `groups`, all to one scale, with a dashed line at each of `marks`.

    A bar of more than `most` is cut off there; its figure says so.
    """
    longest = max([bar.value for group in groups for bar in group.bars] + list(marks)) or 1
    scale = (WIDTH - 2 * MARGIN - LABELS - NUMBERS) / min(longest, most)
    body, bottom = _body(groups, scale, most)
    lines = [
        f'<line class="mark" x1="{_x(mark, scale)}" x2="{_x(mark, scale)}" y1="{TITLE + 8}" y2="{bottom}"/>'
        f'<text x="{_x(mark, scale)}" y="{bottom + 14}" text-anchor="middle">{mark:g}</text>'
        for mark in marks
    ]
    height = bottom + MARGIN + (8 if marks else 0)
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            f'<text class="title" x="{MARGIN}" y="{MARGIN + 8}">{escape(title)}</text>',
            *body,
            *lines,
            "</svg>\n",
        ]
    )


def _body(groups: Sequence[Group], scale: float, most: float) -> tuple[list[str], int]:
    """Return the elements of all groups, and how far down they reach."""
    elements: list[str] = []
    y = TITLE + GAP
    for group in groups:
        if group.heading:
            elements.append(f'<text x="{MARGIN}" y="{y + 8}">{escape(group.heading)}</text>')
            y += LINE
        for bar in group.bars:
            elements += _bar(bar, y, scale, most)
            y += LINE
        y += GAP if group.heading else 0
    return elements, y


def _bar(bar: Bar, y: int, scale: float, most: float) -> Iterator[str]:
    end = _x(min(bar.value, most), scale)
    length = end - MARGIN - LABELS
    colour = COLOURS.get(bar.of, OTHER)
    yield f'<text x="{MARGIN + LABELS - 8}" y="{y + 9}" text-anchor="end">{escape(bar.label)}</text>'
    yield f'<rect x="{MARGIN + LABELS}" y="{y - 3}" width="{length:.1f}" height="15" fill="{colour}"/>'
    yield f'<text x="{end + 6:.1f}" y="{y + 9}">{escape(bar.figure)}{" …" if bar.value > most else ""}</text>'


def _x(value: float, scale: float) -> float:
    return round(MARGIN + LABELS + value * scale, 1)
