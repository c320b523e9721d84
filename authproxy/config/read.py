"""From the file to a `Config`, or to every fault in it at once.

    text ── compose ── resolve ${…} ── overrides ─┬─ FileKeys ─────────────────────┬── Config
                                                  └─ each route: preset's route    │
                                                     under defaults under its own ─┘
                                                       └─ auth: preset, then grant

Nothing is contacted, except what references name: files, the keyring, commands.
"""

import asyncio
import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast

from pydantic import SecretStr, TypeAdapter, ValidationError

from authproxy import logs
from authproxy.config import checks
from authproxy.config.document import Item, compose, merge, plain, scalars
from authproxy.config.faults import UNKNOWN_KEY, faults_of, unknown_name
from authproxy.config.model import Config, FileKeys
from authproxy.config.presets import Preset, presets
from authproxy.config.references import RENEWABLE, References
from authproxy.config.route import RouteConfig, RouteKeys, credential_key
from authproxy.config.texts import judge
from authproxy.errors import ConfigError, Fault
from authproxy.grants import GRANTS
from authproxy.grants.grant import Grant
from authproxy.grants.source import Reload
from authproxy.masking import MASK
from authproxy.places import working_directory

COMMAND_LINE = "command line"
ROUTE_LEVELS = 2  # a route's keys, and the keys of its mappings
PLACEHOLDER_BASE = "https://upstream.invalid"  # while the upstream is faulty, `auth` is still checked
LARGEST_FILE = 4 << 20  # bytes
COMMAND_SECONDS = 5.0  # a `${command:}` is not run again within so many seconds, whoever asks

Kind = TypeVar("Kind")


def load(
    path: Path, *, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, Any] | None = None
) -> Config:
    """Read the file at `path`; raise `ConfigError`.

    `overrides` are top-level keys given on the command line; mappings in them are merged with the file's.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError([Fault(file, 1, 1, "", f"cannot be read: {error.strerror}")]) from None
    if len(content) > LARGEST_FILE:
        raise ConfigError([Fault(file, 1, 1, "", f"is larger than {LARGEST_FILE >> 20} MiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Fault(file, 1, 1, "", "is not UTF-8 text")]) from None
    return parse(text, file, environ=environ, overrides=overrides)


def parse(
    text: str,
    file: str,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Read `text`, which stands in `file`; raise `ConfigError`."""
    return read(compose(text, file), Path(file).parent, environ=environ, overrides=overrides)


