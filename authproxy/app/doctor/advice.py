"""What to do when there is no token: the failure's own hint, and what only a person at a terminal can try."""

from collections.abc import Mapping
from math import ceil

from authproxy.errors import TokenError
from authproxy.grants.grant import Grant
from authproxy.grants.shape import wants_tls
from authproxy.grants.steps import Answer

REFUSED = frozenset({400, 401, 403})


def advise(grant: Grant, failure: TokenError, answer: Answer | None, *, key: str) -> str:
    """Return the next step after `failure`; `answer` is what the token endpoint said, if it was asked.

    `key` is the setting with its URL.
    """
    advice = failure.hint or f"check `{key}`"
    if answer is None and failure.rejects and failure.retry_after is not None:
        wait = f"it is tried again in {ceil(failure.retry_after)} s, or at once with --retry-rejected"
        return f"{advice}; {wait}"
    if answer is None or answer.status not in REFUSED or wants_tls(answer):
        return advice
    if grant.hint_for(answer) is not None:
        return advice
    return advice + (_about_style(grant, answer.headers) if failure.error in {None, "invalid_client"} else "")


def _about_style(grant: Grant, headers: Mapping[str, str]) -> str:
    """Return which other ways there are to send id and secret, in the order in which one would try them."""
    style = getattr(grant, "style", None)
    wants_basic = headers.get("WWW-Authenticate", "").lower().startswith("basic")
    if style == "client_secret_post" and wants_basic:
        return "; the server asks for Basic: `client_auth: client_secret_basic`"
    if style != "client_secret_basic":
        return ""
    others = ["`client_secret_basic_raw` where the secret has special characters"]
    others += [] if wants_basic else ["`client_secret_post`"]
    return f"; other styles that servers take: {' or '.join(others)}"
