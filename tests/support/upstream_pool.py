"""Stand-ins for a pool of connections to an upstream, and for these, seen from `authproxy.proxy.send`."""

import asyncio

from authproxy.proxy.upstream.connection import ClosedUnanswered


class Reply:
    """A reply: a status, or what goes wrong instead."""

    def __init__(self, outcome=200, headers=(), *, complete=True):
        self.outcome = outcome
        self.headers = headers
        self.complete = complete
        self.closed = False
        self.status = outcome if isinstance(outcome, int) else 0

    async def head(self):
        await asyncio.sleep(0)
        if isinstance(self.outcome, Exception):
            raise self.outcome

    def close(self):
        self.closed = True


def dead():
    """Return the reply of a kept connection that was closed meanwhile."""
    return Reply(ClosedUnanswered("gone"))


class Connection:
    """Notes a request, and gives the next of its pool's replies."""

    exchanges = 0

    def __init__(self, pool):
        self.pool = pool
        self.said = b""
        self.takes = True
        self.done = None
        self.failure = None
        self.aborted = False

    def begin(self, data, **settings):
        self.said, self.settings = data, settings
        self.more = settings["more"]
        self.pool.requests.append(self)
        self.reply = self.pool.answer(self)
        return self.reply

    async def send(self, data):
        if self.takes:
            self.said += data
        return self.takes

    def sent(self, seconds):
        self.more, self.done = False, seconds

    def fail(self, failure):
        self.failure = failure

    def abort(self):
        self.aborted = True

    @property
    def credential(self):
        """The header line after the request's first."""
        return self.said.partition(b"\r\n")[2].partition(b"\r\n\r\n")[0].decode()


class Pool:
    """Has `idle` connections at hand, and new ones by `connect`; `replies` may be statuses or errors."""

    def __init__(self, *replies, idle=0):
        self.replies = [each if isinstance(each, Reply) else Reply(each) for each in replies]
        self.all = list(self.replies)
        self.requests = []
        self.idle = idle
        self.connects = 0
        self.looked = []
        self.lent = []

    def answer(self, _request):
        return self.replies.pop(0)

    def take(self, *, check_liveness):
        self.looked.append(check_liveness)
        if not self.idle:
            return None
        self.idle -= 1
        return self._lend()

    async def connect(self):
        self.connects += 1
        await asyncio.sleep(0)
        return self._lend()

    def _lend(self):
        self.lent.append(Connection(self))
        return self.lent[-1]

    @property
    def credentials(self):
        return [request.credential for request in self.requests]
