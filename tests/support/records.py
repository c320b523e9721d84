"""Records of finished requests, for who subscribes to them."""

from authproxy.observe.record import RequestRecord

ORDINARY = RequestRecord(
    at=1_700_000_000.0,
    seconds=0.1,
    route="up42",
    method="GET",
    path="/v2/x",
    status=200,
    sent=12,
    retried=False,
    cause=None,
    started=50.0,
    target="/v2/x",
    head=b"Host: localhost\r\n",
    answer=b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n",
    facts=None,
    token=None,
    received=0,
    notes=None,
)


def record(**changes):
    """Return the record of an ordinary request, with `changes`."""
    return ORDINARY._replace(**changes)
