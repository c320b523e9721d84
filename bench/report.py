"""Results as tables and charts, on a terminal and in docs/performance.md."""

from collections.abc import Iterator
from math import inf
from pathlib import Path

import chart
from chart import Bar, Group
from proxies import ROOT
from results import FIGURES, SPEEDS, Results, shown
from scenarios import SCENARIOS, Scenario

OURS = "authproxy"
BASELINE = "authproxy before"
REFERENCES = ("nginx", "Envoy", "Go", "pooled Go")
CUT_OFF = 4  # times authproxy's: a bar that is longer would leave nothing to see of the others
PAGE = ROOT / "docs" / "performance.md"
CHARTS = ROOT / "docs" / "performance"
SCALING = ROOT / "docs" / "scaling.md"
DOLLARS = 0.04  # for an hour of a CPU, as the large clouds take for a small machine
CHART_NAMES = {
    "small": "CPU µs a request: 150-byte answers, 50 connections",
    "shares": "CPU time of authproxy as a share of Envoy's and Go's",
    "latency": "99th percentile of the time to an answer, ms",
    "idle": "KiB of memory for an idle connection",
    "start": "ms from the start to listening",
}


def text(found: Results) -> str:
    """Return everything that was measured, in Markdown."""
    return "\n".join(_lines(found))


def write_docs(found: Results) -> None:
    """Put tables and charts into docs/performance.md, and what requests cost into docs/scaling.md."""
    CHARTS.mkdir(exist_ok=True)
    drawn = dict(_charts(found))
    for name, svg in drawn.items():
        (CHARTS / f"{name}.svg").write_text(svg)
    pictures = [f"![{CHART_NAMES[name]}](performance/{name}.svg)\n" for name in drawn]
    write_between(PAGE, "results", "\n".join([*pictures, text(found)]))
    write_between(SCALING, "costs", "\n".join(_costs(found)))


def write_between(page: Path, name: str, content: str) -> None:
    """Put `content` between the two comments of that name in `page`."""
    begin, end = f"<!-- {name}: written by a program -->", f"<!-- end of {name} -->"
    head, _, rest = page.read_text().partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"{page.name} has no place for {name}")
    page.write_text(f"{head}{begin}\n\n{content}\n\n{end}{tail}")


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def _lines(found: Results) -> Iterator[str]:
    yield "| | |\n|---|---|"
    for name, value in found.machine.items():
        yield f"| {name} | {value} |"
    yield f"| command | `{found.command}` |"
    yield f"| versions | {', '.join(f'{name} {version}' for name, version in found.versions.items())} |"
    measured = [each for each in SCENARIOS if found.proxies(each.name)]
    yield from _overview(found, measured)
    yield from _differences(found, measured)
    for scenario in measured:
        yield from _table(found, scenario)
    if found.remarks:
        yield "\n### Who did not take part\n"
        yield from (f"- {remark}" for remark in found.remarks)


def _overview(found: Results, measured: list[Scenario]) -> Iterator[str]:
    references = [
        each for each in (BASELINE, *REFERENCES) if any(each in found.proxies(s.name) for s in measured)
    ]
    if not references:
        return
    yield "\n### authproxy as a share of others\n"
    yield (
        "Of the first figure in each table below, mostly CPU time: 0.50 is half of theirs. Where the"
        " rounds of two overlap, call it a draw.\n"
    )
    yield _row("scenario", "measured", *(f"of {each}" for each in references))
    yield _row(*["---"] * 2, *["--:"] * len(references))
    for scenario in measured:
        shares = [
            found.ratio(scenario.cost, (scenario.name, OURS), (scenario.name, each)) for each in references
        ]
        if any(share is not None for share in shares):
            yield _row(scenario.title, FIGURES[scenario.cost][0], *map(_share, shares))


TITLES = {scenario.name: scenario.title for scenario in SCENARIOS}


def _differences(found: Results, measured: list[Scenario]) -> Iterator[str]:
    names = [each for each in (OURS, BASELINE, *REFERENCES) if each in found.proxies("small")]
    chosen = [each for each in measured if each.compared_with]
    if not chosen or not names:
        return
    yield "\n### What it costs each\n"
    yield "CPU time a request, as a multiple of the same proxy's in another scenario.\n"
    yield _row("scenario", "beside", *names)
    yield _row("---", "---", *["--:"] * len(names))
    for scenario in chosen:
        plain = scenario.compared_with or ""
        ratios = [found.ratio(scenario.cost, (scenario.name, name), (plain, name)) for name in names]
        yield _row(scenario.title, TITLES[plain], *map(_share, ratios))


