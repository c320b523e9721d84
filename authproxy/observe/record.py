"""What is known of one request once it is answered; made once, and handed to everybody who wants to know.

handler ─▶ RequestRecord ─┬─▶ counters.py     what /metrics shows
                          └─▶ access_log.py   a line of the log
"""

from collections.abc import Callable
from typing import NamedTuple


class RequestRecord(NamedTuple):
    """One finished request. It holds no header, no query and no body.

    `ended` is in epoch seconds, `seconds` how long it took. `route` is None when it was refused before one
    was found, `status` is 0 when nothing was answered. `sent` counts the bytes of the answer's body that went
    out; `cause` says what went wrong, if something did.
    """

    ended: float
    seconds: float
    route: str | None
    method: str
    path: str
    status: int
    sent: int
    retried: bool
    cause: str | None


Subscriber = Callable[[RequestRecord], None]
