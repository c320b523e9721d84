"""A configuration of one route, from `run --upstream URL --preset P --set key=value`."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from authproxy.config.document import COMMAND_LINE, Item, compose
from authproxy.config.model import Config
from authproxy.config.read import read
from authproxy.config.route import RouteKeys
from authproxy.errors import ConfigError, Fault

ROUTE_NAME = "default"
ROUTE_KEYS = frozenset(each.name for each in fields(RouteKeys)) | {"auth"}


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
        below = target.setdefault(word, Item({}, COMMAND_LINE, item.key))
        if not isinstance(below.value, dict):
            raise ConfigError([item.fault(f"`{word}` already has a value")])
        target = below.value
    if last in target:
        raise ConfigError([item.fault("is given twice")])
    target[last] = item
