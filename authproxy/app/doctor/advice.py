"""What to do when there is no token: the failure's own hint, or the settings behind it."""

from collections.abc import Mapping
from math import ceil

from authproxy.errors import LoginRequired, TokenError
from authproxy.grants.grant import Grant
from authproxy.grants.steps import Answer

REFUSED = frozenset({400, 401, 403})
MISPLACED = frozenset({404, 405, 410, 415})
NO_HINT = "check the credential"


def advise(grant: Grant, failure: TokenError, answer: Answer | None, *, key: str) -> str:
    """Return the next step after `failure`; `answer` is what the token endpoint said, if it was asked.

    `key` is the setting with its URL.
    """
    if isinstance(failure, LoginRequired):
        return failure.hint or "log in"
    advice = failure.hint or ""
    if answer is not None and not _is_told(grant, answer):
        if answer.status in REFUSED:
            advice = _about_credential(grant, answer, failure)
        elif answer.status in MISPLACED:
            advice = f"check `{key}`: it should be the token endpoint's own URL, and take {_method(grant)}"
        elif 300 <= answer.status < 400:
            advice = f"redirects are not followed with a credential; put the final URL into `{key}`"
        elif answer.status >= 500:
            advice = "wait, and look at the server's own status: this is not a fault of the configuration"
    if answer is None and failure.rejects and failure.retry_after is not None:
        wait = f"it is tried again in {ceil(failure.retry_after)} s, or at once with --retry-rejected"
        return f"{advice or NO_HINT}; {wait}"
    return advice or f"check `{key}`"


def _is_told(grant: Grant, answer: Answer) -> bool:
    """Tell whether the configuration itself, or its preset, has a hint for this answer."""
    return any(hint.fits(answer) for hint in grant.hints)


def _method(grant: Grant) -> str:
    return str(getattr(grant, "method", "POST"))


def _about_credential(grant: Grant, answer: Answer, failure: TokenError) -> str:
    if failure.error == "invalid_scope":
        return "check `scope`"
    if failure.error in {"unsupported_grant_type", "unauthorized_client"}:
        return "have this client allowed to use this `grant` where it is registered, or use another one"
    said = _names(grant)
    if not said:
        return failure.hint or NO_HINT
    style = _about_style(grant, answer.headers) if failure.error in {None, "invalid_client"} else ""
    return f"check {said}{_about_code(grant)}{style}"


def _names(grant: Grant) -> str:
    """Return the settings that the credential is made of."""
    if getattr(grant, "username", None) is not None or getattr(grant, "basic", None) is not None:
        return "`username` and `password`"
    if getattr(grant, "refresh_token", None) is not None:
        return "`refresh_token`: it may have expired or been used already; obtain a new one"
    if getattr(grant, "client_secret", None) is not None:
        return "that `client_id` and `client_secret` are right, and not swapped"
    return "`form`" if getattr(grant, "form", None) else ""


def _about_style(grant: Grant, headers: Mapping[str, str]) -> str:
    """Return which other way there is to send id and secret, in the order in which one would try them."""
    style = getattr(grant, "style", None)
    wants_basic = headers.get("WWW-Authenticate", "").lower().startswith("basic")
    if style == "client_secret_post" and wants_basic:
        return "; the server asks for Basic: `client_auth: client_secret_basic`"
    if style != "client_secret_basic":
        return ""
    others = ["`client_secret_basic_raw` where the secret has special characters"]
    others += [] if wants_basic else ["`client_secret_post`"]
    return f"; if they are, the server may want another `client_auth`: {' or '.join(others)}"


def _about_code(grant: Grant) -> str:
    if not hasattr(grant, "totp"):
        return ""
    if grant.totp is None:
        return "; if the account has a second factor, set `totp`"
    return ", and `totp`: the secret that the codes are made from, and this machine's clock"
