"""The table of `make mutants` fits the code: what it takes out is there, once, and so are the tests."""

import subprocess
import sys

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant
from tests.support.mutant_rows import CHOOSES_NONE, selection


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_what_a_mutant_takes_out_is_there(mutant: Mutant) -> None:
    assert mutant.place(ROOT).is_file()
    files, _ = selection(mutant)
    assert files
    assert all((ROOT / file).exists() for file in files)


def test_every_mutant_has_tests_that_there_are() -> None:
    files = {file for mutant in MUTANTS for file in selection(mutant)[0]}
    plugin = selection.__module__
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", plugin, *sorted(files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "tests/live/test_parsing.py: " in done.stdout, "it has collected nothing"
    assert [line for line in done.stdout.splitlines() if line.startswith(CHOOSES_NONE)] == []
