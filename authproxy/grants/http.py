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
from authproxy.grants.unreachable import CONNECT_TIMEOUT, no_way, translated
from authproxy.net.dial import look_up
from authproxy.net.http_proxy import ADVICE, HTTPProxy, Setting, proxy_for
from authproxy.net.own_listeners import OwnListeners
from authproxy.net.tls import token_endpoint_context
from authproxy.tokens.source import Clock

PROXY_REFUSED = 407
CERTIFICATE_HINT = "`cert_file` and `key_file` should be PEM, belong together, and not be encrypted"
DISCOVERY_LASTS = 3600.0  # seconds


class TokenEndpointClient:
    """Makes the requests of flows. None of `own`, the proxy's listeners, is ever asked."""

    def __init__(self, own: OwnListeners, clock: Clock) -> None:
        self._own = own
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        # What each issuer publishes, and since when we know.
        self._servers: dict[str, tuple[float, Server]] = {}

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, ask: Ask, http_proxy: Setting) -> Answer:
        """Return the answer to `ask`. Raises `TokenError`."""
        place = ask.place
        proxy = proxy_to(ask, http_proxy, self._own)
        # aiohttp sends a proxy's headers with CONNECT; where there is none, the request itself carries them.
        forwarded = proxy.headers if proxy is not None and ask.url.startswith("http:") else {}
        tls = await client_tls(ask.client_certificate) if ask.client_certificate is not None else True
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
                ssl=tls,
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

    async def discover(self, issuer: str, http_proxy: Setting) -> Server:
        """Return what the issuer publishes; what is known already is good for an hour."""
        found_at, known = self._servers.get(issuer, (0.0, None))
        if known is not None and abs(self._clock() - found_at) < DISCOVERY_LASTS:
            return known
        talk = discover(issuer)
        ask = next(talk)
        try:
            while True:
                ask = talk.send(await self.ask(ask, http_proxy))
        except StopIteration as end:
            server: Server = end.value
        self._servers[issuer] = self._clock(), server
        return server

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = client_session(
                aiohttp.ClientTimeout(
                    total=TOTAL_TIMEOUT, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT
                )
            )
        return self._session


async def client_tls(certificate: ClientCertificate) -> ssl.SSLContext:
    """Return a context that shows `certificate`, read anew: it may have been replaced."""
    try:
        return await asyncio.to_thread(token_endpoint_context, certificate.cert_file, certificate.key_file)
    except OSError as error:
        raise TokenUnavailable(
            f"the client certificate in {certificate.cert_file} cannot be used",
            hint=CERTIFICATE_HINT,
        ) from error


def proxy_to(ask: Ask, http_proxy: Setting, own: OwnListeners) -> HTTPProxy | None:
    try:
        return proxy_for(ask.url, http_proxy, own=own)
    except ValueError as error:
        raise TokenUnavailable(f"no way to {ask.place}: {error}", hint=ADVICE) from None
