"""The parts in which `make unit` runs the unit tests."""

from functools import cache
from pathlib import Path

UNIT = Path(__file__).parent.parent / "unit"


@cache
def files_of(part: str) -> frozenset[Path]:
    """Return the files of a part, K/N: of neighbours, which take about as long, each part gets one."""
    number, parts = map(int, part.split("/"))
    return frozenset(sorted(UNIT.rglob("test_*.py"))[number - 1 :: parts])
