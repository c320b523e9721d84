"""How token requests go over HTTP: limits, TLS, HTTP proxies.

Redirects are never followed, a reply is read up to 1 MiB, and nothing is sent twice: a token request that is
repeated on a stale connection would be a second login.
"""

import asyncio
import ssl

import aiohttp
from yarl import URL

from authproxy import __version__
from authproxy.errors import TokenLoop, TokenUnavailable
from authproxy.grants.client import client_session
from authproxy.grants.discovery import Server, discover
from authproxy.grants.reply import MAX_REPLY, TOTAL_TIMEOUT, read_up_to
from authproxy.grants.steps import Answer, Ask, ClientCertificate
from authproxy.grants.transport import USUAL, Transport
from authproxy.grants.unreachable import CONNECT_TIMEOUT, no_way, translated
from authproxy.net.dial import look_up
from authproxy.net.http_proxy import ADVICE, HTTPProxy, Setting, proxy_for
from authproxy.net.key_pair import UNUSABLE
from authproxy.net.own_listeners import OwnListeners
from authproxy.net.tls import upstream_context
from authproxy.net.tls_settings import TLSSettings
from authproxy.tokens.source import Clock

PROXY_REFUSED = 407
CERTIFICATE_HINT = (
    "`ca_file`, `cert_file` and `key_file` should be PEM; the last two belong together, and are not encrypted"
)
DISCOVERY_LASTS = 3600.0  # seconds


class TokenEndpointClient:
    """Makes the requests of flows. None of `own`, the proxy's listeners, is ever asked."""

    def __init__(self, own: OwnListeners, clock: Clock) -> None:
        self._own = own
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        # What each issuer publishes, and since when we know.
        self._servers: dict[tuple[str, TLSSettings], tuple[float, Server]] = {}

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, ask: Ask, transport: Transport) -> Answer:
        """Return the answer to `ask`. Raises `TokenError`."""
        place = ask.place
        proxy = proxy_to(ask, transport.http_proxy, self._own)
        # aiohttp sends a proxy's headers with CONNECT; where there is none, the request itself carries them.
        forwarded = proxy.headers if proxy is not None and ask.url.startswith("http:") else {}
        tls = transport.tls_to(ask.url)
        context = await tls_context(tls, ask.client_certificate)
        asked_at = self._clock()
        try:
            await self._refuse_loops(ask, proxy)
            async with self._client().request(
                ask.method,
                URL(ask.url, encoded=True),
                data=ask.body,
                headers={"User-Agent": f"authproxy/{__version__}", **ask.headers, **forwarded},
                skip_auto_headers=("Content-Type", "Accept-Encoding"),
                allow_redirects=False,
                proxy=str(proxy) if proxy is not None else None,
                proxy_headers=proxy.headers if proxy is not None else None,
                ssl=context or True,
                server_hostname=tls.server_name,
            ) as response:
                if response.status == PROXY_REFUSED and proxy is not None:
                    raise no_way(proxy, place)
                body = await read_up_to(response.content, MAX_REPLY, place)
                status, headers = response.status, response.headers
                return Answer(
                    body, asked_at, place, status, headers, secrets=ask.secrets, setting=ask.setting
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a timeout is an OSError
            raise translated(error, ask, proxy) from error

    async def _refuse_loops(self, ask: Ask, proxy: HTTPProxy | None) -> None:
        """Raise `TokenLoop` when `ask` would come back to ourselves."""
        url = URL(ask.url, encoded=True)
        host, port = (proxy.host, proxy.port) if proxy is not None else (url.host or "", url.port or 0)
        if not self._own.listens_at(port):
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                found = await look_up(host, port)
        except (OSError, UnicodeError):  # a timeout is one as well; who asks hears of it
            return
        if any(self._own.reached_by(each[4]) for each in found):
            what = f"the HTTP proxy {proxy}" if proxy is not None else ask.place
            raise TokenLoop(
                f"{what} is one of authproxy's own listeners: requests would come back to it",
                hint=ADVICE if proxy is not None else "name the token endpoint's own address",
            )

    async def discover(self, issuer: str, transport: Transport) -> Server:
        """Return what the issuer publishes; what is known already is good for an hour.

        What was heard by one `tls` is not believed by another, which may verify more.
        """
        found_at, known = self._servers.get((issuer, tls := transport.tls_to(issuer)), (0.0, None))
        if known is not None and abs(self._clock() - found_at) < DISCOVERY_LASTS:
            return known
        talk = discover(issuer)
        ask = next(talk)
        try:
            while True:
                ask = talk.send(await self.ask(ask, transport))
        except StopIteration as end:
            server: Server = end.value
        self._servers[issuer, tls] = self._clock(), server
        return server

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = client_session(
                aiohttp.ClientTimeout(
                    total=TOTAL_TIMEOUT, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT
                )
            )
        return self._session


async def tls_context(tls: TLSSettings, certificate: ClientCertificate | None) -> ssl.SSLContext | None:
    """Return a context by `tls` that shows `certificate`, or its own; None where the usual one will do.

    Files are read anew: they may have been replaced. Raises `TokenUnavailable`.
    """
    if tls == USUAL and certificate is None:
        return None
    try:
        return await asyncio.to_thread(token_endpoint_context, tls, certificate)
    except UNUSABLE as error:
        raise TokenUnavailable(_unusable(tls, certificate), hint=CERTIFICATE_HINT) from error


def _unusable(tls: TLSSettings, certificate: ClientCertificate | None) -> str:
    """Return which files it must be that no context can be made of."""
    if certificate is not None:
        return f"the client certificate in {certificate.cert_file} cannot be used"
    return f"the certificates in {' and '.join(tls.files)} cannot be used"


def token_endpoint_context(tls: TLSSettings, certificate: ClientCertificate | None) -> ssl.SSLContext:
    """Return how to speak TLS by `tls`, and show `certificate` or its own. Raises one of `UNUSABLE`."""
    shown = certificate or tls
    return upstream_context(
        ca_file=tls.ca_file, cert_file=shown.cert_file, key_file=shown.key_file, verify=tls.verify
    )


def proxy_to(ask: Ask, http_proxy: Setting, own: OwnListeners) -> HTTPProxy | None:
    try:
        return proxy_for(ask.url, http_proxy, own=own)
    except ValueError as error:
        raise TokenUnavailable(f"no way to {ask.place}: {error}", hint=ADVICE) from None
