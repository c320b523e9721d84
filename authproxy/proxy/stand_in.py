"""A client's own login, answered here: the client gets a placeholder, and nobody else hears of it.

    POST /v1/oauth ─▶ its body is read and dropped ─▶ the route's token is got ─▶ 200, with a placeholder
                                                              └─ there is none ─▶ a problem, as for any
                                                                               request, and in OAuth's words

Of the body and the query two things are looked at: whether there is a code to trade in (RFC 6749 §4.1.3), for
which nobody is here, and a refresh token, so that the client gets one again. Nothing of it is kept or told.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter, time
from typing import Any
from urllib.parse import parse_qsl

from authproxy.errors import BadRequest, RequestTimeout
from authproxy.proxy import respond
from authproxy.proxy.context import RequestContext
from authproxy.proxy.placeholders import as_jwt, bare_jwt
from authproxy.proxy.renewal import Credential
from authproxy.proxy.router import path_interpretations

MAX_LOGIN = 64 << 10  # bytes of a body
TOO_LARGE = "a login that is answered here (`stand_in`) may have 64 KiB"
NOBODYS_CODE = "this login is answered by authproxy, which has no use for a code"
NO_CODE = "have the client log in with a secret or a password of its own, any at all"
MAX_INDEX = 99  # of a list in an answer


@dataclass(frozen=True, slots=True)
class Login:
    """One login that is answered here; `lifetime` is in seconds."""

    path: str
    methods: frozenset[str]
    shape: str = "auto"
    lifetime: float = 3600.0


@dataclass(frozen=True, slots=True)
class Pointers:
    """Where an answer holds what: JSON Pointers (RFC 6901)."""

    token: str = "/access_token"  # noqa: S105 - a place, not a token
    token_type: str = "/token_type"  # noqa: S105
    expires_in: str = "/expires_in"
    refresh_token: str = "/refresh_token"  # noqa: S105


class StandIn:
    """The logins of one route. `mark` is its placeholder, `token_type` what its tokens are said to be."""

    def __init__(
        self,
        logins: Iterable[Login],
        *,
        mark: str,
        pointers: Pointers | None = None,
        token_type: str = "Bearer",  # noqa: S107 - what it is called
    ) -> None:
        self._logins = {(each.path, method): each for each in logins for method in each.methods}
        self._methods = {method for _, method in self._logins}
        self._mark = mark
        self._pointers = pointers or Pointers()
        self._token_type = token_type

    def find(self, method: str, path: str, prefix: str) -> Login | None:
        """Return the login that a raw `path` under `prefix` is, in any reading of it. Raises `Forbidden`."""
        if method not in self._methods:
            return None
        readings = path_interpretations(path, prefix)
        found = (self._logins.get((each, method)) for each in sorted(readings))
        return next((each for each in found if each is not None), None)

    async def answer(self, context: RequestContext, login: Login, credential: Credential) -> bool:
        """Answer a login; tell whether the connection can go on.

        Raises `TokenError` where the route has no token, `RequestRefused` for a body that will not do.
        """
        sent = {
            **fields_in(context.login_query.encode("utf-8", "replace")),
            **fields_in(await _body(context)),
        }
        if sent.get("grant_type") == "authorization_code":
            raise BadRequest(
                NOBODYS_CODE, title="Unsupported grant type", hint=NO_CODE, error="unsupported_grant_type"
            )
        token = await _token(context, credential)
        document = self.document(token, login, refreshes="refresh_token" in sent, now=int(time()))
        keep_alive = respond.send_document(context, json.dumps(document).encode() + b"\n")
        context.notes().steps.append(("stand_in", "answered by authproxy", perf_counter()))
        return keep_alive

    def document(self, token: str, login: Login, *, refreshes: bool, now: int) -> object:
        """Return what a token endpoint would say whose token is a placeholder. `now` is in epoch seconds."""
        at, lasts = self._pointers, int(login.lifetime)
        said = [
            (at.token, self._shaped(token, login.shape, now, now + lasts)),
            (at.token_type, self._token_type),
            (at.expires_in, lasts),
            *([(at.refresh_token, self._mark)] if refreshes else []),
        ]
        document: object = None
        for pointer, value in said:
            document = placed(document, _parts(pointer), value)
        if isinstance(document, dict):
            usual = ("access_token", "token_type", "expires_in", "refresh_token")
            for name, (_, value) in list(zip(usual, said, strict=False))[1:]:
                document.setdefault(name, value)
        return document

    def _shaped(self, token: str, shape: str, issued_at: int, expires_at: int) -> str:
        if shape == "opaque":
            return self._mark
        made = as_jwt(self._mark, token, issued_at=issued_at, expires_at=expires_at)
        if made is None and shape == "jwt":
            return bare_jwt(self._mark, issued_at=issued_at, expires_at=expires_at)
        return made or self._mark


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def placed(document: Any, parts: list[str], value: object) -> object:
    """Return `document` with `value` where `parts` lead, unless something else is there already.

    A part that is a number leads into a list, where there is nothing yet.
    """
    if not parts:
        return value if document is None else document
    name, rest = parts[0], parts[1:]
    if document is None:
        document = [] if name.isdecimal() and int(name) <= MAX_INDEX else {}
    if isinstance(document, dict):
        document[name] = placed(document.get(name), rest, value)
    elif isinstance(document, list) and name.isdecimal() and int(name) <= MAX_INDEX:
        document += [None] * (int(name) + 1 - len(document))
        document[int(name)] = placed(document[int(name)], rest, value)
    return document


def fields_in(body: bytes) -> Mapping[str, object]:
    """Return the fields of a login's body, whether it is a form or JSON."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return document if isinstance(document, dict) else {}


async def _body(context: RequestContext) -> bytes:
    """Return the body of a login, all of it. Raises `RequestRefused`."""
    body, route = context.login_body, context.route
    if body is None or route is None:
        return b""
    seconds, loop = route.idle_seconds, asyncio.get_running_loop()
    pieces = []
    try:
        async with asyncio.timeout(seconds) as patience:
            async for piece in body.chunks():
                patience.reschedule(loop.time() + seconds)
                pieces.append(piece)
    except TimeoutError:
        raise RequestTimeout(f"the client sent nothing of its login for {seconds:g} s") from None
    finally:
        context.received = body.received
    return b"".join(pieces)


async def _token(context: RequestContext, credential: Credential) -> str:
    """Return the route's token. Raises `TokenError`."""
    source, notes = credential.source, context.notes()
    token = source.take()
    if token is None:
        origin = source.origin()
        token = await source.token()
        notes.origin = origin
        notes.steps.append(("token", origin, perf_counter()))
    return token.value
