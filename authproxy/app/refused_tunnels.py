"""A program's CONNECTs that were refused, in the log: all that its client shows of the answer is the status.

One that came without a key may come once more, with it, as some clients do when they are asked to
(RFC 9110 §11.7.1). So that is told of at the end, where none to that host was let in.
"""

from authproxy import logs
from authproxy.observe.record import RequestRecord

ESTABLISHED, NO_KEY_SENT = 200, 407
MAX_TOLD = 256  # hosts, each once for a status


class RefusedTunnels:
    """Is told of all that comes (`Watcher`)."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int]] = set()
        self._keyless: dict[str, RequestRecord] = {}

    def answered(self, record: RequestRecord) -> None:
        """Hear of a request."""
        if record.method != "CONNECT":
            self._let_in(record.listener.rpartition("//")[2])
        elif record.status == NO_KEY_SENT:
            if len(self._keyless) < MAX_TOLD:
                self._keyless[record.path] = record
        else:
            self._let_in(record.path)
            if record.status != ESTABLISHED:  # else what went wrong after it is in the log already
                self._tell(record)

    def secured(self, place: str, named: str | None) -> None:  # noqa: ARG002 - as `Watcher` has it
        """Hear of a handshake for `place`."""
        self._let_in(place)

    def ended(self) -> None:
        """Tell of those that came without a key to the end."""
        for record in self._keyless.values():
            self._tell(record)
        self._keyless.clear()

    def _let_in(self, place: str) -> None:
        self._keyless.pop(place, None)

    def _tell(self, record: RequestRecord) -> None:
        problem = record.notes.problem if record.notes is not None else None
        key = record.path, record.status
        if problem is None or key in self._told or len(self._told) >= MAX_TOLD:
            return
        self._told.add(key)
        logs.warning(
            "a CONNECT failed",
            host=record.path,
            status=record.status,
            cause=problem.get("detail") or problem.get("title"),
            hint=problem.get("hint"),
        )
