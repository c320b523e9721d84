"""Many cases in one test: where pytest takes longer for a test than the case takes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest


@contextmanager
def every_case() -> Iterator[Callable[[object], AbstractContextManager[None]]]:
    """Yield what a case runs in; fail at the end, with each case that failed and its name.

    with every_case() as case:
        for name, data in TABLE.items():
            with case(name):
                assert read(data) == ...
    """
    failed: list[BaseException] = []
    seen: list[object] = []

    @contextmanager
    def case(name: object) -> Iterator[None]:
        seen.append(name)
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - it is raised at the end
            error.add_note(f"case: {name}")
            failed.append(error)

    yield case
    assert seen, "there are no cases"
    if failed:
        raise BaseExceptionGroup(f"{len(failed)} of {len(seen)} cases", failed)
