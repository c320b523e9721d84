"""What it means when a token endpoint does not give a token.

    5xx, 408, 425, 429, temporarily_unavailable …    TokenUnavailable      an outage: later
    400, 401, 403 …, or another error code           CredentialRejected    a no: again would lock the account
    anything else that is no success                 BadTokenReply         not what was asked for

For a no to a refresh token servers have more words still: see `is_no_to_refresh_token`.
"""

from collections.abc import Collection

from authproxy.errors import BadTokenReply, CredentialRejected, TokenError, TokenUnavailable
from authproxy.grants.reply import PASSING_TROUBLE, read_json, retry_after, token_in
from authproxy.grants.steps import Answer
from authproxy.masking import scrub

REJECTIONS = frozenset({400, 401, 403, 422, 423})  # 423: the account is locked
OAUTH_ERRORS = frozenset({  # RFC 6749 §5.2, RFC 8628 §3.5: words of the protocol, whatever a secret may be
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "invalid_scope", "invalid_target", "authorization_pending", "slow_down", "access_denied", "expired_token",
    "server_error", "temporarily_unavailable",
})  # fmt: skip
DESCRIPTIONS = ("error_description", "message", "detail", "primaryErrorKey")  # where servers say more


def failure_in(
    answer: Answer, document: object, secrets: Collection[str], hint: str | None
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
    said = [document.get(key) for key in DESCRIPTIONS] if isinstance(document, dict) else []
    words = [error, *(scrub(text, secrets) for text in said if isinstance(text, str))]
    return _kind(answer, error)(
        f"{answer.place} answered {answer.status} {': '.join(filter(None, words))}".rstrip(),
        hint=hint or _general_hint(answer, error),
        error=error,
        retry_after=retry_after(answer.headers, answer.asked_at),
    )


def _kind(answer: Answer, error: str | None) -> type[TokenError]:
    if answer.status >= 500 or answer.status in PASSING_TROUBLE:
        return TokenUnavailable
    if error in {"temporarily_unavailable", "server_error", "slow_down"}:
        return TokenUnavailable
    if answer.status in REJECTIONS or error is not None:
        return CredentialRejected
    return BadTokenReply


def _general_hint(answer: Answer, error: str | None) -> str | None:
    if 300 <= answer.status < 400:
        return "redirects are not followed with a credential; give the final URL"
    if answer.status in {404, 405, 410, 415}:
        return "check the URL of the token endpoint, and what it expects"
    if error == "invalid_client":
        return "check client_id and client_secret, and how the server wants them (client_auth)"
    if error == "invalid_scope":
        return "check scope"
    if answer.status in REJECTIONS:
        return "check the credential"
    return None


def is_no_to_refresh_token(answer: Answer, failure: TokenError, at: str | tuple[str, ...]) -> bool:
    """Tell whether a failure that is no outage means the refresh token: servers have many words for that.

    `at` is where a token would be in the answer.
    `invalid_client` would be said to the grant's own way as well, and count as a second failure; and what
    is no orderly answer (a redirect, text cut short) says nothing of the refresh token.
    """
    if failure.error == "invalid_client":
        return False
    if failure.error is not None or 400 <= answer.status < 500:
        return True
    document = read_json(answer)
    orderly = 200 <= answer.status < 300 and (document is not None or not answer.body.strip())
    return orderly and not token_in(document, at)