def read(
    top: Item,
    directory: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Read what `compose` returned; relative paths start from `directory`."""
    if not isinstance(top.value, dict):
        raise ConfigError([top.fault("should be a mapping: `listen`, `routes` and so on")])
    over = Item(None, COMMAND_LINE).made(dict(overrides or {}))
    top = replace(top, value=merge(over, top, 2).value)
    directory = directory if directory.is_absolute() else working_directory() / directory
    return _Reader(References(directory, environ), directory).config(top)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@dataclass(frozen=True, slots=True)
class _Auth:
    """An `auth` that has been made into a grant; `item` is what the grant was made from."""

    grant: Grant
    item: Item
    name: str
    preset: Preset | None


class _Reader:
    """Reads one file once; collects the faults."""

    def __init__(self, references: References, directory: Path) -> None:
        self._references = references
        self._directory = directory
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []

    def config(self, top: Item) -> Config:
        unresolved: list[Fault] = []
        top = self._references.resolved(top, unresolved)
        keys = self._validated(FileKeys, _without(top, "routes", "defaults"), also=("routes", "defaults"))
        routes = self._routes(top)
        if keys is not None:
            self._judge(keys, top)
            self._faults += checks.file_faults(keys, top)
            self._faults += checks.access_faults(keys, top, [(route.grant, item) for route, item in routes])
            self._faults += checks.worker_faults(keys, top)
            self._faults += checks.store_faults(keys, top)
            for route, item in routes:
                self._faults += checks.loop_faults(keys, route, item)
        # What a reference did not give is not news when it will not do either.
        places = {(fault.file, fault.line, fault.column) for fault in unresolved}
        unresolved += [
            fault for fault in self._faults if (fault.file, fault.line, fault.column) not in places
        ]
        if unresolved or keys is None:
            raise ConfigError(list(set(unresolved)))
        admin = top.child("admin")
        return Config(
            **{each.name: getattr(keys, each.name) for each in fields(FileKeys)},
            routes=tuple(route for route, _ in routes),
            file=top.file,
            admin_is_default=admin is None or admin.value is None,
            warnings=tuple(sorted({*self._references.warnings, *self._warnings})),
        )

    # ── routes ───────────────────────────────────────────────────────────────────────────────────

    def _routes(self, top: Item) -> list[tuple[RouteConfig, Item]]:
        defaults, listed = top.child("defaults"), top.child("routes")
        if defaults is None or defaults.value is None:
            defaults = top.made({}, "defaults")
        elif not isinstance(defaults.value, dict):
            self._faults.append(defaults.fault("should be a mapping: any keys of a route"))
            defaults = top.made({}, "defaults")
        if listed is None:
            self._faults.append(top.missing("routes"))
            return []
        if not isinstance(listed.value, list) or not listed.value:
            self._faults.append(listed.fault("should be a list with at least one route"))
            return []
        items = [item for item in listed.value if isinstance(item.value, dict)]
        self._faults += [
            item.fault("should be a mapping: `name`, `upstream`, `auth` and so on")
            for item in listed.value
            if not isinstance(item.value, dict)
        ]
        layered = [self._layered(item, defaults) for item in items]
        self._refuse_twins(layered)
        found = [(self._route(item), item) for item in layered]
        return [(route, item) for route, item in found if route is not None]

    def _layered(self, own: Item, defaults: Item) -> Item:
        """Return the route's keys over the defaults over those that its preset brings."""
        whole = {"auth": own.value["auth"]} if own.child("auth") is not None else {}
        item = merge(own, defaults, ROUTE_LEVELS)
        item = replace(item, value=item.value | whole)
        auth = item.child("auth")
        name = auth.child("preset") if auth else None
        preset = presets().get(name.value) if auth and name and isinstance(name.value, str) else None
        if auth is None or preset is None:
            return item
        under = Item(
            {key: auth.made(value, f"{own.key}.{key}") for key, value in preset.route.items()}, own.file
        )
        return merge(item, under, ROUTE_LEVELS)

    def _refuse_twins(self, routes: list[Item]) -> None:
        """Add a fault for each name, and each place, that an earlier route has."""
        names: set[object] = set()
        places: set[object] = set()
        for item in routes:
            name, path, host = (item.child(key) for key in ("name", "path", "host"))
            if name is not None and isinstance(name.value, str):
                if name.value in names:
                    self._faults.append(name.fault("is the name of an earlier route"))
                names.add(name.value)
            place = (path.value if path else "/", str(host.value).lower() if host and host.value else None)
            if not isinstance(place[0], str):
                continue
            if place in places:
                self._faults.append(
                    (path or host or item).fault(
                        "is mounted where an earlier route is: give it another `path` or `host`"
                    )
                )
            places.add(place)

    def _route(self, item: Item) -> RouteConfig | None:
        keys = self._validated(RouteKeys, _without(item, "auth"), also=("auth",))
        base = keys.upstream if keys else PLACEHOLDER_BASE
        auth_item = item.child("auth")
        if auth_item is None or auth_item.value is None:
            self._faults.append(
                item.missing("auth", "is required; for plain forwarding `auth: {grant: none}`")
            )
            return None
        auth = self._auth(auth_item, base)
        if keys is None or auth is None:
            return None
        self._judge(keys, item)
        self._faults += checks.route_faults(keys, auth.grant, item, auth.item)
        self._faults += checks.proxy_faults(keys, auth.grant, item, auth.item, self._references.environ)
        return RouteConfig(
            **{each.name: getattr(keys, each.name) for each in fields(RouteKeys)},
            grant=auth.grant,
            key=credential_key(auth.grant, keys.http_proxy),
            preset=auth.preset.name if auth.preset else None,
            warnings=(auth.preset.warning,) if auth.preset and auth.preset.warning else (),
            auth=_shown(auth),
            reload=self._reload(keys, item, auth_item),
            runs_commands=any("command" in scalar.sources for scalar in scalars(auth_item)),
        )

    # ── auth ─────────────────────────────────────────────────────────────────────────────────────

    def _auth(self, auth: Item, base: str) -> _Auth | None:
        """Return the grant behind `auth`; `base` is the route's upstream."""
        if not isinstance(auth.value, dict):
            self._faults.append(auth.fault("should be a mapping: `grant` or `preset`, and its keys"))
            return None
        grant, preset = auth.child("grant"), auth.child("preset")
        if (grant is None) == (preset is None):
            both = "takes `grant` or `preset`, not both" if grant else "needs `grant` or `preset`"
            self._faults.append(auth.fault(both))
            return None
        if grant is not None:
            return self._grant(auth, grant, None)
        return self._preset(auth, base)

    def _preset(self, auth: Item, base: str) -> _Auth | None:
        name = auth.value["preset"]
        known = presets()
        if not isinstance(name.value, str) or name.value not in known:
            self._faults.append(name.fault(unknown_name("preset", name.value, known)))
            return None
        preset = known[name.value]
        expanded, faults = preset.expand(auth, base.rstrip("/"))
        if faults:
            # What the preset lacks hides nothing else but itself: a key that is misspelt is often the reason.
            known_already = len(self._faults)
            self._grant(expanded, expanded.value["grant"], preset)
            others = [each for each in self._faults[known_already:] if UNKNOWN_KEY in each.message]
            self._faults[known_already:] = faults + others
            return None
        return self._grant(expanded, expanded.value["grant"], preset)

    def _grant(self, auth: Item, name: Item, preset: Preset | None) -> _Auth | None:
        if not isinstance(name.value, str) or name.value not in GRANTS:
            self._faults.append(name.fault(unknown_name("grant", name.value, GRANTS)))
            return None
        also = ("grant", "preset", *(preset.keys if preset else ()))
        grant = self._validated(GRANTS[name.value], _without(auth, "grant"), also=also)
        if grant is None:
            return None
        self._judge(grant, auth)
        return _Auth(grant, auth, name.value, preset)

    def _judge(self, value: Any, item: Item) -> None:
        """Look at the texts in `value` that are sent to prove who we are, or that we compare with."""
        found = judge(value, item)
        self._faults += found.faults
        self._warnings += found.warnings

    def _reload(self, keys: RouteKeys, item: Item, auth: Item) -> Reload | None:
        if not any(scalar.sources & RENEWABLE for scalar in scalars(auth)):
            return None

        references, ran_at, one_at_a_time = self._references, -inf, threading.Lock()
        told: list[Fault] = []

        def read_again() -> Grant | None:
            nonlocal references, ran_at
            with one_at_a_time:
                now = monotonic()
                commands_are_due = now - ran_at >= COMMAND_SECONDS
                ran_at = now if commands_are_due else ran_at
                references = references.again(RENEWABLE if commands_are_due else RENEWABLE - {"command"})
                return grant_from(references)

        def grant_from(references: References) -> Grant | None:
            reader = _Reader(references, self._directory)
            faults = reader._faults
            fresh = references.resolved(auth, faults)
            found = reader._auth(fresh, keys.upstream) if not faults else None
            if found is not None:
                faults += checks.credential_faults(keys, found.grant, item, found.item)
            if faults and faults != told:  # it is read again and again while it will not do
                told[:] = faults
                for fault in faults:
                    logs.warning(
                        "a credential was read again and cannot be used; the old one stays",
                        route=keys.name,
                        cause=f"{fault.key} {fault.message}",
                    )
            return found.grant if found is not None and not faults else None

        async def reload() -> Grant | None:
            return await asyncio.to_thread(read_again)

        return reload

    def _validated(self, kind: type[Kind], item: Item, also: Collection[str]) -> Kind | None:
        try:
            found: Kind = _adapter(cast("Any", kind)).validate_python(
                plain(item), context={"directory": self._directory}
            )
        except ValidationError as error:
            self._faults += faults_of(error, item, kind, also)
            return None
        return found


def _without(item: Item, *names: str) -> Item:
    return replace(item, value={name: each for name, each in item.value.items() if name not in names})


# ── what people may see of `auth` ────────────────────────────────────────────────────────────────


def _shown(auth: _Auth) -> dict[str, object]:
    """Return the grant's settings, those masked that are secret or came from a reference."""
    head: dict[str, object] = {"preset": auth.preset.name} if auth.preset else {}
    return head | {"grant": auth.name} | _masked_fields(auth.grant, auth.item)


def _masked_fields(value: Any, item: Item | None) -> dict[str, object]:
    shown: dict[str, object] = {}
    for each in fields(value):
        inner = getattr(value, each.name)
        if inner is None or inner in ((), {}) or (each.name == "response" and inner == type(inner)()):
            continue
        found = item.child(each.name) if item else None
        shown[each.name] = _masked(inner, found) if each.repr else _all_masked(inner)
    return shown


def _masked(value: Any, item: Item | None) -> object:
    if isinstance(value, SecretStr) or (item is not None and item.sources):
        return MASK
    if is_dataclass(value):
        return _masked_fields(value, item)
    if isinstance(value, Mapping):
        return {name: _masked(each, item.child(name) if item else None) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(each, item.child(index) if item else None) for index, each in enumerate(value)]
    return value


def _all_masked(value: Any) -> object:
    if isinstance(value, Mapping):
        return {name: _all_masked(each) for name, each in value.items()}
    return [_all_masked(each) for each in value] if isinstance(value, list | tuple) else MASK
