"""What the routes came to after presets and defaults, as plain data for people, secrets masked."""

from dataclasses import fields
from typing import Any

from authproxy.config.model import Config
from authproxy.config.rewrite import Rewrite
from authproxy.config.route import RouteConfig, RouteKeys
from authproxy.masking import masked


def effective(config: Config) -> list[dict[str, Any]]:
    """Return the routes as they are after presets and defaults, as plain data, secrets masked."""
    return [_route(route, _told_of(config, index)) for index, route in enumerate(config.routes)]


def _told_of(config: Config, index: int) -> list[str]:
    key = f"routes[{index}]."
    return [
        f"{each.key.removeprefix(key)} {each.message}" for each in config.warnings if each.key.startswith(key)
    ]


def _route(route: RouteConfig, told: list[str]) -> dict[str, Any]:
    shown = {each.name: masked(getattr(route, each.name)) for each in fields(RouteKeys)}
    shown["retry"] = shown["retry"] or False
    shown["rewrite"] = True if route.rewrite == Rewrite() else shown["rewrite"] or False
    shown = {name: value for name, value in shown.items() if value is not None and value not in ({}, [])}
    return shown | {"auth": dict(route.auth), "warnings": [*route.warnings, *told]}
