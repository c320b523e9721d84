"""What `docs/security.md` says is proved by a test is proved by one that there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECURITY = (ROOT / "docs/security.md").read_text("utf-8")
ROWS = [line for line in SECURITY.splitlines() if line.startswith("| ") and line.count("|") == 4]
THREATS = [row.split("|")[1:4] for row in ROWS if not row.startswith("| threat |")]
BY_ITSELF = "the workflow itself"


def defined() -> set[str]:
    texts = (path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"\btest_\w+", SECURITY))
    assert named
    assert named - defined() == set()


@pytest.mark.parametrize("threat", THREATS, ids=[threat.strip()[:60] for threat, _, _ in THREATS])
def test_every_threat_says_what_is_done_and_what_proves_it(threat: list[str]) -> None:
    _, done, proof = (part.strip() for part in threat)
    assert done
    assert re.search(r"`test_\w+`", proof) or proof == BY_ITSELF
