"""An authorization server's own account of itself: where its endpoints are.

    issuer ─┬─ {issuer}/.well-known/openid-configuration           OpenID Connect Discovery 1.0 §4
            └─ /.well-known/oauth-authorization-server{/path}      RFC 8414 §3.1, when the first has none

What the document says is believed only when its `issuer` is, to the letter, the one that was asked for
(RFC 8414 §3.3): anybody can copy a document, and with it send a credential elsewhere.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator

from authproxy.errors import BadTokenReply, TokenUnavailable
from authproxy.grants.refusal import SERVERS_FAULT
from authproxy.grants.reply import PASSING_TROUBLE, read_json, retry_after
from authproxy.grants.steps import Answer, Ask
from authproxy.masking import scrub
from authproxy.values import URL, is_loopback, split_url

ENDPOINTS = {  # RFC 8414 §2, RFC 8628 §4; and the key under which the configuration has it
    "token_endpoint": "token_url",
    "authorization_endpoint": "authorization_url",
    "device_authorization_endpoint": "device_authorization_url",
}
SPELL_IT = "write `issuer` exactly as the server does, down to the last slash; or give the endpoints"
GIVE_ENDPOINTS = "check `issuer`, or give the endpoints instead of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where an authorization server is asked for what; from the configuration, from its document, or both."""

    issuer: str | None = None
    token_url: str | None = None
    authorization_url: str | None = None
    device_authorization_url: str | None = None
    token_url_with_certificate: str | None = None
    """Where a client with a certificate asks instead (`mtls_endpoint_aliases`, RFC 8705 §5)."""
    always_says_iss: bool = False
    """Whether its authorization responses carry `iss` (RFC 9207)."""


def _issuer(value: str) -> str:
    if "?" in value:
        raise ValueError("should not contain a query (?)")
    return value


Issuer = Annotated[URL, AfterValidator(_issuer)]
"""An issuer identifier: a URL without query and fragment (RFC 8414 §2)."""


def well_known(issuer: str) -> tuple[str, str]:
    """Return the places where an issuer's document may be."""
    bare = issuer.rstrip("/")
    parts = urlsplit(bare)
    return (
        f"{bare}/.well-known/openid-configuration",
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path}",
    )


def discover(issuer: str) -> Generator[Ask, Answer, Server]:
    """Ask for the issuer's document and read it. Raises `TokenError`."""
    no_document: BadTokenReply | None = None
    for url in well_known(issuer):
        answer = yield Ask("GET", url, {"Accept": "application/json"}, setting="issuer")
        if answer.status >= 500 or answer.status in PASSING_TROUBLE:
            raise TokenUnavailable(
                f"{answer.place} answered {answer.status}",
                hint=SERVERS_FAULT,
                retry_after=retry_after(answer.headers, answer.asked_at),
            )
        document = read_json(answer)
        if answer.status == 200 and isinstance(document, dict) and "issuer" in document:
            return read_document(document, answer, issuer)
        if answer.status < 400 and no_document is None:
            # Many servers show some page at an address that they do not know.
            no_document = BadTokenReply(
                f"{answer.place} answered {answer.status} without a JSON document that names its issuer",
                hint=GIVE_ENDPOINTS,
            )
    raise no_document or BadTokenReply(f"{issuer} publishes no discovery document", hint=GIVE_ENDPOINTS)


def read_document(document: dict[str, Any], answer: Answer, issuer: str) -> Server:
    """Return what the document in `answer` says; raise `BadTokenReply` when it is not `issuer`'s own."""
    named = document["issuer"]
    if named != issuer:
        shown = scrub(named, ()) if isinstance(named, str) else "none"
        raise BadTokenReply(
            f"the document at {answer.place} is that of another issuer: it names {shown}, not {issuer}",
            hint=SPELL_IT,
        )
    aliases = document.get("mtls_endpoint_aliases")
    return Server(
        issuer=issuer,
        token_url_with_certificate=_endpoint(aliases, "token_endpoint", answer, issuer)
        if isinstance(aliases, dict)
        else None,
        always_says_iss=document.get("authorization_response_iss_parameter_supported") is True,
        **{key: _endpoint(document, name, answer, issuer) for name, key in ENDPOINTS.items()},
    )


def _endpoint(document: dict[str, Any], name: str, answer: Answer, issuer: str) -> str | None:
    url = document.get(name)
    if url is None:
        return None
    try:
        parts = split_url(url if isinstance(url, str) else "")
    except ValueError:
        raise BadTokenReply(f"{name} in the document at {answer.place} is not a URL") from None
    if parts.scheme == "http" and not is_loopback(parts.hostname or "") and _is_private(issuer):
        raise BadTokenReply(
            f"{name} in the document at {answer.place} would carry the credential over plain http",
            hint="have the server publish https URLs",
        )
    return str(url)


def _is_private(url: str) -> bool:
    """Tell whether nobody else can read what goes to `url`; the configuration has allowed it if not."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")
