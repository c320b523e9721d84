"""`grant: file`: somebody else keeps a token fresh in a file, and is not always tidy about it."""

import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import RunningProxy, running_proxy
from tests.support.wire import UNAUTHORIZED, Upstream, ask, reply, request


def jwt(seconds: float, name: str = "a") -> str:
    """Return a JWT that ends in `seconds`."""
    parts = [{"alg": "RS256"}, {"sub": name, "exp": int(time.time() + seconds)}]
    encoded = [urlsafe_b64encode(dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


@contextmanager
def watching(file: Path, **more: Any) -> Iterator[tuple[RunningProxy, Upstream]]:
    with Upstream(lambda _request, _wire: reply(body=b"fine")) as api:
        auth = {"grant": "file", "path": str(file)}
        config = {"routes": [{"name": "api", "upstream": api.url, "auth": auth}], **more}
        with running_proxy(config) as proxy:
            yield proxy, api


def sent(proxy: RunningProxy, api: Upstream) -> tuple[int, str | None]:
    """Return the status of a request, and the token that the API saw with it."""
    answer = ask(proxy.url, request("GET"))
    if answer.status != 200:
        return answer.status, None
    return 200, (api.requests[-1].one("Authorization") or "").removeprefix("Bearer ")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("state", ["empty", "blank", "missing", "half written", "several lines"])
def test_while_the_file_is_no_good_the_last_good_token_serves_and_the_next_one_at_once(
    state: str, workers: int, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    first, second = jwt(3600, "first"), jwt(3600, "second")
    file.write_text(first)
    with watching(file, workers=workers) as (proxy, api):
        assert sent(proxy, api) == (200, first)
        if state == "missing":
            file.unlink()
        else:
            bad = {"empty": "", "blank": " \n", "half written": second[:40], "several lines": "one\ntwo"}
            file.write_text(bad[state])
        for _ in range(10):
            assert sent(proxy, api) == (200, first)
        file.write_text(second)
        for _ in range(10):
            assert sent(proxy, api) == (200, second)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_comes_late_is_used_as_soon_as_it_is_there(workers: int, tmp_path: Path) -> None:
    file = tmp_path / "token"
    with watching(file, workers=workers) as (proxy, api):
        answers = [ask(proxy.url, request("GET")) for _ in range(10)]
        assert {answer.status for answer in answers} == {503}
        assert all(str(file) in answer.json["detail"] for answer in answers)
        token = jwt(3600)
        file.write_text(token)
        assert sent(proxy, api) == (200, token)


def test_a_token_whose_successor_is_late_is_replaced_as_soon_as_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "token"
    late, fresh = jwt(-20, "late"), jwt(3600, "fresh")
    file.write_text(late)
    with watching(file) as (proxy, api):
        for _ in range(10):
            assert sent(proxy, api) == (200, late), "whether it will do is for the API to say"
        file.write_text(fresh)
        assert sent(proxy, api) == (200, fresh)


def test_a_file_that_is_read_in_the_middle_of_being_written_heals_by_the_401(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("opaque-token-one")
    with watching(file) as (proxy, api):
        assert sent(proxy, api) == (200, "opaque-token-one")
        file.write_text("opaque-to")  # nobody can tell that this is not all

        def finish_the_file(came: Any, _wire: Any) -> bytes:
            if came.one("Authorization") == "Bearer opaque-token-two":
                return reply(body=b"fine")
            file.write_text("opaque-token-two")
            return UNAUTHORIZED

        api.answer = finish_the_file
        assert sent(proxy, api) == (200, "opaque-token-two")


def test_what_replaces_a_jwt_need_not_be_one_once_the_file_is_still(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(jwt(3600))
    with watching(file) as (proxy, api):
        assert sent(proxy, api)[0] == 200
        file.write_text("opaque-now")
        a_while_ago = time.time() - 60
        os.utime(file, (a_while_ago, a_while_ago))
        assert sent(proxy, api) == (200, "opaque-now")


def test_no_good_file_is_logged_once_and_not_once_a_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with watching(file) as (proxy, _api):
        for _ in range(10):
            ask(proxy.url, request("GET"))
        proxy.stop()  # what it logged is out by then
        assert proxy.log().count("warning no token") == 1
