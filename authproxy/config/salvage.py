"""What of a faulty configuration is sound: for who examines it, never for who serves it.

    text ─┬─ is YAML ────────────────────────────┐
          └─ is not: each route by itself,       ├─▶ read ─▶ faults? set aside what has them ─▶ read again …
             those that are not are blanked out ─┘

A route that has a fault is set aside whole, and so are all when `defaults` has one: a credential must not
take a way that nobody has asked for. Of the top level, what only concerns who comes to the proxy is replaced
by its default; with any other fault there `is_whole` is false, and no token should be asked for.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from authproxy.config.document import Item, compose, scalars
from authproxy.config.model import Config
from authproxy.config.read import read, read_text
from authproxy.config.references import References, references_in
from authproxy.config.route import RouteConfig
from authproxy.errors import ConfigError, Fault
from authproxy.places import working_directory

HARMLESS = frozenset({
    "listen", "admin", "workers", "allowed_hosts", "allowed_origins", "allow_remote", "access", "tls",
    "forward", "limits", "log",
})  # fmt: skip
"""Keys of the top level that say nothing of how a credential travels."""

_ROUTE = re.compile(r"routes\[(\d+)\]")
_NAME = re.compile(r"^\s*(?:-\s*)?(?:\{\s*)?name:\s*[\"']?([a-z0-9-]+)", re.MULTILINE)
_ROUTES = re.compile(r"routes:\s*(#.*)?\Z")


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """A route as it stands in the file; `config` is None when it has `faults`.

    `references` are those in it, fit to print; `source_faults` are of what they give.
    """

    name: str
    place: str
    key: str
    config: RouteConfig | None = None
    faults: tuple[Fault, ...] = ()
    source_faults: tuple[Fault, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What a file came to. `config` has the sound routes alone, None when there are none.

    `faults` are those of no single route; `hint` says what to do where nothing could be read.
    """

    file: str
    config: Config | None = None
    routes: tuple[FoundRoute, ...] = ()
    faults: tuple[Fault, ...] = ()
    is_whole: bool = True
    hint: str | None = None

    @property
    def has_faults(self) -> bool:
        return bool(self.faults) or any(route.config is None for route in self.routes)


def salvage(path: Path, *, environ: Mapping[str, str] = os.environ) -> Salvaged:
    """Read as much of the file at `path` as can be. Raises `ConfigError` for one that cannot be opened."""
    text, exposed = read_text(path)
    return _Salvage(text, path, environ, exposed=exposed).result()


