"""The token of a route, obtained as the proxy obtains it: by the same stack of sources.

So what was rejected before is not tried again before its time, a stored token is used, and a refresh token
that comes back in place of another one is stored before anything else is done.
"""

import asyncio
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import isinf

from authproxy.app.credentials import TokenSources
from authproxy.app.doctor.advice import advise
from authproxy.app.doctor.clock import judge_clock
from authproxy.app.doctor.network import Target, is_tls, reach, speaks_tls
from authproxy.app.doctor.steps import Steps, Verdict, failed, passed, skipped
from authproxy.config.checks import OPENED_BY_A_BROWSER
from authproxy.config.route import RouteConfig
from authproxy.errors import LoginRequired, TokenError
from authproxy.grants.http import CERTIFICATE_HINT, token_endpoint_context
from authproxy.grants.shape import skew_of
from authproxy.grants.steps import Answer, Ask, ClientCertificate
from authproxy.grants.unreachable import CONNECT_TIMEOUT
from authproxy.masking import scrub, without_query
from authproxy.net.dial import Origin
from authproxy.net.http_proxy import ADVICE, proxy_for
from authproxy.net.own_listeners import OwnListeners
from authproxy.tokens.token import Token
from authproxy.values import split_url

TOTAL_SECONDS = 90.0  # a one-time code may have to wait for its turn before the request begins
PREFIX = "token "


@dataclass
class Heard:
    """What a token endpoint said last, if it was asked."""

    last: Answer | None = None

    def __call__(self, _ask: Ask, answer: Answer) -> None:
        self.last = answer

    def forget(self) -> None:
        """Be as if nothing was asked yet."""
        self.last = None


async def examine_token(
    route: RouteConfig, sources: TokenSources, heard: Heard, own: OwnListeners, steps: Steps
) -> Token | None:
    """Take the steps to the route's token, and return it."""
    targets = list(endpoint_targets(route, own, steps))
    for target in targets:
        await reach(target, steps)
    if steps.failed_at(PREFIX):
        steps.note("token", skipped("not asked for: the token endpoint cannot be reached"))
        return None
    heard.forget()
    found: list[Token] = []
    await steps.take("token", _obtain(route, sources, heard, targets, found))
    if heard.last is not None and (seconds := skew_of(heard.last)) is not None:
        steps.note("clock", judge_clock(seconds, split_url(heard.last.place).netloc))
    return found[0] if found else None


def endpoint_targets(route: RouteConfig, own: OwnListeners, steps: Steps) -> Iterator[Target]:
    """Yield each server that the grant asks; note those that nobody can ask."""
    seen: set[str] = set()
    for key, url in route.grant.urls():
        parts = split_url(url)
        server = f"{parts.scheme}://{parts.netloc}".lower()
        if key == OPENED_BY_A_BROWSER or server in seen:
            continue
        seen.add(server)
        try:
            tls = _context(route, url) if parts.scheme == "https" else None
            proxy = proxy_for(url, route.http_proxy, own=own)
        except OSError:
            steps.note(PREFIX + "tls", failed("a certificate or its key cannot be used", CERTIFICATE_HINT))
            continue
        except ValueError as error:
            steps.note(PREFIX + "tcp", failed(f"no way to {without_query(url)}: {error}", ADVICE))
            continue
        port = parts.port or (443 if tls else 80)
        origin = Origin(parts.hostname or "", port, tls, route.transport.tls_to(url).server_name)
        setting = "`http_proxy`" if route.http_proxy is not None else "the environment"
        yield Target(origin, key, proxy, setting, own, CONNECT_TIMEOUT, PREFIX)


def _context(route: RouteConfig, url: str) -> ssl.SSLContext:
    cert_file = getattr(route.grant, "cert_file", None)
    shown = ClientCertificate(cert_file, getattr(route.grant, "key_file", None)) if cert_file else None
    return token_endpoint_context(route.transport.tls_to(url), shown)


async def _obtain(
    route: RouteConfig,
    sources: TokenSources,
    heard: Heard,
    targets: list[Target],
    found: list[Token],
) -> Verdict:
    stack = sources.stack(route)
    assert stack is not None  # noqa: S101 - who asks knows that there is a credential
    key = targets[-1].setting if targets else "auth"
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            token = await stack.outer.token()
    except LoginRequired as failure:
        return failed(failure.detail, failure.hint or f"run `authproxy login {route.name}`")
    except TokenError as failure:
        for target in targets:
            if heard.last is None and target.origin.tls is None and await speaks_tls(target):
                return is_tls(target)
        return failed(failure.detail, advise(route.grant, failure, heard.last, key=key))
    except TimeoutError:
        return failed(f"no token within {TOTAL_SECONDS:g} s", f"check `{key}`")
    found.append(token)
    return passed(describe(token, route, heard.last, time.time()))


def describe(token: Token, route: RouteConfig, answer: Answer | None, now: float) -> str:
    """Return what is known of a token, but for itself."""
    grant = str(route.auth.get("grant", ""))
    if answer is not None:
        source = f"{grant}: {answer.said}"
    elif route.grant.in_configuration:
        source = f"{grant}: from the configuration"
    elif route.grant.watched_file is not None or grant == "command":
        source = f"{grant}: read"
    else:
        source = f"{grant}: from the token store"
    end = (
        "valid until it is refused"
        if isinf(token.expires_at)
        else f"valid for {token.expires_at - now:.0f} s"
    )
    own = [each for each in (token.value, token.refresh_token) if each]
    scope = [f"scope {scrub(token.scope, own)}"] if token.scope else []
    refresh = ["with a refresh token"] if token.refresh_token else []
    return ", ".join([source, end, *scope, *refresh])
