"""Entity tags of answers that are not what the upstream has made of them (RFC 9110 §8.8.1).

    upstream ─ "abc" ─▶ W/"abc" ─▶ client      the same in meaning, and not to the byte
    upstream ◀─ "abc" ─ W/"abc" ◀─ client      in a condition, which the upstream is to understand

A tag that was weak at the upstream is told from one that was made weak here by having been seen: the last
of those are remembered, in this process. One that is not is taken for ours, which does no harm: a strong
comparison, as `If-Match` asks for, fails for it either way, and that of `If-None-Match` looks at no W/.
"""

import re

MAX_REMEMBERED = 1024  # tags that are weak at the upstream,
MAX_TAG = 256  # bytes each

_TAG = re.compile(rb'(W/)?("[^"]*")')


class EntityTags:
    """The tags of one route."""

    def __init__(self) -> None:
        self._weak: dict[bytes, None] = {}

    def weakened(self, value: bytes) -> bytes:
        """Return an `ETag` of the upstream as the client gets it."""
        match = _TAG.fullmatch(value)
        if match is None:
            return value
        weak, tag = match.groups()
        self._weak.pop(tag, None)  # what it is now counts, and it is the last one to be forgotten
        if not weak:
            return b"W/" + tag
        if len(tag) <= MAX_TAG:
            if len(self._weak) >= MAX_REMEMBERED:
                del self._weak[next(iter(self._weak))]
            self._weak[tag] = None
        return value

    def restored(self, value: bytes) -> bytes:
        """Return an `If-Match` or `If-None-Match` of the client as the upstream gets it."""
        return _TAG.sub(lambda match: match[0] if match[2] in self._weak else match[2], value)
