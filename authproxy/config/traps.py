"""What YAML makes of a text that looks like something else: a number, a switch, a comment.

A password such as 0123, yes, 12:30, `abc #def` or &abc is none any more once YAML has read it. What it became
is kept with the value (`Item.trap`) and told where a text is expected. No sentence repeats a value.
"""

import re
from datetime import date

import yaml

from authproxy.malformed import ESCAPES

NULL = "null and ~ mean: no value"
NO_COLON = "a comma ends a value within { }, and what follows is a key"
CUT_OFF = "ends before the #, where a comment begins; if # belongs to it, put it in quotes"
OCTAL = "YAML reads another number, as one that begins with 0 is octal"
BLOCK = "what stands below | or > ends with a line break; below |- or >- it does not"
_CONTROL = re.compile(r"[\x00-\x1f]")
_CUT_OFF = re.compile(r"[ \t]+#\S")
_COMMENT = re.compile(r"[ \t]*#")


def trap_of(node: yaml.Node, value: object, text: str) -> str:
    """Return how `node` of `text` came to be `value`, in half a sentence; nothing where it is no trap."""
    if isinstance(value, str):
        return _text(node, value, text)
    if value is None:
        return _nothing(node, text)
    if isinstance(value, bool):
        return "yes, no, on, off, true and false are switches in YAML"
    if isinstance(value, date):
        return "YAML reads a date"
    return _number(str(node.value))


def trap_of_brackets(node: yaml.Node) -> str:
    """Return what a mapping or a list may have been meant for that is written with brackets."""
    if not getattr(node, "flow_style", False):
        return ""
    return "a { begins a mapping" if isinstance(node, yaml.MappingNode) else "a [ begins a list"


def _number(written: str) -> str:
    if ":" in written:
        return "YAML reads digits with colons as one number, to base 60"
    if re.fullmatch(r"[-+]?0[_0-9]+", written):
        return OCTAL
    if re.match(r"[-+]?0[xXbB]", written):
        return "YAML reads another number, as one that begins with 0x or 0b is hexadecimal or binary"
    return "YAML reads a number"


def _nothing(node: yaml.Node, text: str) -> str:
    start = node.start_mark.index
    if text[start : start + 1] == "&":
        return "an & at the start names an anchor, and no value is left"
    if node.value:
        return NULL
    if _COMMENT.match(text, start):
        return "a # begins a comment, and no value is left"
    return 'no value stands here; "" is an empty string'


def _text(node: yaml.Node, value: str, text: str) -> str:
    style = getattr(node, "style", None)
    if style is None and _CUT_OFF.match(text, node.end_mark.index):
        return CUT_OFF
    if style == '"' and _CONTROL.search(value):
        return ESCAPES
    return BLOCK if style in {"|", ">"} and value.endswith("\n") else ""
