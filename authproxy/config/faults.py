"""What pydantic finds wrong, said in the words of the file.

A place of pydantic's (`('scope', 'tuple[str, ...]', 1)`) is walked through the Items; parts that lead
nowhere name the member of a union. Of a union's complaints the deepest count: `scope[1]` says more than
`scope`. Messages name keys and choices, never the value that was given.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError

from authproxy.config.descriptions import description
from authproxy.config.document import Item
from authproxy.config.meant import UNKNOWN_KEY, did_you_mean, kinds_at, unknown_key
from authproxy.config.route import SWITCH_OR_MAPPING
from authproxy.config.texts import empty
from authproxy.config.traps import NO_COLON
from authproxy.errors import Fault

UNEXPECTED = "unexpected_keyword_argument"  # how pydantic says it
STRING, QUOTED = "should be a string", "put it in quotes"


def _string(item: Item, _context: dict[str, Any]) -> str:
    if isinstance(item.value, dict | list):
        return f"{STRING}: if it is one, {QUOTED}, as {item.trap}" if item.trap else STRING
    if item.given or not item.trap:
        is_other = isinstance(item.value, bool | int | float | date)
        return f"{STRING}; {QUOTED}" if is_other else STRING
    return f"{STRING}; {QUOTED}: {item.trap}"


def _choice(item: Item, context: dict[str, Any]) -> str:
    listed = str(context["expected"]).replace("'", "")
    meant = did_you_mean(item.value, listed.replace(" or ", ", ").split(", "))
    return f"should be {listed}{meant}"


def _list(item: Item, _context: dict[str, Any]) -> str:
    if isinstance(item.value, dict):
        return "should be a list, not a mapping; begin each entry with `- `"
    if item.value is None or isinstance(item.value, bool):  # it is no entry either
        return "should be a list"
    return "should be a list; put [ ] around it"


def _switch(item: Item, _context: dict[str, Any]) -> str:
    return f"should be true or false{did_you_mean(item.value, ('true', 'false'))}"


def _own_words(_item: Item, context: dict[str, Any]) -> str:
    return str(context["error"])


MAPPING = "should be a mapping"
MESSAGES: dict[str, str | Callable[[Item, dict[str, Any]], str]] = {
    "missing": "is required",
    "string_type": _string,
    "literal_error": _choice,
    "value_error": _own_words,
    "tuple_type": _list,
    "dict_type": "should be a mapping of `name: value`",
    "dataclass_type": MAPPING,
    "model_attributes_type": MAPPING,
    "bool_type": _switch,
    "bool_parsing": _switch,
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
    return _without_misspelled(settled + list(_joined(deepest)))


_MEANT = re.compile(rf"{UNKNOWN_KEY}; did you mean `(\w+)`\?")


def _without_misspelled(faults: list[Fault]) -> list[Fault]:
    """Leave out that a key is required where it is there, but for a typing error: that is one mistake."""
    meant = {
        f"{each.key.rpartition('.')[0]}.{match[1]}".lstrip(".")
        for each in faults
        if (match := _MEANT.match(each.message))
    }
    return [each for each in faults if each.key not in meant or not each.message.startswith("is required")]


def _joined(complaints: list[_Complaint]) -> Iterator[Fault]:
    """Yield one fault for each place: `should be a string or a list`."""
    places = {complaint.parts: complaint for complaint in complaints}
    for parts, first in places.items():
        said = list(dict.fromkeys(each.fault.message for each in complaints if each.parts == parts))
        quoted = [message for message in said if message.startswith(f"{STRING}; {QUOTED}")]
        if quoted or len(said) == 1:
            yield first.item.fault(quoted[0]) if quoted else first.fault
            continue
        yield first.item.fault("should be " + " or ".join(map(_bare, said)))


def _bare(message: str) -> str:
    """Return what something should be, without what may be done about it: there are several ways."""
    return message.removeprefix("should be ").partition(": if")[0].partition("; ")[0].partition(", not")[0]


def _complaint(details: Any, item: Item, kind: type, also: Iterable[str]) -> _Complaint:
    what, context, loc = details["type"], details.get("ctx", {}), details["loc"]
    parts: tuple[str | int, ...] = ()
    in_union = on_key = False
    member = ""
    for index, part in enumerate(loc):
        child = item.child(part)
        if child is not None:
            item, parts = child, (*parts, part)
        elif part == "[key]":
            on_key = True
        elif what == "missing" and index == len(loc) - 1:
            # Each missing key is a place of its own, though nothing stands there.
            fault = item.missing(str(part), _required(kind, parts, str(part), member))
            return _Complaint(item, (*parts, part), in_union, fault)
        else:
            in_union, member = True, str(part)
    if what == UNEXPECTED:
        return _Complaint(item, parts, in_union, _unexpected(item, kind, parts, also, member))
    if what in TAGS:
        return _Complaint(item, parts, in_union, _of_tag(item, context, kinds_at(kind, parts)))
    text = _text(what, details, item, _keys_of(kind, parts))
    return _Complaint(item, parts, in_union, item.key_fault(text) if on_key else item.fault(text))


def _unexpected(
    item: Item, kind: type, parts: tuple[str | int, ...], also: Iterable[str], member: str
) -> Fault:
    """Return the fault of a key that is not known there: in a union, to the `member` that was chosen."""
    name, above = str(parts[-1]), parts[:-1]
    if item.trap == NO_COLON:  # the name may be half a password
        around = item.key.removesuffix(f".{name}")
        message = f"{NO_COLON}; if it belongs to the value before it, put that in quotes"
        return Fault(item.file, item.key_line, item.key_column, around, message)
    kinds = kinds_at(kind, above)
    if chosen := _chosen(kinds, member):
        takes = [str(tag) for each in kinds if name in _names(each) for tag in _tags(each)]
        if takes:
            return item.key_fault(f"{UNKNOWN_KEY} with `type: {member}`; it goes with {' or '.join(takes)}")
        kinds = chosen
    known = {key for each in kinds for key in _names(each)} | (set() if above else set(also))
    return item.key_fault(unknown_key(name, known, kinds[0] if len(kinds) == 1 else None))


def _names(kind: Any) -> list[str]:
    return [each.name for each in fields(kind)]


def _tags(kind: Any) -> tuple[object, ...]:
    """Return what tells `kind` from the others of a union, as the value of its key `type`; else nothing."""
    return get_args(get_type_hints(kind)["type"]) if "type" in _names(kind) else ()


def _chosen(kinds: Iterable[Any], member: str) -> list[Any]:
    """Return those of a union's `kinds` that `member` is the `type` of."""
    return [each for each in kinds if member in _tags(each)]


