"""Secrets that will not do, or hardly can be meant: found before they are sent and lock an account.

A secret that was copied with a blank, or saved with a byte order mark or one line break too many, looks
right wherever it is shown. What each may hold, its type says (`authproxy.values.Charset`). Here it is looked
for, and told where it is: which key, which reference, at which end, in which line. The text itself is never
repeated, and neither is its length.
"""

from collections.abc import Iterable, Iterator
from dataclasses import Field, replace
from functools import cache
from typing import Any, NamedTuple, get_args

from pydantic import SecretStr

from authproxy.config.document import Given, Item
from authproxy.config.traps import CUT_OFF
from authproxy.errors import Fault
from authproxy.masking import Leaf
from authproxy.values import SECRET, Charset

QUOTATION_MARKS = "“”„‟‘’‚«»"  # noqa: RUF001 - what word processors make of " and '


class Found(NamedTuple):
    """What is wrong with the texts of a mapping, and what is only odd."""

    faults: list[Fault]
    warnings: list[Fault]


def judge(leaves: Iterable[Leaf]) -> Found:
    """Judge every text among `leaves`, those of a dataclass with their places."""
    found = Found([], [])
    for place, charset in _texts(leaves):
        faults = list(_faults(place, charset))
        found.faults.extend(faults)
        if not faults:
            found.warnings.extend(_warnings(place, charset))
    return found


# ── which texts there are ────────────────────────────────────────────────────────────────────────


def _texts(leaves: Iterable[Leaf]) -> Iterator[tuple[Item, Charset]]:
    """Yield the place of each text that is sent, and what it may hold; defaults have no place."""
    for leaf in leaves:
        charset = _charset(leaf.declared) or (SECRET if isinstance(leaf.value, SecretStr) else None)
        if (
            charset is not None
            and leaf.value is not None
            and leaf.place
            and isinstance(leaf.place.value, str)
        ):
            for place in _given_parts(leaf.place) if charset.only_given else [leaf.place]:
                yield place, charset


def _given_parts(item: Item) -> Iterator[Item]:
    for part in item.given:
        text = item.value[part.start : part.end]
        yield replace(item, value=text, given=(replace(part, start=0, end=len(text)),), doubled=False)


@cache
def _charset(declared: Field[Any] | None) -> Charset | None:
    return next(_charsets_in(declared.type), None) if declared is not None else None


def _charsets_in(hint: Any) -> Iterator[Charset]:
    """Yield what stands in `Annotated`, however deep within unions, tuples and mappings."""
    yield from (each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Charset))
    for part in get_args(hint):
        yield from _charsets_in(part)


# ── what is wrong with one ───────────────────────────────────────────────────────────────────────


def empty(part: Given, *, may_be: bool = True) -> str:
    """Return what to say of a reference that gave nothing; an empty text may be meant where it `may_be`."""
    name = part.reference[2:-1]
    if not may_be:
        return f"is empty: {part.reference} gave nothing; set it"
    meant = f", or write ${{{name}:-}} if it is meant to be empty" if name.isidentifier() else ""
    return f"is empty: {part.reference} gave nothing; {'set it' if meant else 'fill it'}{meant}"


def _faults(item: Item, charset: Charset) -> Iterator[Fault]:
    text: str = item.value
    nothing = [each for each in item.given if each.start == each.end and not each.may_be_empty]
    if nothing:
        yield item.fault(empty(nothing[0]))
        return
    if charset.stripped:
        text = text.strip()
    if not text:
        if charset.filled:
            yield item.fault("should not be empty")
        return
    offset = item.value.index(text)
    if (unfit := charset.refused.search(text)) is not None:
        at = offset + unfit.start()
        found = f"contains {_named(item.value[at])} {_where(item, at)}: {charset.rule}"
        yield item.fault(f"{found}{_way_out(item, at)}")
    elif charset.bare and text.strip() != text:
        yield item.fault(f"{_white_end(item)}: {charset.rule}")


def _warnings(item: Item, charset: Charset) -> Iterator[Fault]:
    text: str = item.value
    if not charset.stripped and text.strip() != text:
        yield item.fault(f"{_white_end(item)}; if it does not belong there, remove it")
    if charset.odd is not None and (unusual := charset.odd.search(text)) is not None:
        at = unusual.start()
        yield item.fault(f"contains {_named(text[at])} {_where(item, at)}: {charset.rule}")
    if item.trap == CUT_OFF and not item.given:
        yield item.fault(CUT_OFF)
    if item.doubled:
        yield item.fault("contains $$, which stands for one $; write $$$$ for two, or a plain $ for one")


def _white_end(item: Item) -> str:
    text: str = item.value
    if not text.strip():
        return f"is nothing but whitespace{_source(item, 0)}"
    begins = text[:1].isspace()
    return f"{'begins' if begins else 'ends'} in whitespace{_source(item, 0 if begins else len(text) - 1)}"


def _named(character: str) -> str:
    if character in "\r\n":
        return "a line break"
    if character == "\ufeff":
        return "a byte order mark (U+FEFF)"
    if character == "\t":
        return "a tab"
    if character in QUOTATION_MARKS:
        return "a typographic quotation mark"
    if character < " " or character == "\x7f":
        return "a control character"
    return "whitespace" if character.isspace() else "a character that is not ASCII"


def _way_out(item: Item, at: int) -> str:
    """Say how such a character gets out of a text."""
    text: str = item.value
    part = _part(item, at)
    if text[at] in QUOTATION_MARKS:
        return "; write \" or ' around it instead"
    if part is None:
        return f"; {item.trap}" if item.trap not in {"", CUT_OFF} else ""
    if text[at] not in "\r\n" or (text[:at].strip() and text[at:].strip()):
        return ""
    one_goes = part.reference.startswith(("${file:", "${command:")) and not text[at:].strip()
    return "; only one line break at the end is left out: remove the others" if one_goes else "; remove it"


def _where(item: Item, at: int) -> str:
    """Say where in `item` the character `at` is: at an end, in a line, or else after how many others."""
    text: str = item.value
    part = _part(item, at)
    start, end = (part.start, part.end) if part is not None else (0, len(text))
    before, after = text[start:at], text[at + 1 : end]
    if not after.strip():  # its number would be the length
        place = "at its end"
    elif not before.strip():
        place = "at its start"
    elif "\n" in text[start:end].strip():
        place = "in line " + str(before.count("\n") + 1)
    else:
        place = f"at character {len(before) + 1}"
    return f"{place}{_source(item, at)}"


def _source(item: Item, at: int) -> str:
    part = _part(item, at)
    return f", in the value of {part.reference}" if part is not None else ""


def _part(item: Item, at: int) -> Given | None:
    """Return the reference that gave the character `at`; None for one that stands there itself."""
    return next((each for each in item.given if each.start <= at < each.end), None)
