"""An upstream's refusal, explained: what was sent, for whoever gets the answer and for the log.

    HTTP/1.1 401 Unauthorized
    Proxy-Status: authproxy; received-status=401; details="a token renewed 2 s ago, repeated once"

That line is the only one that is added to an upstream's answer (RFC 9209 §2.1.2).
"""

from time import time

from authproxy.observe.standing import Refusal
from authproxy.proxy.challenge import lacks_scope, wanted_instead
from authproxy.proxy.context import RequestContext
from authproxy.proxy.route import Route
from authproxy.proxy.upstream.reply import Reply

REFUSED = frozenset({401, 403})  # whatever `retry.statuses` says

NO_CREDENTIAL = "does this route need an `auth`?"
NO_ROUTE = "if that host is an API of yours, add a route for it"
KEPT = "remove the caller's own credential, or set `incoming: replace`"
SCOPE = "ask for more in `scope`"
NOT_ALLOWED = "is the account allowed to do this, and is the `scope` wide enough?"
WRONG_STATIC = "is it still valid, is `{where}` right, and is it meant for this upstream?"
WRONG_TOKEN = "is `{where}` right, and are the tokens meant for this upstream (`audience`, `scope`)?"  # noqa: S105


def is_refusal(context: RequestContext, route: Route, reply: Reply) -> bool:
    """Whether `reply` says that the credential, or its absence, will not do."""
    return reply.status in REFUSED or _is_refused(context, route, reply)


def _is_refused(context: RequestContext, route: Route, reply: Reply) -> bool:
    """Whether `reply` is one of those to which a token is renewed."""
    credential, outgoing = route.credential, context.outgoing
    return credential is not None and outgoing is not None and credential.refuses(reply, outgoing)


def refusal_line(context: RequestContext, route: Route, reply: Reply) -> bytes:
    """Return the header line that explains a refusal, which is noted; b"" for another answer."""
    if not is_refusal(context, route, reply):
        return b""
    refusal = explain(context, route, reply)
    route.standing.note(refusal)
    details = refusal.sent.encode("ascii", "replace").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'Proxy-Status: authproxy; received-status=%d; details="%b"\r\n' % (reply.status, details)


def explain(context: RequestContext, route: Route, reply: Reply) -> Refusal:
    """Return what is to be said of a refusal."""
    cause, age, hint = _what_was_sent(context, route, reply)
    other, advice = _other_scheme(context, route, reply)
    outgoing = context.outgoing
    how = ""
    if outgoing is not None and outgoing.retried:
        how = ", repeated once"
    elif outgoing is not None and outgoing.not_repeated and not _is_static(context, route):
        how = f", not repeated: {outgoing.not_repeated}"
    return Refusal(
        status=reply.status,
        cause=f"{reply.status} {cause}{how}",
        sent=f"{cause}{age}{how}{other}",
        hint=advice or hint,
        at=time(),
        lasts=outgoing is not None and outgoing.refused,
    )


def _other_scheme(context: RequestContext, route: Route, reply: Reply) -> tuple[str, str]:
    """Return that the upstream asks for another scheme than ours, and a hint; nothing if it does not."""
    credential = route.credential
    if credential is None or not context.injects or (scheme := credential.injection.scheme) is None:
        return "", ""
    instead = wanted_instead(scheme, reply.headers, credential.injection.setting)
    if instead is None:
        return "", ""
    named, advice = instead
    sent = f"as {scheme}" if scheme else "without a scheme"
    asks = f"the upstream asks for {named}: {advice}"
    return f", sent {sent} where {asks}", asks


def _is_static(context: RequestContext, route: Route) -> bool:
    return context.injects and route.credential is not None and route.credential.static is not None


def _what_was_sent(context: RequestContext, route: Route, reply: Reply) -> tuple[str, str, str]:
    """Return what was sent, how old it is, and what to do."""
    credential, token = route.credential, context.token
    if credential is None:
        return _without_credential(route)
    if not context.injects or token is None:
        own = f"the caller's own {credential.injection.said.replace('the ', '')}"
        return f"no credential: {own} was kept (incoming: keep)", "", KEPT
    if lacks_scope(reply.headers):
        return "the token has too little scope", "", SCOPE
    refused = _is_refused(context, route, reply)
    where = credential.injection.setting
    hint = WRONG_TOKEN.format(where=where) if refused else NOT_ALLOWED
    if credential.static is not None:
        return credential.static, "", WRONG_STATIC.format(where=where) if refused else NOT_ALLOWED
    came = "renewed" if context.retried else "obtained"
    if not token.issued_at:
        return "a token", "", hint
    return f"a token {came}", f" {max(0.0, time() - token.issued_at):.0f} s ago", hint


def _without_credential(route: Route) -> tuple[str, str, str]:
    if not route.name:  # in forward mode
        return f"no credential was added: no route's upstream is {route.sender.pool.origin}", "", NO_ROUTE
    return "no credential: this route adds none (grant: none)", "", NO_CREDENTIAL
