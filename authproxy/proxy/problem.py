"""What authproxy answers for itself, so that nobody takes it for the upstream's (RFC 9457, RFC 9209)."""

import json
from http import HTTPStatus
from math import ceil

from authproxy import logs
from authproxy.errors import AuthproxyError, KeyRequired, ProxyKeyRequired, problem_document
from authproxy.masking import scrub

CHALLENGE = 'AuthproxyKey realm="authproxy"'  # what the 401 for a missing access key wants (RFC 9110 §15.5.2)
PROXY_CHALLENGE = 'Basic realm="authproxy"'  # and the 407, as proxies' clients know it (RFC 9110 §15.5.8)
CODES = {
    400: "invalid_request",
    408: "invalid_request",
    413: "invalid_request",
    503: "temporarily_unavailable",
    504: "temporarily_unavailable",
}
"""What a status is called in OAuth (RFC 6749 §5.2, §4.1.2.1); a rejected credential is `invalid_client`."""
_UNQUOTED = str.maketrans({'"': "'", "\\": "/"})


def internal_error(fault: BaseException | None) -> AuthproxyError:
    """Log a fault of our own, with its place; return what the caller may hear of it."""
    logs.logger.error("internal error", exc_info=fault)
    return AuthproxyError("something went wrong inside authproxy; its log has the place")


def problem_content(
    error: AuthproxyError, *, route: str | None, request_id: str | None = None, login: bool = False
) -> tuple[dict[str, str], bytes]:
    """Return the headers, but for those of the connection, and the body that say `error`.

    In answer to a `login` it says it in OAuth's words too (RFC 6749 §5.2).
    """
    document = problem_document(error, route=route, request_id=request_id)
    if login:
        document |= in_oauths_words(error)
    content = json.dumps(document).encode() + b"\n"
    details = (
        scrub(error.detail.replace("§", "section "), ())
        .encode("ascii", "replace")
        .decode()
        .replace("\\", "\\\\")
        .replace('"', '\\"')
    )
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(content)),
        "Proxy-Status": f'authproxy; error={error.proxy_error}; details="{details}"',
        "Cache-Control": "no-store",
    }
    if error.retry_after is not None or error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after or 0)))
    if isinstance(error, KeyRequired):
        headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(error, ProxyKeyRequired):
        headers["Proxy-Authenticate"] = PROXY_CHALLENGE
    return headers, content


def in_oauths_words(error: AuthproxyError) -> dict[str, object]:
    """Return `error` as a token endpoint would say it: a code, and ASCII without quotes and backslashes."""
    code = error.error or ("invalid_client" if getattr(error, "rejects", False) else CODES.get(error.status))
    said = error.detail if error.hint is None else f"{error.detail}: {error.hint}"
    plain = scrub(said, ()).replace("§", "section ").translate(_UNQUOTED).encode("ascii", "replace").decode()
    return {"error": code or "server_error", "error_description": plain}


def problem_response(
    error: AuthproxyError,
    *,
    route: str | None,
    close: bool,
    body: bool = True,
    more: bytes = b"",
    request_id: str | None = None,
    login: bool = False,
) -> bytes:
    """Return the whole response for `error`; `body` is False in answer to HEAD, `more` are header lines.

    `login` says that it is in answer to a client's own.
    """
    headers, content = problem_content(error, route=route, request_id=request_id, login=login)
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if close:
        lines.append("Connection: close")
    return (
        "\r\n".join(lines).encode("latin-1", "replace")
        + b"\r\n"
        + more
        + b"\r\n"
        + (content if body else b"")
    )
