"""What PyYAML finds wrong is said so that it can be mended, and without a word of the file."""

import pytest

from authproxy.config.document import compose
from authproxy.errors import ConfigError

SECRET = "hunter2"
QUOTES = "put the value in quotes"
BRACKET = "this bracket is never closed"
BACKSLASH = "a \\ begins an escape: use 'single quotes', or write \\\\, in Windows paths too"
QUOTED_TWICE = "within '…' a ' is written ''"


def said(text):
    with pytest.raises(ConfigError) as raised:
        compose(text, "f")
    (fault,) = raised.value.faults
    assert SECRET not in fault.message
    return str(fault)


@pytest.mark.parametrize(
    ("password", "place", "way_out"),
    [
        (f"@{SECRET}", "2:11", QUOTES),
        (f"%{SECRET}", "2:11", QUOTES),
        (f"`{SECRET}", "2:11", QUOTES),
        (f"*{SECRET}", "2:11", QUOTES),
        (f"*&{SECRET}", "2:12", QUOTES),
        (f"&%{SECRET}", "2:12", QUOTES),
        (f"!<{SECRET}", "2:20", QUOTES),
        (f"!a!{SECRET}", "2:11", QUOTES),
        (f"|{SECRET}", "2:12", QUOTES),
        (f">{SECRET}", "2:12", QUOTES),
        (f"? {SECRET}", "2:11", QUOTES),
        (f"- {SECRET}", "2:11", QUOTES),
        (f"a: {SECRET}", "2:12", QUOTES),
        (f"{{{SECRET}", "2:11", f"{BRACKET}; close it, or if it belongs to a value, {QUOTES}"),
        (f"[{SECRET}", "2:11", BRACKET),
        (f"{{a: b #{SECRET}}}", "2:11", f"{BRACKET} (` #` begins a comment"),
        (f"{{a: b: {SECRET}}}", "2:16", QUOTES),
        (f"{{a: ${{{SECRET}}}}}", "2:16", 'write "${NAME}"'),
        (f"[::1]:{SECRET}", "2:12", "an address such as [::1]:8080 needs quotes"),
        (f'"a"{SECRET}', "2:14", QUOTED_TWICE),
        (f"'a'{SECRET}", "2:14", QUOTED_TWICE),
        (f'"{SECRET}', "2:11", "the quote that begins here is never closed"),
        (f"'{SECRET}", "2:11", "the quote that begins here is never closed"),
        (f'"C:\\{SECRET}"', "2:15", BACKSLASH),
        (f'"\\x{SECRET}"', "2:14", BACKSLASH),
        (f'"\\U{SECRET}"', "2:14", BACKSLASH),
    ],
)
def test_a_value_that_yaml_takes_for_something_else_is_told_to_be_quoted(password, place, way_out):
    told = said(f"user: joe\npassword: {password}\n")
    assert told.startswith(f"f:{place}: is not YAML: ")
    assert way_out in told


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a:\n\tb: 1", "2:1: is not YAML: this line is indented with a tab, where YAML allows"),
        ("a:\t1\nb: 1", "1:3: is not YAML: a tab cannot separate a key from its value; use a space"),
        (
            '{\n\t"a": 1\n}',
            "2:1: is not YAML: this is JSON indented with tabs, where YAML allows spaces only",
        ),
        ('{\n\t"a" 1\n}', "2:1: is not YAML: this line is indented with a tab"),
        ("a:1\nb: 2", "2:2: is not YAML: the space after the colon is missing in line 1; write `key: value`"),
        ("- a:x\n  b: 2", "2:4: is not YAML: the space after the colon is missing in line 1"),
        ("a: 1\n b: 2", "2:3: is not YAML: there is a colon where no key can be"),
        (
            "a:\n  - b: 1\n   c: 2",
            "3:4: is not YAML: this line is not indented like the others of what begins in line 2",
        ),
        (
            "a:\n  b: 1\n c: 2",
            "3:2: is not YAML: this line is not indented like the others of what begins in line 1",
        ),
        ("a: 1\nb\nc: 2", "2:1: is not YAML: this is no `key: value`; a colon and a space are missing"),
        ("[a]\nb = 1", "2:1: is not YAML: this looks like TOML or INI; write `key: value`"),
        ("a\n...\nb: 1", "3:1: is not YAML: there is text after the end"),
        (
            '{"a": 1 "b": 2}',
            "1:12: is not YAML: there is a second colon in one value; a comma is missing before it",
        ),
        ("a: &x 1\nb: &x 2", "2:4: is not YAML: two anchors (&) have the same name; give one another"),
        ("a: ]", "1:4: is not YAML: a value is missing here"),
        ("%FOO", "1:5: is not YAML: there is text after the end"),
    ],
)
def test_what_is_wrong_with_the_shape_is_told_with_its_way_out(text, fault):
    assert said(text).startswith(f"f:{fault}")


def test_a_character_that_is_never_allowed_is_named_by_its_number():
    assert said("a: b\x07c") == "f:1:5: contains a character that YAML does not allow (U+0007); remove it"
