"""A configuration of one route, from `run --upstream URL --preset P --set key=value`."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from authproxy.config.document import COMMAND_LINE, Item, compose, typed
from authproxy.config.model import Config
from authproxy.config.read import read
from authproxy.config.route import RouteKeys
from authproxy.errors import ConfigError, Fault

ROUTE_NAME = "default"
NOT_A_SETTING = "should be KEY=VALUE, such as --set grant=static --set 'token=${NAME}'"
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
    route: dict[str, Item] = {"upstream": typed(upstream, "--upstream")}
    auth: dict[str, Item] = {"preset": typed(preset, "--preset")} if preset else {}
    faults: list[Fault] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        words = key.split(".")
        if not equals or not all(words):
            faults.append(typed(None, "--set").fault(NOT_A_SETTING))
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
    route.setdefault("name", typed(ROUTE_NAME, "name"))
    own = route.get("auth", typed({}, "--set auth"))
    if isinstance(own.value, dict):
        own.value.update(auth)
        route["auth"] = own if own.value else typed({"grant": "none"}, "--set auth")
    top = typed({"routes": replace(typed([], "routes"), value=[typed(route)])})
    return read(top, Path(), environ=environ, overrides=overrides)


def _value(text: str, key: str) -> Item:
    here = typed(None, key)
    if not text.startswith(("[", "{")):
        return here.made(text)
    try:
        found = compose(text, COMMAND_LINE)
    except ConfigError as error:
        raise ConfigError([here.fault(fault.message) for fault in error.faults]) from None
    return _keyed(found, key)


def _keyed(item: Item, key: str) -> Item:
    """Return `item` as it stands on the command line, with `key` before the keys in it."""
    value = item.value
    if isinstance(value, dict):
        value = {name: _keyed(each, f"{key}.{name}") for name, each in value.items()}
    elif isinstance(value, list):
        value = [_keyed(each, f"{key}[{index}]") for index, each in enumerate(value)]
    return replace(typed(None, key), value=value, trap=item.trap)


def _place(target: dict[str, Item], words: list[str], item: Item) -> None:
    """Put `item` at `a.b.c` in nested mappings."""
    *path, last = words
    for word in path:
        below = target.setdefault(word, typed({}, item.key))
        if not isinstance(below.value, dict):
            raise ConfigError([item.fault(f"`{word}` already has a value")])
        target = below.value
    if last in target:
        option = target[last].key
        is_another = option in {"--upstream", "--preset"}
        raise ConfigError([item.fault(f"{option} says it already" if is_another else "is given twice")])
    target[last] = item
