"""How token requests go: by which HTTP proxy, and how TLS is spoken to whom they reach."""

from collections.abc import Iterable
from dataclasses import dataclass

from authproxy.net.http_proxy import Setting
from authproxy.net.tls_settings import TLSSettings
from authproxy.values import split_url

USUAL = TLSSettings()


@dataclass(frozen=True, slots=True)
class Transport:
    """`tls` holds for the host `only_for` (in lower case); for every server where that is None."""

    http_proxy: Setting = None
    tls: TLSSettings = USUAL
    only_for: str | None = None

    def tls_to(self, url: str) -> TLSSettings:
        """Return how TLS is spoken to the host of `url`."""
        if self.only_for is None or split_url(url).hostname == self.only_for:
            return self.tls
        return USUAL

    def tls_of_its_own(self, urls: Iterable[str]) -> TLSSettings | None:
        """Return `tls` if it is the route's and one of `urls` is asked by it, and not as any server is."""
        is_the_routes = self.only_for is not None and self.tls != USUAL
        return self.tls if is_the_routes and any(self.tls_to(url) is self.tls for url in urls) else None


DIRECT = Transport()
"""By the environment's HTTP proxy, if it names one; TLS as to any server."""
