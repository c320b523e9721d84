"""The way through an HTTP proxy that asks the upstream itself.

Each request names its whole URL (RFC 9112 §3.2.2). Plain http goes so, as many proxies tunnel to port
443 only; TLS and upgrades go through a tunnel (`net/http_tunnel.py`). The proxy's password goes into each
request, and no further than the proxy.
"""

from dataclasses import dataclass

from authproxy.errors import ConnectFailure
from authproxy.net.http_proxy import HTTPProxy
from authproxy.net.http_tunnel import REFUSED, refusal


@dataclass(frozen=True, slots=True)
class Forwarding:
    """How a proxy is asked to forward requests to `origin`, such as `http://api.example:8080`."""

    proxy: HTTPProxy
    origin: str

    def addressed(self, data: bytes) -> bytes:
        """Return the first bytes of a request, as the proxy wants them."""
        method, target, rest = data.split(b" ", 2)
        version, _, lines = rest.partition(b"\r\n")
        if target == b"*":  # that is said by a URL without a path (RFC 9112 §3.2.4)
            target = b""
        start = b"%b %b%b %b\r\n" % (method, self.origin.encode("ascii"), target, version)
        return b"".join((start, self.proxy.header_lines, lines))

    def refusal(self) -> ConnectFailure:
        """Return the error for a 407: that is the proxy's own answer, never the upstream's."""
        return refusal(self.proxy, REFUSED, f"a request to {self.origin}")