def _costs(found: Results) -> Iterator[str]:
    chosen = [each for each in SCENARIOS if each.cost == "cpu_us" and found.proxies(each.name)]
    names = [each for each in (OURS, *REFERENCES) if any(each in found.proxies(s.name) for s in chosen)]
    yield _row("a million of", *(f"{each}: CPU s" for each in names), "authproxy, USD")
    yield _row("---", *["--:"] * (len(names) + 1))
    for scenario in chosen:
        seconds = [found.median(scenario.name, name, scenario.cost) for name in names]
        dollars = f"{seconds[0] * DOLLARS / 3600:.5f}" if names[0] == OURS and seconds[0] else ""
        yield _row(scenario.title, *("" if each is None else f"{each:.0f}" for each in seconds), dollars)


def _table(found: Results, scenario: Scenario) -> Iterator[str]:
    speed = next((each for each in scenario.columns if each in SPEEDS), None)
    shares = ["ours ÷ theirs", *([f"ours ÷ theirs, {FIGURES[speed][0]}"] if speed else [])]
    columns = [FIGURES[each][0] for each in scenario.columns]
    yield f"\n### {scenario.title[0].upper()}{scenario.title[1:]}\n"
    yield _row("proxy", FIGURES[scenario.cost][0], "rounds", *shares, *columns)
    yield _row("---", *["--:"] * (2 + len(shares) + len(columns)))
    for name in sorted(
        found.proxies(scenario.name), key=lambda each: found.median(scenario.name, each, scenario.cost) or 0
    ):
        here = (scenario.name, name)
        values = found.values(*here, scenario.cost).values()
        spread = f"{shown(scenario.cost, min(values))} … {shown(scenario.cost, max(values))}"
        ratios = [found.ratio(each, (scenario.name, OURS), here) for each in (scenario.cost, speed) if each]
        told = [_shown(each, found.median(*here, each)) for each in (scenario.cost, *scenario.columns)]
        yield _row(f"**{name}**" if name == OURS else name, told[0], spread, *map(_share, ratios), *told[1:])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _share(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _shown(figure: str, value: float | None) -> str:
    return "" if value is None else shown(figure, value)


# ── charts ───────────────────────────────────────────────────────────────────────────────────────


def _charts(found: Results) -> Iterator[tuple[str, str]]:
    for name in ("small", "idle", "start"):
        scenario = next(each for each in SCENARIOS if each.name == name)
        if bars := _bars(found, scenario):
            most = CUT_OFF * (found.median(name, OURS, scenario.cost) or inf)
            yield name, chart.draw(CHART_NAMES[name], [Group("", bars)], most=most)
    shares = [
        Group(
            scenario.title,
            [
                Bar(f"of {reference}", ratio, f"{ratio:.2f}", reference)
                for reference in REFERENCES[1:]
                if (ratio := found.ratio(scenario.cost, (scenario.name, OURS), (scenario.name, reference)))
            ],
        )
        for scenario in SCENARIOS
        if scenario.cost.startswith("cpu")
    ]
    if shares := [each for each in shares if each.bars]:
        yield "shares", chart.draw(CHART_NAMES["shares"], shares, marks=(0.5, 1.0), most=CUT_OFF)
    latency = [
        Group(scenario.title, _bars(found, scenario, "p99_ms"))
        for scenario in SCENARIOS
        if scenario.name in {"one", "small", "many", "post", "tokens"}
    ]
    if latency := [each for each in latency if each.bars]:
        yield "latency", chart.draw(CHART_NAMES["latency"], latency)


def _bars(found: Results, scenario: Scenario, figure: str = "") -> list[Bar]:
    figure = figure or scenario.cost
    told = [(name, found.median(scenario.name, name, figure)) for name in found.proxies(scenario.name)]
    kept = [(name, value) for name, value in told if value is not None]
    return [
        Bar(name, value, shown(figure, value), name) for name, value in sorted(kept, key=lambda each: each[1])
    ]
