"""What pydantic finds wrong, said in the words of the file.

A place of pydantic's (`('scope', 'tuple[str, ...]', 1)`) is walked through the Items; parts that lead
nowhere name the member of a union. Of a union's complaints the deepest count: `scope[1]` says more than
`scope`. Messages name keys and choices, never the value that was given.
"""

import types
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from authproxy.config.document import Item
from authproxy.errors import Fault

UNEXPECTED = "unexpected_keyword_argument"  # how pydantic says it
UNKNOWN_KEY = "unknown key"


def _string(item: Item, _context: dict[str, Any]) -> str:
    given_otherwise = isinstance(item.value, bool | int | float | date)
    return "should be a string; put it in quotes" if given_otherwise else "should be a string"


def _choice(_item: Item, context: dict[str, Any]) -> str:
    return "should be " + str(context["expected"]).replace("'", "")


def _own_words(_item: Item, context: dict[str, Any]) -> str:
    return str(context["error"])


MESSAGES: dict[str, str | Callable[[Item, dict[str, Any]], str]] = {
    "missing": "is required",
    "string_type": _string,
    "literal_error": _choice,
    "value_error": _own_words,
    "tuple_type": "should be a list",
    "dict_type": "should be a mapping",
    "dataclass_type": "should be a mapping",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_parsing_size": "should be a whole number",
    "int_from_float": "should be a whole number",
    "greater_than": lambda _, context: f"should be more than {context['gt']:g}",
    "greater_than_equal": lambda _, context: f"should be at least {context['ge']}",
    "less_than_equal": lambda _, context: f"should be at most {context['le']}",
    "too_short": lambda _, context: f"should contain at least {context['min_length']}",
}


@dataclass(frozen=True, slots=True)
class _Complaint:
    item: Item
    parts: tuple[str | int, ...]  # those that lead to `item`
    in_union: bool
    fault: Fault


def faults_of(error: ValidationError, item: Item, kind: type, also: Iterable[str] = ()) -> list[Fault]:
    """Return the faults of `item`, which should be a `kind`; `also` are keys that it may have besides."""
    errors = error.errors(include_url=False)
    places = {each["loc"] for each in errors}
    complaints = [
        _complaint(each, item, kind, also)
        for each in errors
        # An item that is wrong is left out of its list, which is not too short for that.
        if each["type"] != "too_short" or not any(place[:-1] == each["loc"] for place in places if place)
    ]
    settled = [each.fault for each in complaints if not each.in_union]
    unions = [each for each in complaints if each.in_union]
    deepest = [
        each
        for each in unions
        if not any(
            len(other.parts) > len(each.parts) and other.parts[: len(each.parts)] == each.parts
            for other in unions
        )
    ]
    return settled + list(_joined(deepest))


def _joined(complaints: list[_Complaint]) -> Iterable[Fault]:
    """Yield one fault for each place: `should be a string or a list`."""
    places = {complaint.parts: complaint for complaint in complaints}
    for parts, first in places.items():
        said = dict.fromkeys(each.fault.message for each in complaints if each.parts == parts)
        if any("put it in quotes" in message for message in said):
            yield first.item.fault("should be a string; put it in quotes")
            continue
        if len(said) == 1:
            yield first.fault
            continue
        yield first.item.fault(
            "should be " + " or ".join(message.removeprefix("should be ") for message in said)
        )


def _complaint(details: Any, item: Item, kind: type, also: Iterable[str]) -> _Complaint:
    what, context, loc = details["type"], details.get("ctx", {}), details["loc"]
    parts: tuple[str | int, ...] = ()
    in_union = on_key = False
    for index, part in enumerate(loc):
        child = item.child(part)
        if child is not None:
            item, parts = child, (*parts, part)
        elif part == "[key]":
            on_key = True
        elif what == "missing" and index == len(loc) - 1:
            return _Complaint(item, parts, in_union, item.missing(str(part)))
        else:
            in_union = True
    if what == UNEXPECTED:
        known = names_at(kind, parts[:-1]) | (set(also) if len(parts) == 1 else set())
        return _Complaint(item, parts, in_union, item.key_fault(unknown_key(str(loc[-1]), known)))
    message = MESSAGES.get(what) or details["msg"].replace("Input should", "should")
    text = message if isinstance(message, str) else message(item, context)
    if item.given:  # what stands in the file looks right
        text += f" (from {', '.join(dict.fromkeys(each.reference for each in item.given))})"
    return _Complaint(item, parts, in_union, item.key_fault(text) if on_key else item.fault(text))


def unknown_key(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, known, 1)
    if close:
        return f"{UNKNOWN_KEY}; did you mean `{close[0]}`?"
    return f"{UNKNOWN_KEY}; the keys here are {', '.join(sorted(known))}" if known else UNKNOWN_KEY


def unknown_name(what: str, name: object, known: Collection[str]) -> str:
    close = get_close_matches(name, known, 1) if isinstance(name, str) else []
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"unknown {what}{meant} (choose from {', '.join(known)})"


def names_at(kind: Any, parts: tuple[str | int, ...]) -> set[str]:
    """Return the keys of the mapping that `parts` lead to in the dataclass `kind`."""
    for part in parts:
        kinds = [each for each in _dataclasses(kind) if part in {one.name for one in fields(each)}]
        if not kinds:
            return set()
        kind = get_type_hints(kinds[0], include_extras=True)[str(part)]
    return {one.name for each in _dataclasses(kind) for one in fields(each)}


def _dataclasses(kind: Any) -> list[Any]:
    if is_dataclass(kind):
        return [kind]
    if get_origin(kind) in {Union, types.UnionType}:
        return [each for member in get_args(kind) for each in _dataclasses(member)]
    if hasattr(kind, "__metadata__"):
        return _dataclasses(get_args(kind)[0])
    return []
