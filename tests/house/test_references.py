"""The pages that are made of the program say what the program says."""

import re

import pytest

from docs.tools.references import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_make_references_makes(name):
    page = (DOCS / name).read_text(encoding="utf-8")
    assert page == PAGES[name](), f"docs/{name} is stale: run `make references`"


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_its_tables_says_something(name):
    rows = re.findall(r"^\| `.*\|$", PAGES[name](), re.MULTILINE)
    assert rows
    assert [row for row in rows if not re.split(r"(?<!\\)\|", row)[-2].strip()] == []
