"""The token of a route, obtained as the proxy obtains it: by the same stack of sources.

So what was rejected before is not tried again before its time, a stored token is used, and a refresh token
that comes back in place of another one is stored before anything else is done.
"""

import asyncio
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isinf

from authproxy.app.credentials import TokenSources
from authproxy.app.doctor.advice import advise
from authproxy.app.doctor.clock import judge_clock, skew
from authproxy.app.doctor.network import Target, reach, speaks_tls
from authproxy.app.doctor.steps import Steps, Verdict, failed, passed, skipped
from authproxy.config.checks import OPENED_BY_A_BROWSER
from authproxy.config.route import RouteConfig
from authproxy.errors import LoginRequired, TokenError
from authproxy.grants.grant import Grant
from authproxy.grants.steps import Answer, Ask
from authproxy.masking import scrub, without_query
from authproxy.net.dial import Origin
from authproxy.net.http_proxy import ADVICE, proxy_for
from authproxy.net.own_listeners import OwnListeners
from authproxy.net.tls import HTTP_1_1, token_endpoint_context
from authproxy.tokens.token import Token
from authproxy.values import split_url

CONNECT_SECONDS = 10.0  # as of token requests
TOTAL_SECONDS = 90.0  # a one-time code may have to wait for its turn before the request begins
PREFIX = "token "
CERTIFICATE_ADVICE = "check `cert_file` and `key_file`: PEM, belonging together, not encrypted"


@dataclass
class Heard:
    """What token endpoints said since it was last cleared."""

    answers: list[tuple[Ask, Answer, float]] = field(default_factory=list)

    def __call__(self, ask: Ask, answer: Answer) -> None:
        self.answers.append((ask, answer, time.time()))

    @property
    def last(self) -> Answer | None:
        return self.answers[-1][1] if self.answers else None


async def examine_token(
    route: RouteConfig, sources: TokenSources, heard: Heard, own: OwnListeners, steps: Steps
) -> Token | None:
    """Take the steps to the route's token, and return it."""
    targets = list(endpoint_targets(route, own, steps))
    for _, target in targets:
        await reach(target, steps)
    if steps.failed_at(PREFIX):
        steps.note("token", skipped("not asked for: the token endpoint cannot be reached"))
        return None
    heard.answers.clear()
    found: list[Token] = []
    await steps.take("token", _obtain(route, sources, heard, targets, found))
    if heard.answers:
        ask, answer, at = heard.answers[-1]
        if (seconds := skew(answer.headers, answer.asked_at, at)) is not None:
            steps.note("clock", judge_clock(seconds, split_url(ask.url).netloc))
    return found[0] if found else None


def endpoint_targets(route: RouteConfig, own: OwnListeners, steps: Steps) -> Iterator[tuple[str, Target]]:
    """Yield each server that the grant asks, and the key that names it; note those that nobody can ask."""
    seen: set[str] = set()
    for key, url in route.grant.urls():
        parts = split_url(url)
        origin = f"{parts.scheme}://{parts.netloc}".lower()
        if key == OPENED_BY_A_BROWSER or origin in seen:
            continue
        seen.add(origin)
        try:
            tls = _context(route.grant) if parts.scheme == "https" else None
            proxy = proxy_for(url, route.http_proxy, own=own)
        except OSError:
            steps.note(PREFIX + "tls", failed("the client certificate cannot be used", CERTIFICATE_ADVICE))
            continue
        except ValueError as error:
            steps.note(PREFIX + "tcp", failed(f"no way to {without_query(url)}: {error}", ADVICE))
            continue
        port = parts.port or (443 if tls else 80)
        setting = "http_proxy" if route.http_proxy is not None else "the environment"
        yield (
            key,
            Target(
                Origin(parts.hostname or "", port, tls), key, proxy, setting, own, CONNECT_SECONDS, PREFIX
            ),
        )


def _context(grant: Grant) -> ssl.SSLContext:
    cert_file = getattr(grant, "cert_file", None)
    if cert_file is not None:
        return token_endpoint_context(cert_file, getattr(grant, "key_file", None))
    context = ssl.create_default_context()
    context.set_alpn_protocols(HTTP_1_1)
    return context


async def _obtain(
    route: RouteConfig,
    sources: TokenSources,
    heard: Heard,
    targets: list[tuple[str, Target]],
    found: list[Token],
) -> Verdict:
    stack = sources.stack(route)
    assert stack is not None  # noqa: S101 - who asks knows that there is a credential
    key = targets[-1][0] if targets else "auth"
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            token = await stack.outer.token()
    except LoginRequired as failure:
        return failed(failure.detail, failure.hint or f"run `authproxy login {route.name}`")
    except TokenError as failure:
        for _, target in targets:
            if heard.last is None and target.origin.tls is None and await speaks_tls(target):
                return failed(f"{target.origin} speaks TLS, not plain http", f"write https:// in `{key}`")
        return failed(failure.detail, advise(route.grant, failure, heard.last, key=key))
    except TimeoutError:
        return failed(f"no token within {TOTAL_SECONDS:g} s", f"check `{key}`")
    found.append(token)
    return passed(describe(token, route, heard.last, time.time()))


def describe(token: Token, route: RouteConfig, answer: Answer | None, now: float) -> str:
    """Return what is known of a token, but for itself."""
    grant = str(route.auth.get("grant", ""))
    if answer is not None:
        source = f"{grant}: {answer.place} answered {answer.status}"
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
