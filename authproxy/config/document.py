"""YAML turned into plain data that remembers where it stands.

    text ── PyYAML's nodes ── Item ─┬─ value   a scalar, a list of Items or a dict of Items
                                    ├─ key     routes[1].auth.client_id
                                    └─ place   file, line and column of the value and of its key

An Item keeps its place when it is laid over another (`merge`) or goes into a preset, so that a fault found
late still points at what the user wrote. No fault repeats a value: it may be a secret.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import yaml

from authproxy.config.traps import NO_COLON, trap_of, trap_of_brackets
from authproxy.errors import ConfigError, Fault

MAX_ITEMS = 100_000
COMMAND_LINE = "command line"  # the file of an Item that stands there
DEMO = "the demo's configuration"
NO_FILES = (COMMAND_LINE, DEMO)

UNKNOWN_TAG = "has an unknown YAML tag (!); if the ! belongs to the value, put it in quotes"
HALF_A_CHARACTER = "contains half a surrogate pair, which is not a character; write the character itself"
_PREFIX = "tag:yaml.org,2002:"
_MERGE = f"{_PREFIX}merge"
_SCALARS = frozenset(_PREFIX + name for name in ("str", "null", "bool", "int", "float", "timestamp"))
_NO_TEXT = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Given:
    """The part of a string, from `start` to `end`, that a reference gave; `reference` is fit to print.

    `may_be_empty` says that its own default is the empty string (`${NAME:-}`).
    """

    start: int
    end: int
    reference: str
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """A value and its place.

    `written` is a string's own text, `sources` the kinds of what its references read, `variables` the names
    of those in the environment, `given` which part each gave. `doubled` says that a literal `$$` stands for
    one `$` where nobody needed that. `trap` is what YAML made of it that was hardly meant (`config.traps`).
    """

    value: Any = field(repr=False)
    file: str
    key: str = ""
    line: int = 1
    column: int = 1
    key_line: int = 1
    key_column: int = 1
    written: str | None = field(default=None, repr=False)
    sources: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    given: tuple[Given, ...] = ()
    doubled: bool = False
    trap: str = ""

    def fault(self, message: str) -> Fault:
        return Fault(self.file, self.line, self.column, self.key, message)

    def key_fault(self, message: str) -> Fault:
        return Fault(self.file, self.key_line, self.key_column, self.key, message)

    def missing(self, name: str, message: str = "is required") -> Fault:
        return Fault(self.file, self.line, self.column, below(self.key, name), message)

    def child(self, part: object) -> "Item | None":
        if isinstance(self.value, dict) and isinstance(part, str):
            return self.value.get(part)
        if isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            found: Item = self.value[part]
            return found
        return None

    def without(self, *names: str) -> "Item":
        """Return this mapping without those keys."""
        return replace(self, value={name: each for name, each in self.value.items() if name not in names})

    def made(self, value: Any, key: str | None = None) -> "Item":
        """Return `value` as Items that stand where this one stands."""
        key = self.key if key is None else key
        if isinstance(value, dict):
            value = {name: self.made(each, below(key, name)) for name, each in value.items()}
        elif isinstance(value, list | tuple):
            value = [self.made(each, f"{key}[{index}]") for index, each in enumerate(value)]
        return Item(value, self.file, key, self.line, self.column, self.key_line, self.key_column)


def typed(value: Any, key: str = "") -> Item:
    """Return `value` as Items that stand on the command line, which has no lines; an Item in it stays."""
    here = Item(None, COMMAND_LINE, key, 0, 0, 0, 0)
    if isinstance(value, dict):
        return replace(here, value={
            name: each if isinstance(each, Item) else here.made(each, below(key, name))
            for name, each in value.items()
        })  # fmt: skip
    return here.made(value)


def below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def plain(item: Item) -> Any:
    """Return the data without its places."""
    if isinstance(item.value, dict):
        return {name: plain(each) for name, each in item.value.items()}
    if isinstance(item.value, list):
        return [plain(each) for each in item.value]
    return item.value


def scalars(item: Item) -> Iterator[Item]:
    if isinstance(item.value, dict | list):
        for each in item.value.values() if isinstance(item.value, dict) else item.value:
            yield from scalars(each)
    else:
        yield item


def each_scalar(item: Item, change: Callable[[Item], Item]) -> Item:
    """Return `item` with every scalar in it changed."""
    if isinstance(item.value, dict):
        return replace(item, value={name: each_scalar(each, change) for name, each in item.value.items()})
    if isinstance(item.value, list):
        return replace(item, value=[each_scalar(each, change) for each in item.value])
    return change(item)


def merge(over: Item, under: Item, depth: int) -> Item:
    """Lay `over` on `under`: mappings `depth` levels down, the rest whole; null takes a key away."""
    if depth == 0 or not isinstance(over.value, dict) or not isinstance(under.value, dict):
        return over
    both = dict(under.value)
    for name, item in over.value.items():
        if name not in both:
            both[name] = item
        elif item.value is None:
            del both[name]
        else:
            both[name] = merge(item, both[name], depth - 1)
    return replace(over, value=both)


def compose(text: str, file: str) -> Item:
    """Return the one document in `text`; raise `ConfigError` with all that is wrong with it as YAML."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        from authproxy.config.yaml_faults import character_fault

        raise ConfigError([character_fault(error, text, file)]) from None
    except yaml.MarkedYAMLError as error:
        from authproxy.config.yaml_faults import yaml_fault

        raise ConfigError([yaml_fault(error, text, file)]) from None
    except RecursionError:
        raise ConfigError([Fault(file, 1, 1, "", "is nested too deeply")]) from None
    if node is None:
        raise ConfigError([Fault(file, 1, 1, "", "is empty; `authproxy init` writes one to begin with")])
    builder = _Builder(loader, text, file)
    try:
        item = builder.item(node, "", node.start_mark)
    except RecursionError:
        raise ConfigError([Fault(file, 1, 1, "", "is nested too deeply")]) from None
    if builder.faults:
        raise ConfigError(list(set(builder.faults)))
    return item


