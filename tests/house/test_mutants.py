"""The table of `make mutants` fits the code: what it takes out is there, once."""

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_what_a_mutant_takes_out_is_there(mutant: Mutant) -> None:
    assert mutant.place(ROOT).is_file()
    named = [word for word in mutant.tests.split() if word.startswith("tests/")]
    assert named
    assert all((ROOT / word).exists() for word in named)
