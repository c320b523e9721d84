"""What the doctor finds: steps, each with its time; on failure the cause, and what to do next."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a step went. `ok` is None for one that could not be tried; `next` is what to do."""

    ok: bool | None
    detail: str = ""
    cause: str | None = None
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A verdict with its name and the milliseconds that it took."""

    name: str
    ms: float
    verdict: Verdict

    def document(self) -> dict[str, Any]:
        found = self.verdict
        return {
            "name": self.name,
            "ok": found.ok,
            "ms": round(self.ms, 1),
            "detail": found.detail or None,
            "cause": found.cause,
            "next": found.next,
        }


def passed(detail: str = "") -> Verdict:
    return Verdict(True, detail)  # noqa: FBT003 - it is what the function says


def failed(cause: str, what_next: str | None, detail: str = "") -> Verdict:
    return Verdict(False, detail, cause, what_next)  # noqa: FBT003 - as above


def skipped(detail: str, what_next: str | None = None) -> Verdict:
    return Verdict(None, detail, None, what_next)


class Listener(Protocol):
    """Whoever is told of the steps while they are taken."""

    def begins(self, name: str) -> None:
        """Hear that a step is being taken."""
        ...

    def ended(self, step: Step) -> None:
        """Hear how it went."""
        ...


class Steps:
    """Takes one subject's steps in turn, and keeps what came of them, as `cleaned` leaves it."""

    def __init__(
        self, listener: Listener, cleaned: Callable[[Verdict], Verdict] = lambda verdict: verdict
    ) -> None:
        self.taken: list[Step] = []
        self._listener = listener
        self._cleaned = cleaned

    async def take(self, name: str, work: Awaitable[Verdict]) -> Verdict:
        """Await `work`, and note how it went."""
        self._listener.begins(name)
        started = perf_counter()
        verdict = await work
        self._note(Step(name, (perf_counter() - started) * 1000, verdict))
        return verdict

    def note(self, name: str, verdict: Verdict, ms: float = 0.0) -> None:
        """Note what took no time, or what took `ms` milliseconds and is over."""
        self._note(Step(name, ms, verdict))

    def _note(self, step: Step) -> None:
        step = replace(step, verdict=self._cleaned(step.verdict))
        self.taken.append(step)
        self._listener.ended(step)

    def failed_at(self, prefix: str) -> bool:
        """Tell whether a step failed whose name begins with `prefix`."""
        return any(step.verdict.ok is False and step.name.startswith(prefix) for step in self.taken)

    @property
    def ok(self) -> bool:
        """Whether none failed."""
        return all(step.verdict.ok is not False for step in self.taken)