class _TooMuch(Exception):
    pass


class _Builder:
    """Turns nodes into Items and collects what is wrong with them."""

    def __init__(self, loader: yaml.SafeLoader, text: str, file: str) -> None:
        self.faults: list[Fault] = []
        self._loader = loader
        self._text = text
        self._file = file
        self._count = 0
        self._open: set[int] = set()  # ids of the nodes around this one: an alias to one never ends

    def item(self, node: yaml.Node, key: str, key_mark: yaml.Mark) -> Item:
        try:
            return self._item(node, key, key_mark)
        except _TooMuch:
            self.faults.append(Fault(self._file, 1, 1, "", "is too large once its aliases (*) are expanded"))
            return Item(None, self._file)

    def _item(self, node: yaml.Node, key: str, key_mark: yaml.Mark) -> Item:
        self._count += 1
        if self._count > MAX_ITEMS:
            raise _TooMuch
        mark = node.start_mark
        place = (mark.line + 1, mark.column + 1, key_mark.line + 1, key_mark.column + 1)
        item = Item(None, self._file, key, *place)
        if id(node) in self._open:
            self.faults.append(item.key_fault("an alias (*) cannot be inside what it refers to"))
            return item
        self._open.add(id(node))
        value: Any
        try:
            if isinstance(node, yaml.MappingNode):
                value, trap = self._mapping(node, item), trap_of_brackets(node)
            elif isinstance(node, yaml.SequenceNode):
                value, trap = self._sequence(node, item), trap_of_brackets(node)
            else:
                value = self._scalar(node, item)
                trap = trap_of(node, value, self._text)
        finally:
            self._open.discard(id(node))
        return Item(value, self._file, key, *place, trap=trap)

    def _sequence(self, node: yaml.SequenceNode, item: Item) -> list[Item]:
        return [
            self._item(each, f"{item.key}[{index}]", each.start_mark) for index, each in enumerate(node.value)
        ]

    def _scalar(self, node: yaml.Node, item: Item) -> str | int | float | bool | date | None:
        if node.tag not in _SCALARS:
            self.faults.append(item.fault(UNKNOWN_TAG))
            return None
        try:
            value: str | int | float | bool | date | None = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            self.faults.append(item.fault("is neither a number nor a date; put it in quotes"))
            return None
        if isinstance(value, str) and _NO_TEXT.search(value):  # "\ud800": nothing can encode it
            self.faults.append(item.fault(HALF_A_CHARACTER))
            return None
        return value

    def _mapping(self, node: yaml.MappingNode, item: Item) -> dict[str, Item]:
        if not node.tag.endswith(":map"):
            self.faults.append(item.fault(UNKNOWN_TAG))
        found: dict[str, Item] = {}
        merged: list[Item] = []
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            if key_node.tag == _MERGE:
                merged += self._merged(value_node, item)
                continue
            if (wrong := _wrong_key(key_node)) is not None:
                place = (self._file, mark.line + 1, mark.column + 1, item.key)
                self.faults.append(Fault(*place, wrong))
                continue
            name = str(key_node.value)
            each = self._item(value_node, below(item.key, name), mark)
            if node.flow_style and self._has_no_colon(key_node, value_node):
                each = replace(each, trap=NO_COLON)
            if name in found:
                self.faults.append(
                    each.key_fault(f"is given twice; the first is in line {found[name].key_line}: remove one")
                )
            found.setdefault(name, each)
        for source in merged:
            for name, each in source.value.items():
                found.setdefault(name, each)
        return found

    def _has_no_colon(self, key: yaml.Node, value: yaml.Node) -> bool:
        """Tell whether nothing but a key stands there: `b` in `{a: 1, b}`."""
        return value.value == "" and ":" not in self._text[key.end_mark.index : value.end_mark.index]

    def _merged(self, node: yaml.Node, item: Item) -> list[Item]:
        """Return the mappings behind a merge key (`<<`); of a key in several, the first one counts."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        items = [self._item(each, item.key, each.start_mark) for each in nodes]
        for each in items:
            if not isinstance(each.value, dict):
                self.faults.append(each.fault("a merge key (<<) should refer to a mapping: `<<: *name`"))
        return [each for each in items if isinstance(each.value, dict)]


def _wrong_key(node: yaml.Node) -> str | None:
    """Return why `node` cannot be a key, if it cannot."""
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        return '{ } within { } is a key here; a reference is written "${NAME}", in quotes'
    if not isinstance(node, yaml.ScalarNode) or node.tag != f"{_PREFIX}str":
        return "a key should be a string; put it in quotes"
    blank = next((each for each in node.value[:1] if each.isspace() and node.style is None), None)
    if blank is not None:  # YAML knows the space alone
        return f"begins with a character that only looks like a space (U+{ord(blank):04X}); use spaces"
    return None
