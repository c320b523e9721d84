"""The admin API over the wire, asked oddly: what a filter finds, and what it says when nothing can be had."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin_api import Here, admin_api


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def here(request: pytest.FixtureRequest) -> Iterator[Here]:
    with admin_api(workers=request.param) as made:
        yield made


def found(here: Here, query: str) -> list[str]:
    return [each["path"] for each in here.requests(f"?{query}")]


def test_a_part_of_the_path_is_found_as_it_is_shown_and_as_people_read_it(here: Here) -> None:
    here.call("/other/caf%C3%A9/a%20b?page=2")
    here.call("/other/tea")
    shown = "/other/caf%C3%A9/a%20b?page=••••"
    for part in ("caf%25C3%25A9", "caf%C3%A9", "a+b", "a%2520b", "%3Fpage"):
        assert found(here, f"q={part}") == [shown], part
    assert found(here, "q=page%3D2") == []  # nobody finds out a value by asking
    assert found(here, "q=%ff") == []


def test_a_limit_of_any_size_is_taken(here: Here) -> None:
    here.call("/other/1")
    assert found(here, f"limit={10**9}") == found(here, f"limit={10**30}") == ["/other/1"]


@pytest.mark.parametrize("workers", [1, 2])
def test_while_there_is_no_token_every_answer_says_when_to_ask_again(workers: int, tmp_path: Path) -> None:
    path = tmp_path / "token"
    with admin_api(workers=workers, auth={"grant": "file", "path": str(path)}) as here:
        for answer in (here.call(), here.post("/api/routes/api/refresh")):
            assert (answer.status, answer.one("Retry-After")) == (503, "1")
        path.write_text(here.tokens.issued.one_more())
        assert here.call().status == 200
