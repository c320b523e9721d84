"""Stands in for the application that a worker, or the broker, belongs to: it notes what it is told."""

from types import SimpleNamespace
from typing import Any

from authproxy.observe.observed import Observed


class WorkerApp:
    """Answers questions by `answers`, and has `told` what it heard."""

    def __init__(self, *routes: str, **answers: Any) -> None:
        self.answers = answers
        self.told: list[tuple[Any, ...]] = []
        self.others: Any = None
        self.observed = Observed()
        for route in routes:
            self.observed.standings.of(route, "key")
        self.sources = SimpleNamespace(replaced=self._note("replaced"), forgotten=self._note("forgotten"))
        self.learn = self._note("learn")
        self.observing = SimpleNamespace(seen=None, watch=self._note("watch"), answer=self._answer)

    def _answer(self, question: str, about: Any) -> Any:
        answer = self.answers[question]
        return answer(about) if callable(answer) else answer

    def _note(self, what: str) -> Any:
        return lambda *about: self.told.append((what, *about))

    @property
    def refused(self) -> dict[str, str]:
        """Why routes are refused, in words."""
        return {name: refusal.sent for name, refusal in self.observed.standings.refused().items()}
