"""Of many cases in one test none is lost."""

import pytest

from tests.support.cases import every_case


def each_is_raised(*kinds):
    """Expect a KeyError of each case; there are as many as `kinds`, of which None raises nothing."""
    with every_case() as case:
        for number, kind in enumerate(kinds):
            with case(number), pytest.raises(KeyError):
                raise_one(kind)


def raise_one(kind):
    if kind is not None:
        raise kind


def test_each_case_that_fails_is_told_of_by_its_name():
    with pytest.raises(BaseExceptionGroup, match="2 of 4 cases") as caught:
        each_is_raised(KeyError, ValueError, KeyError, None)
    failed = caught.value.exceptions
    assert [type(each) for each in failed] == [ValueError, pytest.fail.Exception]
    assert [each.__notes__ for each in failed] == [["case: 1"], ["case: 3"]]


def test_where_all_is_well_nothing_is_told():
    each_is_raised(KeyError, KeyError)


def test_no_case_at_all_is_a_failure():
    with pytest.raises(AssertionError, match="no cases"):
        each_is_raised()
