"""Every configuration that is shipped, or shown, passes `authproxy check`, without a warning."""

import re
from pathlib import Path

import pytest

from .configurations import DEPLOY, check, configurations

FOUND = configurations()


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND.keys())
def test_it_is_valid_and_nothing_in_it_is_odd(text: str, tmp_path: Path) -> None:
    assert re.fullmatch(r".*: ok, \d+ routes?\n", check(text, tmp_path))


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND.keys())
def test_no_secret_stands_in_it(text: str) -> None:
    for key in ("password", "client_secret", "token", "key", "tokens"):
        for value in re.findall(rf"\b{key}: (.+)", text):
            assert value.lstrip(" ['\"").startswith("${"), f"{key} is {value}"


def test_none_is_left_out() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    routes = re.compile(r"^ *routes:\n +- name: \w+\n +path:", re.MULTILINE)
    with_routes = {path for path in files if routes.search(path.read_text("utf-8"))}
    assert with_routes
    assert with_routes <= {DEPLOY.parent / name for name in FOUND}
