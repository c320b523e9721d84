"""What the routes came to after presets and defaults, as plain data for people, secrets masked."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import SecretStr

from authproxy.config.model import Config
from authproxy.config.route import RouteConfig, RouteKeys
from authproxy.masking import MASK


def effective(config: Config) -> list[dict[str, Any]]:
    """Return the routes as they are after presets and defaults, as plain data, secrets masked."""
    return [_route(route, _told_of(config, index)) for index, route in enumerate(config.routes)]


def _told_of(config: Config, index: int) -> list[str]:
    key = f"routes[{index}]."
    return [
        f"{each.key.removeprefix(key)} {each.message}" for each in config.warnings if each.key.startswith(key)
    ]


def _route(route: RouteConfig, told: list[str]) -> dict[str, Any]:
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
