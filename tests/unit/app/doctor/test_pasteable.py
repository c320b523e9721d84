"""What is printed is clean."""

from pathlib import Path

import pytest

from authproxy.app.doctor.pasteable import Pasteable, is_telling
from authproxy.app.doctor.steps import failed
from authproxy.config.read import parse
from authproxy.masking import MASK

TEXT = """\
routes:
  - name: a
    upstream: https://a.example
    headers: {set: {X-Key: header-s3cret}}
    auth: {grant: password, token_url: "https://a.example/t", client_id: me, username: maria@example.com,
           password: pass-w0rd}
"""


def test_secrets_and_names_of_people_are_hidden():
    clean = Pasteable(parse(TEXT, "a.yaml"))
    assert clean("header-s3cret, pass-w0rd and maria@example.com") == f"{MASK}, {MASK} and {MASK}"


def test_what_is_added_is_hidden_too():
    clean = Pasteable(None)
    clean.add("the-new-token", None)
    verdict = clean.verdict(failed("the-new-token", "the-new-token", "the-new-token"))
    assert "the-new-token" not in str(verdict)
    assert clean.verdict(failed("a", None)).next is None


def test_a_terminal_has_nothing_to_obey():
    assert Pasteable(None)("a\x1b[2J\r\nb\x9bc") == "a [2J b c"


def test_the_home_directory_is_a_tilde():
    assert Pasteable(None)(f"{Path.home()}/authproxy.yaml") == "~/authproxy.yaml"


@pytest.mark.parametrize(
    ("text", "telling"), [("s3cr3t", True), ("basic", False), ("on", False), ("hunter-two", True)]
)
def test_a_plain_word_stays(text, telling):
    assert is_telling(text) is telling
