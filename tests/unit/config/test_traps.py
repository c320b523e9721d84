"""What YAML makes of a text that looks like something else."""

import pytest

from authproxy.config.document import compose
from authproxy.config.traps import BLOCK, CUT_OFF, OCTAL
from authproxy.malformed import ESCAPES

SWITCH = "yes, no, on, off, true and false are switches in YAML"
OTHER = "YAML reads another number, as one that begins with 0x or 0b is hexadecimal or binary"


@pytest.mark.parametrize(
    ("written", "trap"),
    [
        ("hunter2", ""),
        ("0987654", ""),  # no octal number, so it stays text
        ("'0123'", ""),
        ("0123", OCTAL),
        ("0x1F", OTHER),
        ("0b11", OTHER),
        ("123", "YAML reads a number"),
        ("00.5", "YAML reads a number"),
        ("1.0e+5", "YAML reads a number"),
        ("12:34:56", "YAML reads digits with colons as one number, to base 60"),
        ("yes", SWITCH),
        ("Off", SWITCH),
        ("true", SWITCH),
        ("2024-01-01", "YAML reads a date"),
        ("null", "null and ~ mean: no value"),
        ("~", "null and ~ mean: no value"),
        ("", 'no value stands here; "" is an empty string'),
        ("#hunter2", "a # begins a comment, and no value is left"),
        (" # hunter2", "a # begins a comment, and no value is left"),
        ("&hunter2", "an & at the start names an anchor, and no value is left"),
        ("hunter2 #more", CUT_OFF),
        ("hunter2 # a remark", ""),
        ("'hunter2' #more", ""),
        ("{hunter2}", "a { begins a mapping"),
        ("[hunter2]", "a [ begins a list"),
        ('"hun\\ter2"', ESCAPES),
        ('"hun\\\\ter2"', ""),
        ("|\n  hunter2", BLOCK),
        ("|-\n  hunter2", ""),
        ("\n  hunter2: x", ""),
    ],
)
def test_a_value_knows_what_yaml_made_of_it(written, trap):
    text = f"password: {written}\nmore: x\n" if "\n" not in written else f"password: {written}\n"
    assert compose(text, "f").child("password").trap == trap
