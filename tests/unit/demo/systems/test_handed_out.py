"""A token from the vendor's pages is good until it is revoked, however late that is."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from authproxy.demo.standin import Received
from authproxy.demo.systems.handed_out import HandedOut


class Vendor(HandedOut):
    name = "vendor"

    def sent(self, received):
        return received.headers.get("X-Key")


@pytest.fixture
def vendor(clock):
    return Vendor(clock=clock)


def request(key=None):
    return Received("GET", "/", CIMultiDictProxy(CIMultiDict({"X-Key": key} if key else {})))


def test_it_does_not_end_by_itself(vendor, clock):
    clock.advance(10**9)
    assert vendor.refusal(request(vendor.handed_out)) is None


def test_another_one_none_and_a_revoked_one_are_refused(vendor):
    vendor_s = vendor.handed_out
    assert vendor.refusal(request("made up")).status == 401
    assert vendor.refusal(request()).status == 401
    vendor.revoke()
    assert vendor.refusal(request(vendor_s)).status == 401


def test_it_is_the_same_in_every_process(vendor):
    assert vendor.handed_out == Vendor().handed_out