def _required(kind: type, parts: tuple[str | int, ...], name: str, member: str) -> str:
    kinds = kinds_at(kind, parts)
    for each in _chosen(kinds, member) or kinds:
        if (said := description(each, name)) is not None:
            return f"is required ({said})"
    return "is required"


TAGS = frozenset({"union_tag_invalid", "union_tag_not_found"})


def _of_tag(item: Item, context: dict[str, Any], kinds: list[Any]) -> Fault:
    """Say which kinds there are of what a key of its own tells apart (`token_store.type`)."""
    name = str(context["discriminator"]).strip("'")
    known = [str(get_args(get_type_hints(each)[name])[0]) for each in kinds]
    given, listed = item.child(name), f"{', '.join(known[:-1])} or {known[-1]}"
    if given is None:
        return item.missing(name, f"is required: {listed}")
    return given.fault(f"should be {listed}{did_you_mean(given.value, known)}")


def _keys_of(kind: type, parts: tuple[str | int, ...]) -> str:
    names = list(dict.fromkeys(key.name for each in kinds_at(kind, parts) for key in fields(each)))
    return f" with keys such as {', '.join(names[:4])}" if names else ""


def _text(what: str, details: Any, item: Item, keys: str) -> str:
    if item.given and item.value == "":
        return empty(item.given[0], may_be=False)
    message = MESSAGES.get(what)
    if message is None:
        message = str(details["msg"]).replace("Input should", "should")
        if isinstance(item.value, str) and item.value in message:  # it may be a secret
            message = "is not what is expected here"
    text = message if isinstance(message, str) else message(item, details.get("ctx", {}))
    text += keys if text in {MAPPING, SWITCH_OR_MAPPING} else ""
    if item.given:  # what stands in the file looks right
        text += f" (from {', '.join(dict.fromkeys(each.reference for each in item.given))})"
    return text
