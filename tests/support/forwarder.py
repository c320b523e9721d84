"""A company's network: an HTTP proxy that alone knows where names lead, and certificates of its own."""

import base64
import ssl
import threading

import trustme

from tests.support.launch import GUARD
from tests.support.wire import Message, Upstream, Wire, connect, reply


class Forwarder(Upstream):
    """An HTTP proxy: tunnels and forwards to `places` (`host:port` to a port of this machine).

    With `user` it wants that one, in `USER:PASSWORD`. `requests` holds what it was asked itself.
    """

    def __init__(self, places: dict[str, int], user: str | None = None) -> None:
        super().__init__(self._serve_one)
        self.places = places
        self._wanted = f"Basic {base64.b64encode(user.encode()).decode()}" if user else None

    @property
    def asked(self) -> list[str]:
        return [came.start.decode() for came in self.requests]

    def _serve_one(self, came: Message, wire: Wire) -> bytes | None:
        if self._wanted and came.one("Proxy-Authorization") != self._wanted:
            return reply("407 Who Are You", "Proxy-Authenticate: Basic", body=b"no")
        if came.method == "CONNECT":
            return self._tunnel(came.target, wire)
        place, slash, path = came.target.removeprefix("http://").partition("/")
        lines = [b"%b: %b" % pair for pair in came.headers if not pair[0].lower().startswith(b"proxy-")]
        with connect(f"http://127.0.0.1:{self.places[place if ':' in place else f'{place}:80']}") as beyond:
            target = f"{slash}{path}" or "*"
            beyond.send(b"\r\n".join([f"{came.method} {target} HTTP/1.1".encode(), *lines, b"", came.body]))
            answer = beyond.answer(to_head=came.method == "HEAD")
        return answer.head + answer.body

    def _tunnel(self, place: str, wire: Wire) -> None:
        with connect(f"http://127.0.0.1:{self.places[place]}") as beyond:
            wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self._copy, args=(beyond, wire), daemon=True)
            back.start()
            self._copy(wire, beyond)
            back.join(GUARD)

    @staticmethod
    def _copy(one: Wire, other: Wire) -> None:
        try:
            while piece := one.read():
                other.send(piece)
            other.sock.shutdown(1)
        except OSError:
            pass


def server_tls(ca: trustme.CA, name: str) -> ssl.SSLContext:
    """Return what a server is to show that is called `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context
