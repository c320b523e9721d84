"""What it means when a token endpoint does not give a token, and what to do about it.

    5xx, 408, 425, 429, temporarily_unavailable …      TokenUnavailable      an outage: later
    400, 401, 403 …, or a code of RFC 6749 §5.2        CredentialRejected    a no: more may lock the account
    a 404, a redirect, anything else that is no token  BadTokenReply         not what was asked for

Titles and hints stand in tables. `{setting}` is the key that holds the endpoint's URL; what else of the
configuration an answer may be about, the grant says (`Checks`).

For a no to a refresh token servers have more words still: see `is_no_to_refresh_token`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from authproxy.errors import BadTokenReply, CredentialRejected, TokenError, TokenUnavailable
from authproxy.grants.reply import PASSING_TROUBLE, is_page, read_json, retry_after
from authproxy.grants.reply_places import TokenAt, TokenPlace
from authproxy.grants.shape import (
    PAGE_CAME,
    clock_skew,
    fields_in,
    likely_token,
    wants_tls,
    what_it_is,
    words_in,
)
from authproxy.grants.steps import Answer
from authproxy.masking import origin_in, scrub

REJECTIONS = frozenset({400, 401, 403, 422, 423})  # 423: the account is locked
OAUTH_ERRORS = frozenset({  # RFC 6749 §5.2, RFC 8628 §3.5: words of the protocol, whatever a secret may be
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "invalid_scope", "invalid_target", "authorization_pending", "slow_down", "access_denied", "expired_token",
    "server_error", "temporarily_unavailable",
})  # fmt: skip

Told = tuple[str | None, str]
"""A title, None for that of the error's class, and a hint."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What to check in the configuration when the server turns down the credential, the client, the request.

    `clock` tells that what was sent is good at its time only: a one-time code, a signed assertion.
    """

    credential: str = "check the credential"
    client: str = "check `client_id` and `client_secret`"
    request: str = "check what the server wants to be sent"
    clock: bool = False


BY_CODE: dict[str, Told] = {
    "invalid_client": (None, "{checks.client}"),
    "unauthorized_client": (
        "Client not allowed",
        "have the server allow this client the grant that is used; {checks.client}",
    ),
    "unsupported_grant_type": ("Grant not supported", "use a `grant` that this server offers"),
    "invalid_scope": ("Scope refused", "check `scope`: ask for what the server grants to this client"),
    "invalid_target": ("Audience refused", "check `audience` and `resource`"),
    "invalid_request": ("Token request refused", "{checks.request}"),
}
"""What the codes of RFC 6749 §5.2 and RFC 8707 §2 come to; with `invalid_grant` it is the credential."""

NOT_UNDERSTOOD: Told = ("Token request not understood", "{checks.request}; and check `{setting}`")
BY_STATUS: dict[int, Told] = {
    400: ("Token request refused", "{checks.credential}; {checks.request}"),
    422: ("Token request refused", "{checks.credential}; {checks.request}"),
    423: ("Account locked", "have the account unlocked first; then {checks.credential}"),
    404: ("No token endpoint there", "check `{setting}`: its host, its path, and a realm or tenant in it"),
    410: ("No token endpoint there", "check `{setting}`: the server says that this one is gone for good"),
    405: NOT_UNDERSTOOD,
    406: NOT_UNDERSTOOD,
    411: NOT_UNDERSTOOD,
    413: NOT_UNDERSTOOD,
    415: NOT_UNDERSTOOD,
    429: (None, "the server limits token requests: authproxy tries again when it allows it"),
}
REDIRECTS: Told = (
    "Token endpoint redirects",
    "redirects are not followed with a credential: write the final URL into `{setting}`",
)
SERVERS_FAULT = "the fault is on the server's side: authproxy tries again a little later"
OUTAGE: Told = (None, SERVERS_FAULT)
SPEAKS_TLS: Told = ("Token endpoint speaks https", "write https:// in `{setting}`")
PAGE: Told = (
    "HTML page instead of a token",
    "a login page, or a captive portal or firewall in between: check `{setting}`, open it in a browser",
)


def failure_in(
    answer: Answer, document: object, secrets: Collection[str], hint: str | None, checks: Checks
) -> TokenError | None:
    """Return what `answer` means, which holds `document`; None if it is a success.

    `secrets` are masked in the server's words; `hint` is what the configuration advises, if anything.
    """
    if isinstance(document, list) and len(document) == 1:  # a list of what is wrong, as Code42 has it
        document = document[0]
    code = document.get("error") if isinstance(document, dict) else None
    if 200 <= answer.status < 300 and not code:
        return None
    error = None
    if isinstance(code, str):
        error = code if code in OAUTH_ERRORS else scrub(code, secrets)
    words = [each if each in OAUTH_ERRORS else scrub(each, secrets) for each in words_in(document)]
    kind = _kind(answer, error)
    title, advice = _told(answer, error, kind, checks)
    return kind(
        f"{answer.place} answered {answer.status}{_came(answer, secrets)} {': '.join(words)}".rstrip(),
        title=title,
        hint=_advice(hint or advice, answer, kind, checks),
        error=error,
        retry_after=retry_after(answer.headers, answer.asked_at),
    )


def _kind(answer: Answer, error: str | None) -> type[TokenError]:
    if answer.status >= 500 or answer.status in PASSING_TROUBLE:
        return TokenUnavailable
    if error in {"temporarily_unavailable", "server_error", "slow_down"}:
        return TokenUnavailable
    if wants_tls(answer):
        return BadTokenReply
    if answer.status in REJECTIONS or error in OAUTH_ERRORS:
        return CredentialRejected
    return CredentialRejected if answer.status < 300 and error is not None else BadTokenReply


def _told(answer: Answer, error: str | None, kind: type[TokenError], checks: Checks) -> Told:
    title, hint = _row(answer, error, kind)
    return title, hint.format(setting=answer.setting, checks=checks)


def _row(answer: Answer, error: str | None, kind: type[TokenError]) -> Told:
    """Return the row of a table that fits, to be filled in."""
    if wants_tls(answer):
        return SPEAKS_TLS
    if kind is TokenUnavailable:
        return BY_STATUS.get(answer.status, OUTAGE)
    if error in BY_CODE:
        return BY_CODE[error]
    if kind is CredentialRejected and (error in OAUTH_ERRORS or answer.status not in BY_STATUS):
        return None, "{checks.credential}"
    if 300 <= answer.status < 400:
        return REDIRECTS
    return BY_STATUS.get(answer.status, NOT_UNDERSTOOD)


def _came(answer: Answer, secrets: Collection[str]) -> str:
    """Return what came with the status, or where it leads."""
    if 300 <= answer.status < 400 and (location := answer.headers.get("Location")):
        host = origin_in(location)
        return f", a redirect to {scrub(host, secrets)}" if host is not None else ", a redirect"
    return f" with {PAGE_CAME}" if is_page(answer) else ""


def _advice(hint: str, answer: Answer, kind: type[TokenError], checks: Checks) -> str:
    """Return `hint`, behind what else may be the reason: our clock, somebody in between."""
    if kind is CredentialRejected and is_page(answer):
        hint = f"{hint}; or a firewall or proxy in between answered"
    skew = clock_skew(answer) if checks.clock and kind is CredentialRejected else 0.0
    if not skew:
        return hint
    where = "behind" if skew > 0 else "ahead of"
    clock = f"this machine's clock is {abs(skew):.0f} s {where} the server's: set it right"
    return f"{clock}; then {hint}"


def no_field_in(answer: Answer, document: object, pointer: str) -> BadTokenReply:
    """Return what a token reply without a field that `inject` wants is called."""
    fields = fields_in(document)
    there = f"the fields there are: {', '.join(fields)}" if fields else "there are no fields in it"
    return BadTokenReply(
        f"{answer.said} without {pointer}; {there}",
        title="Field missing in the token reply",
        hint="check `{response:…}` in the route's `inject`",
    )


def no_token_in(answer: Answer, document: object, at: TokenAt, hint: str | None) -> BadTokenReply:
    """Return what a success without a token at `at` is called; `hint` is what the configuration advises."""
    if isinstance(at, TokenPlace):
        return _nothing_at(answer, at, hint)
    came = what_it_is(answer)
    if came == PAGE_CAME:
        return page_instead(answer, hint)
    where = at if isinstance(at, str) else " or ".join(at)
    if came:
        return BadTokenReply(
            f"{answer.said} without a token at {where}: {came} came where JSON was due",
            hint=hint or _no_json(answer),
        )
    fields = fields_in(document)
    there = f"the fields there are: {', '.join(fields)}" if fields else "there are no fields in it"
    return BadTokenReply(
        f"{answer.said} without a token at {where}; {there}", hint=hint or _place_of_token(document)
    )


def _nothing_at(answer: Answer, at: TokenPlace, hint: str | None) -> BadTokenReply:
    names = ", ".join(at.there(answer)) or "none"
    kind = "headers" if at.header is not None else "cookies"
    return BadTokenReply(
        f"{answer.said} without {at}; the {kind} there are: {names}",
        hint=hint or "check the name and the password, and `response.token`",
    )


def _no_json(answer: Answer) -> str:
    return f'check `{answer.setting}`; where the whole reply is the token, set `response.token: ""`'


def _place_of_token(document: object) -> str:
    likely = likely_token(document)
    perhaps = f", perhaps {likely}" if likely is not None else ""
    return f"set `response.token` to the place of the token in the reply{perhaps}"


def page_instead(answer: Answer, hint: str | None = None) -> BadTokenReply:
    """Return what an HTML page where a token was due is called."""
    title, advice = PAGE
    return BadTokenReply(
        f"{answer.said} with an HTML page where JSON was due",
        title=title,
        hint=hint or advice.format(setting=answer.setting),
    )


def is_no_to_refresh_token(answer: Answer, failure: TokenError, *, has_token: bool) -> bool:
    """Tell whether a failure that is no outage means the refresh token: servers have many words for that.

    `has_token` tells whether there is a token in the answer all the same.
    `invalid_client` would be said to the grant's own way as well, and count as a second failure; and what
    is no orderly answer (a redirect, text cut short) says nothing of the refresh token.
    """
    if failure.error == "invalid_client":
        return False
    if failure.error is not None or 400 <= answer.status < 500:
        return True
    document = read_json(answer)
    orderly = 200 <= answer.status < 300 and (document is not None or not answer.body.strip())
    return orderly and not has_token
