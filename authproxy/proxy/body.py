"""A request's body: read once from the client, kept while it may have to be said again.

    client ──▶ payload ──▶ chunks() ──▶ upstream
                   └─ kept, up to `retry.max_body`, for a second time

Kept pieces come first when it is said again, then whatever the client has yet to send: a refusal that
comes early does not stop the upload.
"""

from collections.abc import AsyncIterator

from authproxy.errors import BadRequest, BodyTooLarge
from authproxy.observe.record import KeptBody
from authproxy.proxy.request import Payload

LAST_CHUNK = b"0\r\n\r\n"
PIECE = 256 << 10  # bytes read at a time
LIMIT_HINT = "`limits.body_bytes` sets the limit"


class Body:
    """The body of one request, all sizes in bytes.

    `length` is what the client announced, None for chunked; up to `keep` bytes are kept; more than
    `limit` is refused (None: no limit), with `hint`.
    """

    def __init__(
        self, payload: Payload, *, length: int | None, keep: int, limit: int | None, hint: str = LIMIT_HINT
    ) -> None:
        self._hint = hint
        if limit is not None and length is not None and length > limit:
            raise _too_large(limit, hint)
        self.length = length
        self._payload = payload
        self._limit = limit
        self._keep = keep if length is None or length <= keep else -1
        self._kept: list[bytearray] = []  # few, however small the pieces are that come
        self._size = 0
        self.shown: KeptBody | None = None  # what the inspector gets of it

    @property
    def chunked(self) -> bool:
        return self.length is None

    @property
    def received(self) -> int:
        """How many bytes of it have come."""
        return self._size

    @property
    def repeatable(self) -> bool:
        """Whether everything that was read so far is still here."""
        return self._size <= self._keep

    def at_hand(self) -> bytes | None:
        """Return the whole body if it has arrived already, else None."""
        if not self._payload.is_eof() or not self.repeatable:
            return None
        if self._payload.at_eof():
            return b"".join(self._kept)
        rest = self._payload.read_nowait(-1)
        whole = b"".join([*self._kept, rest])
        self._take(rest)
        return whole

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body from its beginning. Raises `BadRequest` or `BodyTooLarge`."""
        for kept in list(self._kept):
            yield bytes(kept)
        while True:
            try:
                piece = await self._payload.read(PIECE)
            except _parser_fault() as error:
                raise BadRequest("the body is malformed") from error
            if not piece:
                return
            self._take(piece)
            yield piece

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self.shown is not None:
            self.shown.add(piece)
        if self._limit is not None and self._size > self._limit:
            raise _too_large(self._limit, self._hint)
        if self._size > self._keep:
            self._kept.clear()
        elif self._kept and len(self._kept[-1]) < PIECE:
            self._kept[-1] += piece
        else:
            self._kept.append(bytearray(piece))

    def frame(self, piece: bytes) -> bytes:
        """Return `piece` as it goes on the wire (RFC 9112 §7.1)."""
        return chunk(piece) if self.chunked else piece

    @property
    def last(self) -> bytes:
        """What ends the body on the wire."""
        return LAST_CHUNK if self.chunked else b""


class WholeBody:
    """A body that came with its head; up to `keep` bytes may be said again. More than `limit` is refused."""

    chunked = False
    last = b""

    def __init__(self, data: bytes, *, keep: int, limit: int | None) -> None:
        if limit is not None and len(data) > limit:
            raise _too_large(limit)
        self.length = self.received = len(data)
        self.repeatable = len(data) <= keep
        self._data = data

    def at_hand(self) -> bytes:
        return self._data

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._data

    def frame(self, piece: bytes) -> bytes:
        return piece


def chunk(piece: bytes) -> bytes:
    """Return `piece`, which must not be empty, as a chunk (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _parser_fault() -> type[Exception]:
    """Return what aiohttp calls a malformed body; Python asks only when reading has failed."""
    from authproxy.proxy.downstream.parser import HttpProcessingError

    return HttpProcessingError


def _too_large(limit: int, hint: str = LIMIT_HINT) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over {limit} bytes", hint=hint)
