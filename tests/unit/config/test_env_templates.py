"""Templates of `env`: what may stand in braces, and what comes of it."""

import pytest

from authproxy.config.env_templates import FIELDS, fields_of, filled, template, variable_name

VALUES = {"url": "http://a/b", "host": "a", "port": "80", "placeholder": "authproxy-p-x"}


@pytest.mark.parametrize("name", ["A", "a_b2", "_", "NO_PROXY"])
def test_a_name_that_a_shell_can_set(name):
    assert variable_name(name) == name


@pytest.mark.parametrize("name", ["", "2A", "A-B", "A B", "A=B", "Ä", "A\n", "A.B"])
def test_a_name_that_it_cannot(name):
    with pytest.raises(ValueError, match="should be the name of a variable"):
        variable_name(name)


@pytest.mark.parametrize(
    ("text", "wants", "becomes"),
    [
        ("plain $X", set(), "plain $X"),
        ("", set(), ""),
        ("{url}/v2?a={port}", {"url", "port"}, "http://a/b/v2?a=80"),
        ("{{url}} {{ }}", set(), "{url} { }"),
        ("{host}{placeholder}", {"host", "placeholder"}, "aauthproxy-p-x"),
    ],
)
def test_a_template_is_filled(text, wants, becomes):
    assert template(text) == text
    assert fields_of(text) == wants <= set(FIELDS)
    assert filled(text, VALUES) == becomes


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "}",
        "{}",
        "{0}",
        "{token}",
        "{url.x}",
        "{url[0]}",
        "{url!r}",
        "{url:>9}",
        "{ url }",
        '{"a": 1}',
        "{URL}",
    ],
)
def test_anything_else_in_braces_is_told_without_the_value(text):
    with pytest.raises(ValueError, match="nothing else in braces") as raised:
        template(f"s3cret {text}")
    assert "s3cret" not in str(raised.value)


def test_no_variable_can_hold_a_nul():
    with pytest.raises(ValueError, match="NUL"):
        template("a\0b")
