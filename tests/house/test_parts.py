"""The parts in which `make unit` runs the unit tests."""

from collections import Counter

import pytest

from tests.support.parts import UNIT, files_of


@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_every_file_of_the_unit_tests_is_in_one_part(parts):
    found = Counter(each for number in range(parts) for each in files_of(f"{number + 1}/{parts}"))
    assert found == Counter(UNIT.rglob("test_*.py"))
    assert all(files_of(f"{number + 1}/{parts}") for number in range(parts))
