"""What a client says that does not trust us, and how often that is told."""

import ssl
from types import SimpleNamespace

import pytest

from authproxy.proxy.forward.interception import AGAIN_SECONDS, MAX_HOSTS, Distrust, Landing, alert_of


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "unknown ca"),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "certificate unknown"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "bad certificate"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "protocol version"),
        ("HTTP_REQUEST", None),
        (None, None),
    ],
)
def test_an_alert_is_told_in_words(reason, said):
    error = ssl.SSLError(1, "no")
    error.reason = reason
    assert alert_of(error) == said
    assert alert_of(ConnectionResetError()) is None


@pytest.fixture
def world(caplog):
    caplog.set_level("INFO")
    clock = SimpleNamespace(now=1000.0)
    clock.distrust = Distrust(lambda: clock.now)
    clock.told = lambda: [(each.levelname, each.getMessage(), each.facts["host"]) for each in caplog.records]
    return clock


def test_a_refused_certificate_is_a_warning_now_and_then_for_each_host(world):
    said = ("WARNING", "the client refused our certificate: unknown ca")
    for host in ("a.example", "a.example", "b.example"):
        world.distrust.note(host, "unknown ca", "trust us")
    assert world.told() == [(*said, "a.example"), (*said, "b.example")]
    world.now += AGAIN_SECONDS
    world.distrust.note("a.example", "unknown ca", "trust us")
    assert len(world.told()) == 3


def test_what_is_not_about_our_certificate_is_no_warning(world):
    world.distrust.note("a.example", "the client closed the connection", "")
    world.distrust.note("a.example", "protocol version", "")
    assert {level for level, *_ in world.told()} == {"INFO"}


def test_one_that_leaves_without_a_word_is_told_of_beside_one_that_refuses_us(world):
    for _ in range(2):
        world.distrust.left("a.example", "trust us")
    world.distrust.note("a.example", "unknown ca", "trust us")
    assert [level for level, *_ in world.told()] == ["INFO", "WARNING"]


def test_what_else_goes_wrong_is_a_warning_now_and_then(world):
    for _ in range(2):
        world.distrust.warn("a.example", "it speaks TLS", "do not")
    assert world.told() == [("WARNING", "it speaks TLS", "a.example")]


def test_so_many_hosts_are_remembered_and_no_more(world):
    for number in range(MAX_HOSTS + 10):
        world.distrust.note(f"h{number}.example", "unknown ca", "")
    assert len(world.distrust._said) <= MAX_HOSTS


def test_what_comes_before_the_connection_goes_on_is_kept():
    landing = Landing()
    landing.data_received(b"GET ")
    landing.data_received(b"/")
    assert (landing.data, landing.is_lost) == (b"GET /", False)
    landing.connection_lost(None)
    assert landing.is_lost
