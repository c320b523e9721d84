"""Placeholders: what stands in for a token where a client wants to have one of its own.

A placeholder is made of a route's name alone, so that every process and replica makes the same one, whatever
becomes of the token. It is no secret and worth nothing: a request without a credential gets as much.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Protocol

PREFIX = "authproxy-p-"
PLACEHOLDER = re.compile(r"authproxy-p-[A-Za-z0-9_-]{43}")


class Credentialed(Protocol):
    """A route: its name, and the key that it shares with the routes of the same credential."""

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...


def placeholder(name: str) -> str:
    """Return the placeholder of the credential whose first configured route is called `name`."""
    return PREFIX + urlsafe_b64encode(sha256(name.encode()).digest()).decode().rstrip("=")


def placeholders(routes: Iterable[Credentialed]) -> dict[str, str]:
    """Return each route's placeholder by the route's name, of routes in the order of their configuration."""
    first: dict[str, str] = {}
    return {route.name: placeholder(first.setdefault(route.key, route.name)) for route in routes}
