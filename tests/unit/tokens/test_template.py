"""What is sent of a token: a text with places."""

import pytest

from authproxy.errors import BadTokenReply
from authproxy.tokens.template import Template
from authproxy.tokens.token import Token

TOKEN = Token("t0k3n", fields=(("/tenant/id", "geo"), ("/a~1b", "c")))


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{token}", "t0k3n"),
        ("Bearer {token}", "Bearer t0k3n"),
        ("{response:/tenant/id}", "geo"),
        ("{{{token}}}", "{t0k3n}"),
        ("{response:/a~1b}-{token}-{token}", "c-t0k3n-t0k3n"),
        ("fixed", "fixed"),
        ("", ""),
    ],
)
def test_places_are_filled(text, filled):
    assert Template.parse(text).fill(TOKEN) == filled


@pytest.mark.parametrize(
    "text",
    ["{", "}", "{tokens}", "{response:tenant}", "{response:}", "{token", "{response:/a{token}}", "{0}"],
)
def test_other_braces_are_refused_without_a_word_of_the_text(text):
    with pytest.raises(ValueError, match="should hold no braces but") as caught:
        Template.parse(f"s3cr3t {text}")
    assert "s3cr3t" not in str(caught.value)


def test_what_it_wants_and_whether_it_has_places_at_all():
    template = Template.parse("{response:/a}{token}{response:/b/0}")
    assert template.pointers == ("/a", "/b/0")
    assert not template.is_fixed
    assert Template.parse("{{token}}").is_fixed
    assert Template.parse("Key {token}").words == "Key "
    assert Template.parse("{token} Key").words == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bearer {token}", "Bearer {token}"),
        ("{response:/a}:{token}", "{response:/a}:{token}"),
        ("an-app-id-that-is-a-secret {token}", "••••{token}"),
        ("Key s3cr3t {token}", "••••{token}"),
        ("{token}!", "{token}••••"),
        ("s3cr3t {token}", "••••{token}"),
    ],
)
def test_of_its_own_words_only_a_scheme_is_shown(text, shown):
    template = Template.parse(text)
    assert template.shown == shown
    assert "s3cr3t" not in repr(template)


def test_a_token_that_lacks_a_field_says_which():
    with pytest.raises(BadTokenReply, match="without /other"):
        Template.parse("{response:/other}").fill(TOKEN)
