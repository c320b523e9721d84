"""Of many cases in one test none is lost."""

import pytest

from tests.support.cases import every_case


def test_each_case_that_fails_is_told_of_by_its_name():
    with pytest.raises(BaseExceptionGroup) as caught, every_case() as case:
        for name in ("one", "two", "three", "four"):
            with case(name):
                assert name == "one"
    assert [each.__notes__ for each in caught.value.exceptions] == [
        ["case: two"],
        ["case: three"],
        ["case: four"],
    ]


def test_what_should_have_been_raised_is_a_failure_like_any_other():
    with pytest.raises(BaseExceptionGroup, match="1 of 2 cases"), every_case() as case:
        for name in (True, False):
            with case(name), pytest.raises(KeyError):
                if name:
                    raise KeyError


def test_no_case_at_all_is_a_failure():
    with pytest.raises(AssertionError, match="no cases"), every_case():
        pass
