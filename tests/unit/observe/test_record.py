"""The record of a finished request: what is in it, and that nobody can change it."""

import pytest

from authproxy.observe.record import RequestRecord
from tests.support.records import record


def test_who_gets_a_record_cannot_change_it_for_the_others():
    with pytest.raises(AttributeError):
        record().status = 500


def test_no_header_no_query_and_no_body_is_in_a_record():
    assert set(RequestRecord._fields) == {
        "ended", "seconds", "route", "method", "path", "status", "sent", "retried", "cause",
    }  # fmt: skip
