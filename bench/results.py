"""What was measured: samples, their medians, and ratios within a round; as JSON and back."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

Figures = dict[str, float]

FIGURES = {  # name: what a table calls it, and how it is written
    "cpu_us": ("CPU µs a request", "{:.1f}"),
    "cpu_us_event": ("CPU µs an event", "{:.1f}"),
    "cpu_s_gib": ("CPU s/GiB", "{:.2f}"),
    "idle_kib": ("KiB a connection", "{:.1f}"),
    "start_ms": ("ms to listening", "{:.0f}"),
    "answer_ms": ("ms to the first answer", "{:.0f}"),
    "start_cpu_ms": ("CPU ms", "{:.0f}"),
    "rps": ("requests/s", "{:,.0f}"),
    "eps": ("events/s", "{:,.0f}"),
    "gb_s": ("GB/s", "{:.2f}"),
    "p50_ms": ("p50 ms", "{:.2f}"),
    "p99_ms": ("p99 ms", "{:.2f}"),
    "max_ms": ("longest ms", "{:.0f}"),
    "peak_mib": ("peak MiB", "{:.0f}"),
    "rss_mib": ("MiB", "{:.0f}"),
    "errors": ("not 2xx", "{:.2%}"),
    "tokens_s": ("tokens/s", "{:.2f}"),
}
SPEEDS = ("rps", "eps", "gb_s")  # more is better


def shown(name: str, value: float) -> str:
    """Return a figure as text."""
    return FIGURES[name][1].format(value)


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one proxy in one scenario."""

    scenario: str
    proxy: str
    round: int
    figures: Figures


@dataclass(slots=True)
class Results:
    """All samples of a run, and what it was run on. `remarks` say who did not take part, and why."""

    machine: dict[str, str]
    command: str
    versions: dict[str, str]
    samples: list[Sample] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def values(self, scenario: str, proxy: str, figure: str) -> dict[int, float]:
        """Return a figure by round."""
        return {
            each.round: each.figures[figure]
            for each in self.samples
            if (each.scenario, each.proxy) == (scenario, proxy) and figure in each.figures
        }

    def proxies(self, scenario: str) -> list[str]:
        """Return who was measured in `scenario`, in the order of the first round."""
        return list(dict.fromkeys(each.proxy for each in self.samples if each.scenario == scenario))

    def median(self, scenario: str, proxy: str, figure: str) -> float | None:
        """Return the median of the rounds; None when there is none."""
        values = self.values(scenario, proxy, figure).values()
        return median(values) if values else None

    def ratio(self, figure: str, one: tuple[str, str], other: tuple[str, str]) -> float | None:
        """Return the median of the ratios within each round; `one` and `other` are scenario and proxy."""
        ours, theirs = self.values(*one, figure), self.values(*other, figure)
        ratios = [ours[each] / theirs[each] for each in ours.keys() & theirs.keys() if theirs[each]]
        return median(ratios) if ratios else None

    def remark(self, text: str) -> None:
        """Keep `text`, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1))


def load(file: Path) -> Results:
    """Return the results that were saved in `file`."""
    data = json.loads(file.read_text())
    return Results(**data | {"samples": [Sample(**each) for each in data["samples"]]})
