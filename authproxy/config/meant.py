"""Names that nobody knows here, and what was hardly meant otherwise: a typing error, or another place.

    unknown key ─┬─ a key of that name at another place of the file ── where that is
                 ├─ a key here that is spelled nearly so ──────────── did you mean …?
                 └─ neither ───────────────────────────────────────── the keys there are

Loaded only when there is a fault to tell.
"""

import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from authproxy.config.model import FileKeys
from authproxy.config.route import HeaderRules, RouteKeys
from authproxy.grants.grant import Grant
from authproxy.grants.registry import GRANTS

UNKNOWN_KEY = "unknown key"
IN_A_ROUTE = "it belongs to a route: below `- name: …` under `routes`, or under `defaults` for all of them"
ANCHOR = "an anchor needs no key of its own: put the & where the value is first used, or use `defaults`"
LIKELY = 0.7  # of `difflib`; below that, `cookies` would be a misspelt `bodies`
FREE = (HeaderRules,)  # mappings whose `set` takes any name

SAME = {
    "api_key": "static", "apikey": "static", "bearer": "static", "token": "static",
    "oauth": "client_credentials", "oauth2": "client_credentials", "user": "basic", "login": "token_request",
}  # fmt: skip
"""What people call a grant, and which one that is."""


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


def unknown_key(name: str, known: Collection[str], kind: Any = None) -> str:
    """Return what to say of a key `name` where `known` are the keys of a mapping of `kind`."""
    elsewhere = place_of(name, kind)
    if elsewhere:
        return f"{UNKNOWN_KEY}; {elsewhere}"
    meant = nearest(_snake_case(name), known)
    if meant:
        return f"{UNKNOWN_KEY}; did you mean {_either(f'`{each}`' for each in meant)}?"
    if kind in FREE:
        return f"{UNKNOWN_KEY}; the names of headers stand under `set`: `set: {{{name}: …}}`"
    if name.startswith("x-") and kind is FileKeys:
        return f"{UNKNOWN_KEY}; {ANCHOR}"
    return f"{UNKNOWN_KEY}; the keys here are {', '.join(sorted(known))}" if known else UNKNOWN_KEY


def place_of(name: str, kind: Any) -> str | None:
    """Return where a key `name` belongs, as it is none of `kind`; None where nobody has such a key."""
    if kind is FileKeys:
        return _from_top(name)
    if kind is RouteKeys:
        return _from_route(name)
    if isinstance(kind, type) and issubclass(kind, Grant):
        return _from_auth(name, kind)
    return None


def _from_top(name: str) -> str | None:
    if name in _own(RouteKeys) | {"auth"}:
        return IN_A_ROUTE
    if name in _of_auth():
        return "it belongs to a route's `auth`"
    return _under(name, FileKeys)


def _from_route(name: str) -> str | None:
    if name in _of_auth():
        return f"it belongs under `auth`, as in `auth: {{{name}: …}}`"
    if name in _own(FileKeys):
        return "it belongs to the top level of the file, outside `routes`"
    return _under(name, RouteKeys)


def _from_auth(name: str, kind: type[Grant]) -> str | None:
    if name in _own(RouteKeys):
        return "it belongs to the route itself, beside `auth`"
    others = [grant for grant in GRANTS if name in _own(GRANTS[grant])]
    if others and GRANTS[others[0]] is not kind:
        return f"this grant does not take it, but {_either(others)} would"
    return _under(name, kind) or (
        "it belongs to the top level of the file, outside `routes`" if name in _own(FileKeys) else None
    )


def _under(name: str, kind: Any) -> str | None:
    """Return which mapping within `kind` has a key `name`."""
    owners = [each.name for each in fields(kind) if name in names_at(kind, (each.name,))]
    return f"it belongs under {_either(f'`{each}`' for each in owners)}" if owners else None


def _own(kind: Any) -> set[str]:
    return {each.name for each in fields(kind)}


def _of_auth() -> set[str]:
    return {"grant", "preset"}.union(*(_own(kind) for kind in GRANTS.values())) - _own(RouteKeys)


def _snake_case(name: str) -> str:
    """Return `clientId` and `client-id` as keys are written here."""
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name).replace("-", "_")


# ── names of things ──────────────────────────────────────────────────────────────────────────────


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of a sentence that says what was meant; nothing where that cannot be told."""
    meant = nearest(name, known) if isinstance(name, str) else []
    return f"; did you mean {_either(meant)}?" if meant else ""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return what of `known` was probably meant: those that begin or end with `name`, or the nearest one."""
    known = list(known)
    if not name:
        return []
    close = get_close_matches(name, known, 1, 0.75)
    longer = [each for each in known if each.startswith(name) or name in _words(each)]
    return close or longer or get_close_matches(name, known, 1, LIKELY)


def _words(name: str) -> list[str]:
    return name.replace("-", "_").split("_")


def unknown_name(what: str, name: object, known: Collection[str]) -> str:
    return f"unknown {what}{did_you_mean(name, known)} (choose from {', '.join(known)})"


def unknown_grant(name: object, presets: Mapping[str, object]) -> str:
    """Return what to say of a grant that there is not; it may be a preset, or go by another name."""
    if isinstance(name, str) and name in presets:
        return f"unknown grant; {name} is a preset: write `preset: {name}` instead"
    if isinstance(name, str) and (same := SAME.get(name.lower())) is not None:
        return f"unknown grant; did you mean {same}? (choose from {', '.join(GRANTS)})"
    return unknown_name("grant", name, GRANTS)


def unknown_preset(name: object, presets: Mapping[str, object]) -> str:
    """Return what to say of a preset that there is not; it may be a grant."""
    if isinstance(name, str) and name in GRANTS:
        return f"unknown preset; {name} is a grant: write `grant: {name}` instead"
    return unknown_name("preset", name, presets)


def _either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


# ── the schema ───────────────────────────────────────────────────────────────────────────────────


def names_at(kind: Any, parts: tuple[str | int, ...]) -> set[str]:
    """Return the keys of the mapping that `parts` lead to in the dataclass `kind`."""
    return {one.name for each in kinds_at(kind, parts) for one in fields(each)}


def kinds_at(kind: Any, parts: tuple[str | int, ...]) -> list[Any]:
    """Return the dataclasses that `parts` lead to in the dataclass `kind`."""
    for part in (each for each in parts if not isinstance(each, int)):  # a place in a list
        kinds = [each for each in _dataclasses(kind) if part in _own(each)]
        if not kinds:
            return []
        kind = _types_of(kinds[0])[str(part)]
    return list(_dataclasses(kind))


@cache
def _types_of(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _dataclasses(kind: Any) -> Iterator[Any]:
    if is_dataclass(kind):
        yield kind
    elif get_origin(kind) in {Union, types.UnionType}:
        for member in get_args(kind):
            yield from _dataclasses(member)
    elif hasattr(kind, "__metadata__") or get_origin(kind) in {tuple, list}:
        yield from _dataclasses(get_args(kind)[0])
