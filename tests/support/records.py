"""Records of finished requests, for who subscribes to them."""

from authproxy.observe.record import RequestRecord

ORDINARY = RequestRecord(
    ended=1_700_000_000.0,
    seconds=0.1,
    route="up42",
    method="GET",
    path="/v2/x",
    status=200,
    sent=12,
    retried=False,
    cause=None,
)


def record(**changes):
    """Return the record of an ordinary request, with `changes`."""
    return ORDINARY._replace(**changes)
