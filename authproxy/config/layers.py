"""A route's keys in layers: its own over `defaults` over those that its preset brings."""

from collections.abc import Iterator
from dataclasses import replace

from authproxy.config.document import Item, merge
from authproxy.config.traps import NULL
from authproxy.errors import Fault

EACH = "in which each route begins with `- name: …` and has `upstream` and `auth`"
REQUIRED = frozenset({"name", "upstream", "auth"})
ROUTE_LEVELS = 2  # a route's keys, and the keys of its mappings


def routes_of(top: Item, faults: list[Fault]) -> list[Item]:
    """Return each route with all of its keys; what is wrong with the list is added to `faults`."""
    defaults, listed = top.child("defaults"), top.child("routes")
    if defaults is None or defaults.value is None:
        defaults = top.made({}, "defaults")
    elif not isinstance(defaults.value, dict):
        faults.append(defaults.fault("should be a mapping: any keys of a route"))
        defaults = top.made({}, "defaults")
    if (name := defaults.child("name")) is not None:
        faults.append(name.key_fault("is each route's own: it has no default"))
        defaults = defaults.without("name")
    if listed is None:
        faults.append(top.missing("routes", f"is required: a list, {EACH}"))
        return []
    if not isinstance(listed.value, list) or not listed.value:
        what = "a list, not a mapping" if isinstance(listed.value, dict) else "a list with at least one route"
        faults.append(listed.fault(f"should be {what}, {EACH}"))
        return []
    faults += [
        item.fault("should be a mapping: `name`, `upstream`, `auth` and so on")
        for item in listed.value
        if not isinstance(item.value, dict)
    ]
    routes = [_layered(item, defaults) for item in listed.value if isinstance(item.value, dict)]
    faults += _twins(routes)
    return routes


def _layered(own: Item, defaults: Item) -> Item:
    auth = own.child("auth") or defaults.child("auth")
    under = merge(defaults, _of_preset(own, auth), ROUTE_LEVELS)
    item = _without_nulls(merge(own, under, ROUTE_LEVELS), ROUTE_LEVELS)
    return item if auth is None else replace(item, value=item.value | {"auth": auth})


def _of_preset(own: Item, auth: Item | None) -> Item:
    """Return the route keys that the preset of `auth` brings, if there is one."""
    name = auth.child("preset") if auth is not None else None
    if auth is None or name is None or not isinstance(name.value, str):
        return Item({}, own.file)
    from authproxy.config.presets import presets

    preset = presets().get(name.value)
    brought = preset.route.items() if preset is not None else ()
    return Item({key: auth.made(value, f"{own.key}.{key}") for key, value in brought}, own.file)


def _without_nulls(item: Item, depth: int) -> Item:
    """Return a mapping without what is said to be null: there was nothing to take away."""
    if depth == 0 or not isinstance(item.value, dict):
        return item
    left = {name: child for name, child in item.value.items() if child.trap != NULL or name in REQUIRED}
    return replace(item, value={name: _without_nulls(child, depth - 1) for name, child in left.items()})


def is_shared(route: Item) -> bool:
    """Tell whether a route is mounted where all are: at an address of its own alone, it is not."""
    return not _has(route, "listen") or _has(route, "path") or _has(route, "host")


def _has(route: Item, key: str) -> bool:
    found = route.child(key)
    return found is not None and found.value is not None


def _twins(routes: list[Item]) -> Iterator[Fault]:
    """Yield a fault for each name, and each place, that an earlier route has."""
    names: dict[object, Item] = {}
    places: dict[object, Item] = {}
    for item in routes:
        name, path, host = (item.child(key) for key in ("name", "path", "host"))
        if name is not None and isinstance(name.value, str):
            if name.value in names:
                line = names[name.value].line
                yield name.fault(f"is the name of an earlier route, in line {line}; give one of them another")
            names.setdefault(name.value, name)
        place = (path.value if path else "/", str(host.value).lower() if host and host.value else None)
        if not isinstance(place[0], str) or not is_shared(item):
            continue
        if place in places:
            own = path if path and path.key.startswith(item.key) else None  # else it comes from `defaults`
            yield (own or host or item).fault(
                f"is mounted where an earlier route is, {_told(places[place])}: "
                "give it another `path` or `host`"
            )
        places.setdefault(place, item)


def _told(route: Item) -> str:
    """Return which route this is, for who looks for it in the file."""
    name = route.child("name")
    named = f"{name.value} " if name is not None and isinstance(name.value, str) else ""
    return f"{named}in line {route.line}"
