"""Which rows of `make mutants` choose no test: a plugin of a pytest that only collects.

pytest --collect-only -qq -p tests.support.mutant_rows tests/…
"""

import shlex

import pytest
from _pytest.mark import KeywordMatcher
from _pytest.mark.expression import Expression

from tests.mutants import MUTANTS, Mutant

CHOOSES_NONE = "chooses no test: "


def selection(mutant: Mutant) -> tuple[list[str], str]:
    """Return the files of a mutant's tests, and the expression that chooses among them; "" for all."""
    words = shlex.split(mutant.tests)
    expression = words[words.index("-k") + 1] if "-k" in words else ""
    return [word for word in words if word.startswith("tests/")], expression


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say so of each row."""
    for mutant in MUTANTS:
        files, expression = selection(mutant)
        compiled = Expression.compile(expression) if expression else None
        inside = [item for item in items if item.nodeid.startswith(tuple(files))]
        if not any(compiled is None or compiled.evaluate(KeywordMatcher.from_item(item)) for item in inside):
            print(f"{CHOOSES_NONE}{mutant.guard}")
