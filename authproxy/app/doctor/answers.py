"""What an upstream's answer means: whether it is the API, and lets us in.

2xx                      it does, unless it is a login page
3xx                      to a login page, to another host: not the API
401, 403                 the credential will not do: the scheme that is asked for, the scope
404                      nothing there: see `judge_missing`
400, 405, 4xx            reached, it does not take this request
429, 5xx                 the upstream's own trouble
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from urllib.parse import urljoin, urlsplit

from authproxy.app.doctor.steps import Verdict, failed, passed
from authproxy.grants.reply import retry_after
from authproxy.masking import scrub, without_query
from authproxy.proxy.challenge import lacks_scope, wanted_instead
from authproxy.proxy.refusal import NOT_ALLOWED, SCOPE, WRONG_STATIC, WRONG_TOKEN

ASKS = "this route adds no credential: give it an `auth`"

ReplyHeaders = Sequence[tuple[bytes, bytes]]

_LOGIN_PATH = re.compile(
    r"/(log[-_]?in|sign[-_]?in|sso|saml2?|oauth2?/authorize|auth/realms|session/new)\b", re.IGNORECASE
)
_LOGIN_FORM = re.compile(rb"""type\s*=\s*["']?password|name\s*=\s*["']?password""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """The request: `url` is fit to print, `origin` where it went, `path` what the user named (None: nothing).

    `scheme` is the word before the token; None where no credential was sent. `static` says that it stands in
    the configuration, `repeated` that a second token was tried, `refused` that the answer is one that the
    route takes for a no (`retry`).
    """

    method: str
    url: str
    origin: str
    path: str | None = None
    scheme: str | None = None
    places: str = "Authorization"
    setting: str = "scheme"
    static: bool = False
    repeated: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer's head, and as much of its body as was read."""

    status: int
    headers: ReplyHeaders = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        """Return the header `name`, several joined by a comma."""
        wanted = name.lower().encode()
        return ", ".join(value.decode("latin-1") for key, value in self.headers if key.lower() == wanted)

    @property
    def is_login_page(self) -> bool:
        """Whether it is a page for people with a field for a password."""
        return "html" in self.header("Content-Type").lower() and _LOGIN_FORM.search(self.body) is not None


def judge(asked: Asked, answer: Answered) -> Verdict:
    """Return what `answer` means."""
    said = f"{asked.method} {asked.url} answered {answer.status}"
    if asked.refused and answer.status != 403:
        return _unauthorized(asked, answer, said)
    if answer.status < 300:
        return _welcome(asked, answer, said)
    if answer.status < 400:
        return _redirect(asked, answer, said)
    kind = _KINDS.get(answer.status, _server_trouble if answer.status >= 500 else _other)
    return kind(asked, answer, said)


# ── it lets us in, or sends us elsewhere ─────────────────────────────────────────────────────────


def _welcome(_asked: Asked, answer: Answered, said: str) -> Verdict:
    if answer.is_login_page:
        return failed(
            f"{said} with a login page for people, not with the API's own answer",
            "check `upstream`: the API is often at another host, or under a base path such as /api",
        )
    return passed(said)


def _redirect(asked: Asked, answer: Answered, said: str) -> Verdict:
    if not answer.header("Location"):
        return passed(said)
    try:
        location = urljoin(asked.url, answer.header("Location"))
        parts = urlsplit(location)
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname:
        return failed(f"{said}, a redirect to an invalid URL", "check `upstream` and --path")
    there = scrub(without_query(location), ())
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()
    if _LOGIN_PATH.search(parts.path):
        return failed(
            f"{said}, a redirect to a login page: {there}",
            "check `upstream`: this is a site for people, or it wants another `scheme` or `header`",
        )
    if origin != asked.origin.lower():
        what = "redirects are not followed, so that no credential goes there"
        return failed(
            f"{said}, a redirect to another host: {there}",
            f"{what}; if that is the API, set `upstream: {origin}`",
        )
    return passed(f"{said}, a redirect to {parts.path or '/'} (not followed)")


# ── it does not ──────────────────────────────────────────────────────────────────────────────────


def _unauthorized(asked: Asked, answer: Answered, said: str) -> Verdict:
    if asked.scheme is None:
        return failed(f"{said} to a request without a credential", ASKS)
    sent = f"a {asked.scheme} credential" if asked.scheme else f"a bare token in {asked.places}"
    repeated = ", and to another token as well" if asked.repeated else ""
    cause = f"{said} to {sent}{repeated}"
    instead = wanted_instead(asked.scheme, answer.headers, asked.setting)
    if instead is not None:
        named, advice = instead
        return failed(f"{cause}: it asks for {named}", advice)
    if lacks_scope(answer.headers):
        return failed(f"{cause}: the token has too little scope", SCOPE)
    return failed(cause, (WRONG_STATIC if asked.static else WRONG_TOKEN).format(where=asked.setting))


def _forbidden(asked: Asked, answer: Answered, said: str) -> Verdict:
    if asked.scheme is None:
        return failed(f"{said} to a request without a credential", ASKS)
    if lacks_scope(answer.headers):
        return failed(f"{said}: the token has too little scope", SCOPE)
    return failed(f"{said}: the credential may not do this", f"{NOT_ALLOWED} Or name what it may: --path")


def _too_many(_asked: Asked, answer: Answered, said: str) -> Verdict:
    after = retry_after({"Retry-After": answer.header("Retry-After")}, time())
    wait = f"wait {after:.0f} s" if after is not None else "wait"
    return failed(f"{said}: too many requests", f"{wait}, and ask for less at a time")


def _no_such_method(asked: Asked, _answer: Answered, said: str) -> Verdict:
    if asked.path is None:
        return passed(f"{said}: reached; --path names what to try")
    return failed(
        f"{said}: this path takes no {asked.method}", "name another path with --path, or use --method"
    )


def _other(asked: Asked, _answer: Answered, said: str) -> Verdict:
    if asked.path is None:
        return passed(f"{said}: reached, and the credential was not refused; --path names what to try")
    return failed(f"{said}: it does not take this request", "check --path, and what the API expects there")


def _server_trouble(_asked: Asked, _answer: Answered, said: str) -> Verdict:
    return failed(
        f"{said}: the upstream is in trouble itself, or what stands before it does not reach it",
        "wait, and look at the upstream's own status: this is hardly a fault of the configuration",
    )


_KINDS = {401: _unauthorized, 403: _forbidden, 405: _no_such_method, 429: _too_many}


# ── 404 ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Variant:
    """Another way to join the paths: its `target`, and what to do if it is the right one."""

    target: str
    what: str
    advice: str


def variants(path: str, *, base: str, prefix: str, strips: bool) -> list[Variant]:
    """Return the other ways to join `path` under `base`, for a route mounted at `prefix`."""
    bare = path.partition("?")[0]
    found = []
    if base:
        advice = f"take {base} off `upstream`, or off the path that you call"
        found.append(Variant(bare, "without the base path", advice))
    if base and bare.startswith(f"{base}/"):
        advice = f"call it without {base}: `upstream` has it already"
        found.insert(0, Variant(bare, "with the base path once", advice))
    if strips and prefix not in {"", "/"}:
        found.append(Variant(base + prefix + bare, f"with {prefix} kept", "set `strip_path: false`"))
    if not strips and prefix not in {"", "/"}:
        found.append(Variant(base + bare, f"without {prefix}", "set `strip_path: true`"))
    now = base + ("" if strips else prefix.rstrip("/")) + bare
    unique = {each.target: each for each in reversed(found) if each.target != now}
    return [each for each in found if unique.get(each.target) is each]


def judge_missing(asked: Asked, tried: Mapping[Variant, int], plainly: int | None = None) -> Verdict:
    """Return what a 404 means; `tried` has the answers to other ways to join the paths, without a credential.

    `plainly` is the answer to the same request without one: a server that asks everybody for a credential
    before it looks at the path says nothing by asking.
    """
    said = f"{asked.method} {asked.url} answered 404"
    for variant, status in tried.items():
        telling = status in {401, 403} or status < 300
        if telling and plainly != status:
            known = "a credential is asked for" if status in {401, 403} else "there is something"
            return failed(
                f"{said}; {variant.what} ({variant.target}) it is {status}, where {known}: "
                "the path is joined wrongly",
                variant.advice,
            )
    if asked.path is None:
        return passed(f"{said}: reached, though nothing is there; --path names what to try")
    return failed(
        f"{said}: there is nothing at that path",
        "check --path, and the base path in `upstream`; is it the API's host?",
    )
