"""Where a configuration comes from, and how it looks to people.

`find_config` finds the file, `from_command_line` makes one route without a file, `effective` says what the
routes came to after presets and defaults.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from authproxy.config.document import Item, compose
from authproxy.config.read import COMMAND_LINE, read
from authproxy.config.schema import Config, Route, RouteKeys
from authproxy.errors import ConfigError, Fault
from authproxy.logs import MASK
from authproxy.places import NO_HOME, config_directory, is_file

SYSTEM_CONFIG = Path("/etc/authproxy/config.yaml")
ROUTE_NAME = "default"
ROUTE_KEYS = frozenset(each.name for each in fields(RouteKeys)) | {"auth"}


def find_config(explicit: str | None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the configuration file; raise `ConfigError` naming the places that were searched.

    A file that is named (`-c`, `$AUTHPROXY_CONFIG`) is the one, whether it is there or not.
    """
    named = explicit or environ.get("AUTHPROXY_CONFIG")
    if named:
        try:
            return Path(named).expanduser()
        except RuntimeError:
            raise ConfigError(
                [Fault(named, 1, 1, "", "names a home directory (~) that does not exist")]
            ) from None
    directory = config_directory()
    own = [directory / "config.yaml"] if directory is not None else []
    places = [Path("authproxy.yaml"), *own, SYSTEM_CONFIG]
    for place in places:
        if is_file(place):
            return place
    searched = ", ".join(["$AUTHPROXY_CONFIG", *map(str, places)])
    message = f"there is no configuration; searched {searched}. Name one with -c"
    if directory is None:
        message += f" ({NO_HOME})"
    raise ConfigError([Fault("authproxy.yaml", 1, 1, "", message)])


def from_command_line(
    upstream: str,
    preset: str | None = None,
    settings: Iterable[str] = (),
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Return a configuration of one route, mounted at /; raise `ConfigError`.

    A setting is `key=value`. Its key is one of a route when its first word is; else it belongs to `auth`.
    """
    here = Item(None, COMMAND_LINE)
    route: dict[str, Item] = {
        "name": here.made(ROUTE_NAME, "name"),
        "upstream": here.made(upstream, "--upstream"),
    }
    auth: dict[str, Item] = {"preset": here.made(preset, "--preset")} if preset else {}
    faults: list[Fault] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        words = key.split(".")
        if not equals or not all(words):
            faults.append(here.made(None, "--set").fault("should be key=value"))
            continue
        target = route if words[0] in ROUTE_KEYS else auth
        if words[0] == "auth" and len(words) > 1:
            target, words = auth, words[1:]
        try:
            _place(target, words, _value(text, f"--set {key}"))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    own = route.get("auth", here.made({}, "auth"))
    if isinstance(own.value, dict):
        own.value.update(auth)
        route["auth"] = own if own.value else here.made({"grant": "none"}, "auth")
    top = here.made({})
    top.value["routes"] = Item([Item(route, COMMAND_LINE)], COMMAND_LINE, "routes")
    return read(top, Path(), environ=environ, overrides=overrides)


def _value(text: str, key: str) -> Item:
    here = Item(None, COMMAND_LINE, key)
    if not text.startswith(("[", "{")):
        return here.made(text)
    try:
        found = compose(text, COMMAND_LINE)
    except ConfigError as error:
        raise ConfigError([here.fault(fault.message) for fault in error.faults]) from None
    return _keyed(found, key)


def _keyed(item: Item, key: str) -> Item:
    """Return `item` with `key` before the keys in it, all of it in the first line."""
    if isinstance(item.value, dict):
        return Item(
            {name: _keyed(each, f"{key}.{name}") for name, each in item.value.items()}, item.file, key
        )
    if isinstance(item.value, list):
        return Item(
            [_keyed(each, f"{key}[{index}]") for index, each in enumerate(item.value)], item.file, key
        )
    return Item(item.value, item.file, key)


def _place(target: dict[str, Item], words: list[str], item: Item) -> None:
    """Put `item` at `a.b.c` in nested mappings."""
    *path, last = words
    for word in path:
        inner = target.setdefault(word, Item({}, COMMAND_LINE, item.key))
        if not isinstance(inner.value, dict):
            raise ConfigError([item.fault(f"`{word}` was given a value of its own before")])
        target = inner.value
    if last in target:
        raise ConfigError([item.fault("is given twice")])
    target[last] = item


def effective(config: Config) -> list[dict[str, Any]]:
    """Return the routes as they are after presets and defaults, as plain data, secrets masked."""
    return [_route(route, _told_of(config, index)) for index, route in enumerate(config.routes)]


def _told_of(config: Config, index: int) -> list[str]:
    key = f"routes[{index}]."
    return [
        f"{each.key.removeprefix(key)} {each.message}" for each in config.warnings if each.key.startswith(key)
    ]


def _route(route: Route, told: list[str]) -> dict[str, Any]:
    shown = {each.name: _plain(getattr(route, each.name)) for each in fields(RouteKeys)}
    shown["retry"] = shown["retry"] or False
    shown = {name: value for name, value in shown.items() if value is not None and value != {}}
    return shown | {"auth": dict(route.auth), "warnings": [*route.warnings, *told]}


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if is_dataclass(value):
        found = {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
        return {name: each for name, each in found.items() if each is not None and each not in ([], {})}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