@dataclass
class _Salvage:
    """One file, read until what is left of it is sound."""

    text: str
    path: Path
    environ: Mapping[str, str]
    exposed: bool = field(kw_only=True)
    faults: list[Fault] = field(default_factory=list)
    broken: list[FoundRoute] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        directory = self.path.parent
        directory = directory if directory.is_absolute() else working_directory() / directory
        self._references = References(directory, self.environ)

    def result(self) -> Salvaged:
        top = self._compose()
        config = self._read(top) if top is not None else None
        return Salvaged(
            file=str(self.path),
            config=config,
            routes=(*self._found(top, config), *self.broken),
            faults=tuple(each for each in sorted(set(self.faults)) if _route_of(each) is None),
            is_whole=self.dropped <= HARMLESS,
        )

    # ── YAML ─────────────────────────────────────────────────────────────────────────────────────

    def _compose(self) -> Item | None:
        """Return the document, routes that are no YAML left out; None when that does not help."""
        file = str(self.path)
        try:
            return compose(self.text, file)
        except ConfigError as error:
            whole = error.faults
        lines = self.text.splitlines()
        blocks = list(_blocks(lines))
        bad = []
        for block in blocks if self._is_sound(_blanked(lines, blocks)) else []:
            alone = _blanked(lines[: block[1]], [each for each in blocks if each[1] <= block[0]])
            try:
                compose(alone, file)
            except ConfigError as error:
                bad.append(block)
                self.broken.append(_broken_route(lines, block, error.faults, len(self.broken)))
        try:
            if len(bad) < len(blocks):
                return compose(_blanked(lines, bad), file)
        except ConfigError:
            self.broken = []
        if not self.broken:
            self.faults += whole
        return None

    def _is_sound(self, text: str) -> bool:
        try:
            compose(text, str(self.path))
        except ConfigError:
            return False
        return True

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────

    def _read(self, top: Item) -> Config | None:
        """Return the configuration without what is faulty, or None when nothing is left to examine."""
        while (left := self._left(top)) is not None:
            try:
                return read(left, self.path.parent, environ=self.environ, exposed=self.exposed,
                            references=self._references)  # fmt: skip
            except ConfigError as error:
                self.faults += error.faults
                if not self._set_aside(top, error.faults):
                    return None
        return None

    def _left(self, top: Item) -> Item | None:
        """Return `top` without what is set aside, None when no route is left."""
        if not isinstance(top.value, dict):
            return top  # whose fault `read` tells
        left = top.without(*self.dropped)
        routes = top.child("routes")
        if routes is None or not isinstance(routes.value, list):
            return left
        kept = [item for index, item in enumerate(routes.value) if index not in self.gone]
        if routes.value and not kept:
            return None
        return replace(left, value=left.value | {"routes": replace(routes, value=kept)})

    def _set_aside(self, top: Item, faults: list[Fault]) -> bool:
        """Set aside what has one of `faults`; tell whether another reading may go better."""
        before = len(self.gone) + len(self.dropped)
        for fault in faults:
            index, key = _route_of(fault), re.split(r"[.\[]", fault.key)[0]
            if index is not None:
                self.gone.add(index)
            elif key == "defaults":
                routes = top.child("routes")
                self.gone |= set(range(len(routes.value) if routes is not None else 0))
            elif key not in {"", "routes"}:
                self.dropped.add(key)
        return len(self.gone) + len(self.dropped) > before

    # ── what there is to tell ────────────────────────────────────────────────────────────────────

    def _found(self, top: Item | None, config: Config | None) -> Iterator[FoundRoute]:
        routes = top.child("routes") if top is not None else None
        if routes is None or not isinstance(routes.value, list):
            return
        sound = iter(config.routes if config is not None else ())
        for index, item in enumerate(routes.value):
            name = item.child("name")
            shown = name.value if name is not None and isinstance(name.value, str) else item.key
            place = f"{item.file}:{item.line}:{item.column}"
            references, mine = self._references_in(item), self._faults_of(index)
            if index not in self.gone and config is not None:
                yield FoundRoute(shown, place, item.key, next(sound), references=references)
                continue
            sources = {(each.line, each.column) for each in scalars(item) if _has_reference(each)}
            of_sources = tuple(each for each in mine if (each.line, each.column) in sources)
            others = tuple(each for each in mine if each not in of_sources)
            yield FoundRoute(shown, place, item.key, None, others, of_sources, references)

    def _faults_of(self, index: int) -> list[Fault]:
        return [each for each in sorted(set(self.faults)) if _route_of(each) == index]

    def _references_in(self, item: Item) -> tuple[str, ...]:
        """Return the references in `item` by what is shown of them, those that gave nothing too."""
        written = (each.value for each in scalars(item) if _has_reference(each))
        resolved = [part for text in written for part in references_in(text)]
        return tuple(dict.fromkeys(resolved))


def _has_reference(item: Item) -> bool:
    return isinstance(item.value, str) and "${" in item.value


def _route_of(fault: Fault) -> int | None:
    match = _ROUTE.match(fault.key)
    return int(match[1]) if match else None


# ── routes in a text that is no YAML ─────────────────────────────────────────────────────────────

Block = tuple[int, int]
"""The first line of a route, and the one behind its last; they count from 0."""


def _blocks(lines: list[str]) -> Iterator[Block]:
    """Yield the lines of each item of `routes`, written as a block sequence."""
    begin = next((number for number, line in enumerate(lines) if _ROUTES.match(line)), None)
    start, indent = None, None
    for number in range(begin + 1 if begin is not None else len(lines), len(lines)):
        bare = lines[number].lstrip(" ")
        column = len(lines[number]) - len(bare)
        if not bare.strip() or bare.startswith(("#", "\t")):
            continue
        indent = column if indent is None else indent
        begins = bare.startswith("- ") and column == indent
        ends = column < indent or (column == 0 and not bare.startswith("-"))
        if start is not None and (begins or ends):
            yield start, number
            start = None
        if ends:
            return
        start = number if begins else start
    if start is not None:
        yield start, len(lines)


def _blanked(lines: list[str], blocks: list[Block]) -> str:
    """Return the text without `blocks`, every other line where it was."""
    gone = {number for first, end in blocks for number in range(first, end)}
    return "\n".join("" if number in gone else line for number, line in enumerate(lines)) + "\n"


def _broken_route(lines: list[str], block: Block, faults: list[Fault], number: int) -> FoundRoute:
    name = _NAME.search("\n".join(lines[slice(*block)]))
    place = f"{faults[0].file}:{block[0] + 1}:1"
    return FoundRoute(name[1] if name else f"broken-{number + 1}", place, "", None, tuple(faults))
