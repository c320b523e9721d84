"""Least privilege: which requests of a route may leave, by method and path pattern."""

import re
from collections.abc import Sequence

from authproxy.errors import Forbidden

ADD_METHOD = "add the method to `allow.methods` of this route"
ADD_PATH = "add the path to `allow.paths` of this route"


class Allow:
    """Least privilege: what a route lets out. Patterns know `*` (within a segment), `**` and a leading `!`.

    The first pattern that fits decides; `!` refuses. What fits none is refused.
    """

    def __init__(
        self,
        *,
        methods: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
        hint: str | None = None,
    ) -> None:
        self._methods = frozenset(methods) if methods is not None else None
        self._paths = (
            None if paths is None else [(compiled(path), not path.startswith("!")) for path in paths]
        )
        self._hint = hint

    def check(self, method: str, path: str) -> None:
        """Raise `Forbidden` unless `method` and the judged `path` may leave."""
        if self._methods is not None and method not in self._methods:
            raise Forbidden(f"this route does not allow {method}", hint=self._hint or ADD_METHOD)
        if self._paths is None:
            return
        for pattern, verdict in self._paths:
            if pattern.match(path):
                if verdict:
                    return
                break
        raise Forbidden("this route does not allow that path", hint=self._hint or ADD_PATH)


def compiled(glob: str) -> re.Pattern[str]:
    """Compile a glob; `/a/**` fits `/a/` and everything below it, `/**` everything."""
    parts = re.split(r"(\*\*|\*)", glob.removeprefix("!"))
    words = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts) + r"\Z", re.DOTALL)
