"""How token requests go over HTTP: limits, TLS, HTTP proxies, and what a failure is called."""

import asyncio
import ssl

import aiohttp

from authproxy.errors import BadTokenReply, TokenError, TokenUnavailable
from authproxy.grants.client import TooLong
from authproxy.grants.steps import Ask, ClientCertificate
from authproxy.net.http_proxy import ADVICE, HTTPProxy, Setting, proxy_for
from authproxy.net.own_listeners import OwnListeners

CONNECT_TIMEOUT = 10.0  # seconds
TOTAL_TIMEOUT = 30.0
MAX_REPLY = 1 << 20  # bytes
PROXY_REFUSED = 407


async def client_tls(certificate: ClientCertificate) -> ssl.SSLContext:
    """Return a context that shows `certificate`, read anew: it may have been replaced."""

    def load() -> ssl.SSLContext:
        context = ssl.create_default_context()
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate.cert_file, certificate.key_file, password="")
        return context

    try:
        return await asyncio.to_thread(load)
    except OSError as error:
        raise TokenUnavailable(
            f"the client certificate in {certificate.cert_file} cannot be used",
            hint="cert_file and key_file should be PEM, belong together, and not be encrypted",
        ) from error


async def read_up_to(stream: aiohttp.StreamReader | asyncio.StreamReader, limit: int, place: str) -> bytes:
    chunks, size = [], 0
    while chunk := await stream.read(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise BadTokenReply(f"{place} sent more than {limit >> 20} MiB")
    return b"".join(chunks)


_TROUBLES: tuple[tuple[tuple[type[Exception], ...], str, str | None], ...] = (
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError),
        "the TLS certificate of {} is not acceptable",
        "name its CA in SSL_CERT_FILE, or correct the URL",
    ),
    (
        (aiohttp.ClientConnectorDNSError,),
        "the host name of {} does not resolve",
        "check the URL and the network",
    ),
    ((aiohttp.ClientConnectorError,), "cannot connect to {}", "check the URL, and whether it is up"),
    ((aiohttp.ServerDisconnectedError,), "{} closed the connection without an answer", None),
    ((aiohttp.ClientPayloadError,), "{} broke off its answer", None),
    ((TooLong,), "{} sent more than the answer of a token endpoint can be", None),
    ((aiohttp.InvalidURL,), "{} is not a URL that can be asked", "check the URL"),
)


def translated(error: Exception, place: str) -> TokenError:
    """Return the `TokenError` for a foreign error, without the foreign text: that may quote a header."""
    for kinds, sentence, hint in _TROUBLES:
        if isinstance(error, kinds):
            return TokenUnavailable(sentence.format(place), hint=hint)
    return TokenUnavailable(f"{place} did not answer in HTTP ({type(error).__name__})")


def proxy_to(ask: Ask, http_proxy: Setting, own: OwnListeners) -> HTTPProxy | None:
    try:
        return proxy_for(ask.url, http_proxy, own=own)
    except ValueError as error:
        raise TokenUnavailable(f"no way to {ask.place}: {error}", hint=ADVICE) from None


def no_way(proxy: HTTPProxy, place: str) -> TokenUnavailable:
    return TokenUnavailable(f"the HTTP proxy {proxy} does not lead to {place}", hint=ADVICE)
