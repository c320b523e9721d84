"""What it is called that a token endpoint was not reached, or did not answer in HTTP; and what to do.

    what a library raised  ──▶  Failure  ──▶  a title, a sentence, a hint: tables with {place}, {url} …

`{url}` is the key of the configuration that the URL comes from. Foreign text is not passed on.
"""

import errno
import os

import aiohttp
from yarl import URL

from authproxy.errors import TokenError, TokenTimeout, TokenUnavailable
from authproxy.grants.client import SpeaksTLS, TooLong
from authproxy.grants.reply import TOTAL_TIMEOUT
from authproxy.grants.steps import Ask
from authproxy.net.failures import (
    IN_A_CONTAINER,
    NO_DESCRIPTORS_ADVICE,
    NO_TLS,
    TOKEN_ENDPOINT_SETTINGS,
    Failure,
    failure_of,
    tls_reason,
)
from authproxy.net.http_proxy import ADVICE, HTTPProxy
from authproxy.values import is_loopback

CONNECT_TIMEOUT = 10.0  # seconds
HANG_UPS = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})

NOT_TRUSTED = (
    Failure.AUTHORITY, Failure.EXPIRED, Failure.NOT_YET_VALID, Failure.OTHER_NAME, Failure.CERTIFICATE,
)  # fmt: skip
TITLES = {
    Failure.DNS: "Unknown token endpoint host",
    Failure.PLAIN_HTTP: "Token endpoint speaks plain http",
    Failure.SPEAKS_TLS: "Token endpoint speaks https",
    **dict.fromkeys(NOT_TRUSTED, "Token endpoint not trusted"),
}
"""Where "unavailable" would say too little."""

SENTENCES: dict[Failure, tuple[str, str]] = {
    Failure.URL: ("{place} is not a URL that can be asked", "check {url}"),
    Failure.DESCRIPTORS: (
        "authproxy has too many files and connections open to ask {place}",
        NO_DESCRIPTORS_ADVICE,
    ),
    Failure.DNS: (
        "the host name of {place} does not resolve",
        "check the host in {url}, and the network of this machine: DNS, VPN, a proxy (`http_proxy`)",
    ),
    Failure.CONNECT: (
        "cannot connect to {place}: {reason}",
        "check host and port in {url}, and whether the server is up",
    ),
    Failure.SPEAKS_TLS: ("{place} did not answer in HTTP, but in TLS", "write https:// in {url}"),
    Failure.CLOSED: ("{place} closed the connection without an answer", "check {url}: {scheme}"),
    Failure.CUT_SHORT: ("{place} broke off its answer", "authproxy tries again; check that server's own log"),
    Failure.NOT_HTTP: ("{place} did not answer in HTTP", "check {url}: {scheme}"),
    **{failure: ("no TLS with {place}: {tls}", hint) for failure, (_, hint) in NO_TLS.items()},
}


def translated(error: Exception, ask: Ask, proxy: HTTPProxy | None = None) -> TokenError:
    """Return the `TokenError` for a foreign error of a request that went by `proxy`, if by any."""
    if isinstance(error, TooLong):
        too_long = f"{ask.place} sent more than the answer of a token endpoint can be"
        return TokenUnavailable(too_long, hint=f"check `{ask.setting}`")
    failure = _failure(error, ask)
    if failure is Failure.TIMEOUT:
        return _too_late(error, ask)
    if failure is Failure.PROXY and proxy is not None:
        return no_way(proxy, ask.place)
    sentence, hint = SENTENCES.get(failure, SENTENCES[Failure.NOT_HTTP])
    if failure is Failure.CONNECT and is_loopback(URL(ask.url).host or ""):
        hint = f"{hint}; {IN_A_CONTAINER}"
    facts = _facts(error, failure, ask)
    return TokenUnavailable(sentence.format(**facts), title=TITLES.get(failure), hint=hint.format(**facts))


def _failure(error: Exception, ask: Ask) -> Failure:
    if isinstance(error, SpeaksTLS):
        return Failure.SPEAKS_TLS
    failure = failure_of(error, otherwise=Failure.NOT_HTTP)
    if failure is Failure.CONNECT and ask.url.startswith("https:") and _was_reset(error):
        return Failure.HANDSHAKE  # who takes no connection refuses it, or does not answer
    if failure is Failure.NOT_HTTP and getattr(error, "errno", None) in HANG_UPS:
        return Failure.CLOSED
    return failure


def _was_reset(error: Exception) -> bool:
    return isinstance(getattr(error, "os_error", None), ConnectionResetError)


def _facts(error: Exception, failure: Failure, ask: Ask) -> dict[str, str]:
    """Return what the sentences speak of."""
    number = getattr(error, "errno", None)
    return {
        "place": ask.place,
        "url": f"`{ask.setting}`",
        **TOKEN_ENDPOINT_SETTINGS,
        "scheme": _other_scheme(ask),
        "reason": os.strerror(number) if number else "none of its addresses can be reached",
        "tls": tls_reason(failure, error) if failure in NO_TLS else "",
    }


def _other_scheme(ask: Ask) -> str:
    return "is it http:// there?" if ask.url.startswith("https:") else "is it https:// there?"


def _too_late(error: Exception, ask: Ask) -> TokenTimeout:
    """Return the failure of a server that did not take the connection, or did not answer, in time."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TokenTimeout(
            f"{ask.place} did not take the connection within {CONNECT_TIMEOUT:g} s",
            hint=f"check host and port in `{ask.setting}`, or a firewall in between; {_other_scheme(ask)}",
        )
    return TokenTimeout(
        f"{ask.place} did not answer in time ({TOTAL_TIMEOUT:g} s)",
        hint="authproxy tries again; check whether the server is up, or overloaded",
    )


def no_way(proxy: HTTPProxy, place: str) -> TokenUnavailable:
    """Return the failure of an HTTP proxy that does not lead there."""
    return TokenUnavailable(f"the HTTP proxy {proxy} does not lead to {place}", hint=ADVICE)
