"""A request as the admin API shows it: plain data of a record, with every secret masked.

Nothing in here is worked out before somebody asks.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any

from authproxy.masking import (
    MASK,
    Hiding,
    secrets_of_header,
    secrets_of_query,
    shown_header,
    shown_query,
)
from authproxy.observe.record import KeptBody, RequestRecord
from authproxy.times import rfc3339

GONE = {"title": "Broken off"}
ANSWERED = frozenset({"upstream", "refused", "preflight", "stand_in", "tunnelled"})
"""Steps that tell who answered."""


def summary(record: RequestRecord) -> dict[str, Any]:
    """Return a request as it stands in the list."""
    facts, hide = record.facts, _hiding(_sent(record))
    found = {
        "id": record.id,
        "at": rfc3339(record.at),
        "route": record.route,
        "method": record.method,
        "path": shown_path(record),
        "upstream": hide(facts.url_of(record.path)) if facts is not None else None,
        "status": record.status,
        "ms": _ms(record.seconds),
        "bytes_in": record.received,
        "bytes_out": record.sent,
        "repeated": record.retried,
        "token": _token(record),
        "steps": _steps(record),
        "error": _error(record),
    }
    if record.forward is None:
        return found
    return found | {"forward": record.forward} | ({"origin": record.origin} if record.origin else {})


def details(record: RequestRecord, secret_headers: AbstractSet[str] = frozenset()) -> dict[str, Any]:
    """Return a request with its headers, and with its bodies where they are kept.

    `secret_headers` are names, in lower case, that hold secrets besides those that are known for it.
    """
    facts, notes = record.facts, record.notes
    secrets = (*_sent(record), *_of_the_caller(record))  # an answer may repeat any of them
    also = secret_headers | (facts.secret_headers if facts is not None else frozenset())
    answer = record.answer.split(b"\r\n")[1:]
    found = summary(record) | {
        "request_headers": _headers(request_lines(record), secrets, also),
        "response_headers": _headers(answer, secrets, also),
    }
    if notes is not None and notes.cut:
        found["headers_cut"] = True
    if record.listener and record.forward is None:
        found["own_listener"] = True
    if facts is not None and facts.bodies:
        found["request_body"] = _body(notes.request_body if notes is not None else None, secrets)
        found["response_body"] = _body(notes.response_body if notes is not None else None, secrets)
    return found


def shown_path(record: RequestRecord) -> str:
    """Return the path of a request with the names of its query's parameters, every secret masked."""
    query = record.target.partition("?")[2]
    return _hiding(_sent(record))(f"{record.path}?{shown_query(query)}" if query else record.path)


def request_lines(record: RequestRecord) -> list[bytes]:
    """Return the lines of a request's header section, as far as they were kept."""
    if isinstance(record.head, bytes):
        return [line for line in record.head.split(b"\r\n") if line]
    return record.head.lines


def pair_of(line: bytes) -> tuple[str, str]:
    """Return the name and the value of a header line."""
    name, _, value = line.partition(b":")
    return name.decode("latin-1"), value.strip().decode("utf-8", "replace")


def _sent(record: RequestRecord) -> tuple[str, ...]:
    """Return the secrets that were sent: the added token, and the route's own."""
    if record.facts is None:
        return (record.token.value,) if record.token is not None else ()
    added = tuple(record.facts.sent(record.token)) if record.token is not None else ()
    return added + record.facts.secrets


def _of_the_caller(record: RequestRecord) -> Iterator[str]:
    """Yield the secrets that came with a request: what its masked headers and its query hold."""
    also = record.facts.secret_headers if record.facts is not None else frozenset()
    for name, value in map(pair_of, request_lines(record)):
        yield from secrets_of_header(name, value, also)
    yield from secrets_of_query(record.target.partition("?")[2])


@lru_cache(maxsize=64)
def _hiding(secrets: tuple[str, ...]) -> Hiding:
    """Return what masks them, and longer pieces: who repeats a text may leave out what it cannot quote.

    It costs more than the rest of a summary: that goes by `_sent` alone, which is the same for many requests.
    """
    return Hiding([*secrets, *(piece for secret in secrets for piece in _PIECES.findall(secret))])


_PIECES = re.compile(r"[A-Za-z0-9]{10,}")


def _headers(lines: Iterable[bytes], secrets: tuple[str, ...], also: AbstractSet[str]) -> list[list[str]]:
    hide = _hiding(secrets)
    pairs = [pair_of(line) for line in lines if line]
    return [[name, hide(shown_header(name, value, also))] for name, value in pairs]


def _body(kept: KeptBody | None, secrets: tuple[str, ...]) -> dict[str, Any] | None:
    """Return a body as text, or in Base64 where it is none; None where there was none."""
    if kept is None or not kept.size:
        return None
    data = bytes(kept.data)
    told = {"bytes": kept.size, "cut": kept.cut}
    try:
        text = data.decode() if not kept.cut else _decoded_beginning(data)
    except UnicodeDecodeError:
        for secret in filter(None, secrets):
            data = data.replace(secret.encode(), MASK.encode())
        return {"base64": base64.b64encode(data).decode(), **told}
    return {"text": _hiding(secrets)(text), **told}


def _decoded_beginning(data: bytes) -> str:
    """Return the text that `data` begins with; its last character may be cut. Raises `UnicodeDecodeError`."""
    for missing in range(4):
        try:
            return data[: len(data) - missing].decode()
        except UnicodeDecodeError as error:
            if error.start < len(data) - 3:
                raise
    return data.decode()


def _token(record: RequestRecord) -> dict[str, Any] | None:
    token, notes = record.token, record.notes
    if token is None:
        return None
    age = max(0.0, record.at - token.issued_at) if token.issued_at else None
    return {
        "age_s": round(age, 1) if age is not None else None,
        "source": notes.origin if notes is not None else "held",
    }


def _steps(record: RequestRecord) -> list[dict[str, Any]]:
    """Return what was done to a request, one thing after the other; together they took all of its time."""
    notes, last = record.notes, record.started
    noted = list(notes.steps) if notes is not None else []
    found = []
    first = next((what for what, *_ in noted if what != "placeholder"), None)
    if record.token is not None and first != "token":
        found.append({"what": "token", "detail": "held", "ms": 0.0})
    for what, detail, at in noted:
        found.append({"what": what, "detail": detail, "ms": _ms(at - last)})
        last = at
    rest = _ms(record.started + record.seconds - last)
    if record.route is None and record.forward is None and record.cause is not None and not noted:
        found.append({"what": "answer", "detail": record.cause, "ms": rest})  # it was sent nowhere
    elif not any(what in ANSWERED for what, _, _ in noted):
        detail = f"answered {record.status}" if record.status else record.cause or "no answer"
        found.append({"what": "upstream", "detail": detail, "ms": rest})
    elif noted[-1][0] == "upstream":
        found.append({"what": "answer", "detail": record.cause or f"{record.sent} bytes", "ms": rest})
    return found


def _error(record: RequestRecord) -> dict[str, Any] | None:
    if record.notes is not None and record.notes.problem is not None:
        return record.notes.problem
    return GONE | {"detail": record.cause, "route": record.route} if record.cause is not None else None


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 3)
