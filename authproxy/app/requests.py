"""What one process knows of its last requests, asked by name: by this process, or by the broker of several.

    "requests"   those that fit a filter        "replay"     send one again
    "request"    one, with its headers          "latencies"  how long they took, by route

Questions and answers are plain data, so that they can be sent.
"""

from collections.abc import Callable
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from authproxy.config.model import Config
from authproxy.errors import AuthproxyError, ConnectionLimit, NotReplayable
from authproxy.observe.inspection import details, summary
from authproxy.observe.recent import Filter, Recent
from authproxy.observe.record import request_id

if TYPE_CHECKING:
    from authproxy.proxy.downstream.server import ProxyServer

Answer = Any
KINDS: tuple[type[AuthproxyError], ...] = (ConnectionLimit, NotReplayable)


class LocalRequests:
    """Answers for this process. `config` and `server` are asked for anew with each question."""

    def __init__(
        self, recent: Recent, config: Callable[[], Config], server: Callable[[], "ProxyServer | None"]
    ) -> None:
        self._recent = recent
        self._config = config
        self._server = server
        self.questions: dict[str, Callable[[Any], Answer]] = {
            "requests": self._requests,
            "request": self._request,
            "replay": self._replay,
            "latencies": lambda _: self._recent.seconds(),
        }

    def _requests(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        return [summary(record) for record in self._recent.newest(Filter(**wanted))]

    def _request(self, wanted: str) -> dict[str, Any] | None:
        record = self._recent.find(wanted)
        access = self._config().access
        return details(record, frozenset({access.header.lower()} if access else ())) if record else None

    def _replay(self, wanted: str) -> dict[str, Any] | None:
        """Send a request again; return its new id, or why not; None when there is no such request."""
        from authproxy.proxy.downstream.replay import replay, request_of

        record, server, access = self._recent.find(wanted), self._server(), self._config().access
        if record is None or server is None:
            return None
        header = access.header if access is not None else ""
        keys = [each.get_secret_value() for each in access.tokens] if access is not None else []
        known = request_id(time(), perf_counter())
        try:
            replay(server, record, request_of(record, access_header=header, access_keys=keys), known)
        except KINDS as error:
            return {"error": [type(error).__name__, error.detail, error.hint, error.retry_after]}
        return {"id": known}


def error_of(answer: dict[str, Any]) -> AuthproxyError | None:
    """Return why a request was not sent again; None if it was."""
    if "error" not in answer:
        return None
    name, detail, hint, retry_after = answer["error"]
    kind = next(each for each in KINDS if each.__name__ == name)
    return kind(detail, hint=hint, retry_after=retry_after)
