"""A request as the handler gets it."""

from types import SimpleNamespace

import pytest
from aiohttp.http import HttpVersion11
from authproxy.proxy.downstream.incoming import Incoming


class Payload:
    failure = None

    def set_exception(self, failure):
        self.failure = failure


def incoming(*, close=False, sockname=None):
    message = SimpleNamespace(
        method="PUT",
        path="/x?password=s3cr3t",
        version=HttpVersion11,
        headers={"Host": "a"},
        raw_headers=((b"Host", b"a"),),
        should_close=close,
    )
    transport = SimpleNamespace(get_extra_info={"sockname": sockname}.get)
    return Incoming(message, Payload(), SimpleNamespace(transport=transport))


@pytest.mark.parametrize("close", [False, True])
def test_it_is_what_was_parsed(close):
    asked = incoming(close=close)
    assert (asked.method, asked.target, asked.version) == ("PUT", "/x?password=s3cr3t", HttpVersion11)
    assert (asked.headers, asked.raw_headers) == ({"Host": "a"}, ((b"Host", b"a"),))
    assert asked.keep_alive is not close


@pytest.mark.parametrize(
    ("sockname", "address"),
    [(("10.1.2.3", 8080), "10.1.2.3"), (("fd00::1", 8080, 0, 0), "fd00::1"), ("/run/x", None), (None, None)],
)
def test_it_knows_at_which_address_the_client_came_in(sockname, address):
    assert incoming(sockname=sockname).local_address == address


def test_a_client_that_is_gone_ends_the_body_for_who_reads_it():
    asked = incoming()
    gone = ConnectionResetError()
    asked._cancel(gone)
    assert asked.payload.failure is gone


def test_its_repr_tells_no_target():
    assert repr(incoming()) == "<Incoming PUT>"
