"""Presets: what `auth: {preset: NAME, …}` stands for. The data is in presets/, one file each.

    user's keys ──┬── the preset's own keys ── fill the placeholders of its template ──┐
                  └── keys of the grant ────── laid on top, mappings merged deep ──────┴── auth

Placeholders are filled only in the preset's own strings, never inside what the user wrote. In a URL, what
they are filled with is judged, and percent-encoded, by where it goes: at the begin, as the host, in the path.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any
from urllib.parse import quote, urlsplit

import yaml
from pydantic import TypeAdapter

from authproxy.config.document import Item, below, merge
from authproxy.errors import Fault
from authproxy.grants.inject import ONE_HEADER
from authproxy.malformed import HOST, URL
from authproxy.values import split_url

WHOLE = 64  # levels: as deep as mappings go

_PLACEHOLDER = re.compile(r"\{([a-z0-9_]+)\}")
_URL = re.compile(r"https?://|\{[a-z0-9_]+\}/")  # how a template of one begins


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetKey:
    """A key that a preset takes for itself."""

    help: str
    required: bool = False
    secret: bool = False
    default: str | None = None
    reference: str | None = None
    """What a starter configuration has for it, instead of a variable of the environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One system, ready to use."""

    name: str
    title: str
    docs: str
    keys: Mapping[str, PresetKey]
    auth: Mapping[str, Any]
    upstream: str = ""
    """What a starter configuration has for the route's."""
    where: Mapping[str, str] = field(default_factory=dict)
    """For the upstream and each of `keys`: where in the vendor's console it is found."""
    short: str = ""
    """What a starter configuration calls the route, and its variables begin with."""
    route: Mapping[str, Any] = field(default_factory=dict)
    warning: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Each host of the API, and the one that its tokens come from."""

    @property
    def grant(self) -> str:
        return str(self.auth["grant"])

    @property
    def _source(self) -> str:
        """Where to look for what its keys want."""
        return f"see {self.docs}, and `authproxy presets show {self.name}`"

    def as_yaml(self) -> str:
        """Return the preset as it stands in its file, under its name."""
        return yaml.safe_dump(
            {self.name: _document(self.name)}, sort_keys=False, allow_unicode=True, width=110
        )

    def warnings(self, upstream: str, urls: Iterable[str]) -> tuple[str, ...]:
        """Return what to log at the start, of a route to `upstream` whose credential `urls` get to see."""
        said = (self.warning, *(self._mismatch(_host(upstream), _host(url)) for url in urls))
        return tuple(each for each in said if each is not None)

    def _mismatch(self, api: str, auth: str) -> str | None:
        right = self.hosts.get(api, auth)
        if right != auth:
            return f"tokens for {api} come from {right}, not from {auth}: set `auth_host: {right}`"
        if api not in {*self.hosts, auth} and auth in self.hosts.values():
            apis = " or ".join(sorted(each for each, its in self.hosts.items() if its == auth))
            return f"tokens from {auth} are for {apis}, not for {api}: check upstream and auth_host"
        return None

    def expand(self, auth: Item, base: str) -> tuple[Item, list[Fault]]:
        """Return `auth` with the preset under it, and what it lacks or cannot be filled in."""
        own = {name: item for name, item in auth.value.items() if self._is_own(name, item)}
        theirs = replace(
            auth, value={name: item for name, item in auth.value.items() if name not in {*own, "preset"}}
        )
        given = {name: item for name, item in own.items() if item.value is not None}
        given |= {
            name: auth.made(key.default)
            for name, key in self.keys.items()
            if key.default is not None and name not in given
        }
        filling = _Filling(auth, given | {"base": auth.made(base)})
        template = {name: each for name, each in self.auth.items() if name not in _replaced_by(theirs.value)}
        filled = filling.mapping(template, theirs, auth.key) or auth.made({})
        lacking = [name for name in dict.fromkeys(filling.lacking) if self.keys[name].required]
        return merge(theirs, filled, WHOLE), [
            auth.missing(name, f"preset {self.name} needs {name}: {self.keys[name].help}; {self._source}")
            for name in lacking
        ] + list(dict.fromkeys(filling.faults))

    def _is_own(self, name: str, item: Item) -> bool:
        """Tell whether it fills a placeholder; `totp: {…}` and `client_id: null` are for the grant."""
        if item.value is None:
            return name in self.keys and name not in self.auth
        return name in self.keys and not (
            isinstance(item.value, dict) and isinstance(self.auth.get(name), dict)
        )


def _replaced_by(own: Collection[str]) -> Collection[str]:
    """Return the keys of a preset that do not go with the user's `own`."""
    if "inject" in own:
        return ONE_HEADER
    return {"inject"} if not ONE_HEADER.isdisjoint(own) else ()


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


class _Filling:
    """Puts values into a template.

    `lacking` collects the placeholders for which there is none, `faults` the values that will not do.
    """

    def __init__(self, auth: Item, values: Mapping[str, Item]) -> None:
        self.lacking: list[str] = []
        self.faults: list[Fault] = []
        self._auth = auth
        self._values = values

    def entry(self, template: Any, theirs: Item | None, key: str) -> Item | None:
        """Return `template` filled; None when a placeholder in it has no value."""
        if theirs is not None and not (isinstance(template, dict) and isinstance(theirs.value, dict)):
            return theirs  # the user's own wins, so what the template lacks does not matter
        if isinstance(template, dict):
            return self.mapping(template, theirs, key)
        if isinstance(template, str):
            return self._text(template, key)
        return self._auth.made(template, key)

    def mapping(self, template: Mapping[str, Any], theirs: Item | None, key: str) -> Item | None:
        entries = {
            name: self.entry(each, theirs.child(name) if theirs else None, below(key, name))
            for name, each in template.items()
        }
        if theirs is None and None in entries.values():
            return None
        # It stands where the user's value stands that it is built around.
        theirs_in_it = (each for each in entries.values() for own in self._values.values() if each is own)
        place = next(theirs_in_it, self._auth) if theirs is None else self._auth
        return replace(
            place.made(None, key),
            value={name: each for name, each in entries.items() if each is not None},
        )

    def _text(self, template: str, key: str) -> Item | None:
        names = _PLACEHOLDER.findall(template)
        missing = [name for name in names if name not in self._values]
        self.lacking += missing
        if missing:
            return None
        if names and template == f"{{{names[0]}}}":
            return self._values[names[0]]
        filled = _PLACEHOLDER.sub(self._part, template)
        parts = [self._values[name] for name in names]
        return replace(
            self._auth.made(filled, key),
            sources=frozenset[str]().union(*(part.sources for part in parts)),
            variables=frozenset[str]().union(*(part.variables for part in parts)),
        )

    def _part(self, match: re.Match[str]) -> str:
        """Return what stands for the placeholder of `match`, as it goes there; its fault is noted."""
        name, template = match[1], match.string
        item = self._values[name]
        if name == "base" or not _URL.match(template):  # the route's upstream is judged as such
            return str(item.value)
        try:
            return _in_url(item.value, template[: match.start()])
        except ValueError as error:
            self.faults.append(item.fault(str(error)))
            return ""


def _in_url(value: object, before: str) -> str:
    """Return `value` as it goes into a URL of which `before` stands before it; raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("should be a string")  # noqa: TRY004 - the faults of values are of this kind
    text = str(value)
    if not before:
        return _url_in_front(text)
    if before.endswith("://"):
        return _host_alone(text)
    if text in {"", ".", ".."}:
        raise ValueError("should be a name: it is a segment of the path of a URL")
    return quote(text, safe="")


def _url_in_front(url: str) -> str:
    if split_url(url).query or url.endswith("?"):
        raise ValueError("should not contain a query (?); remove it")
    return url.rstrip("/")


def _host_alone(host: str) -> str:
    if not host or not {"/", "?", "#", "@"}.isdisjoint(host):
        raise ValueError(HOST)
    try:
        split_url(f"https://{host}")
    except ValueError as error:
        raise ValueError(HOST if URL in str(error) else str(error)) from None
    return host


class _Presets(Mapping[str, Preset]):
    """Every preset by its name; a file is read when somebody asks for that one."""

    def __getitem__(self, name: str) -> Preset:
        if name not in _files():
            raise KeyError(name)
        return _preset(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_files())

    def __len__(self) -> int:
        return len(_files())


@cache
def _files() -> dict[str, Traversable]:
    found = sorted(files(__package__).joinpath("presets").iterdir(), key=lambda each: each.name)
    return {each.name.removesuffix(".yaml"): each for each in found if each.name.endswith(".yaml")}


@cache
def _document(name: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it
    document: dict[str, Any] = yaml.load(_files()[name].read_text("utf-8"), loader)  # noqa: S506 - a safe one
    return document


@cache
def _preset(name: str) -> Preset:
    return _adapter().validate_python({"name": name, **_document(name)})


@cache
def _adapter() -> TypeAdapter[Preset]:
    return TypeAdapter(Preset)


def presets() -> Mapping[str, Preset]:
    """Return every preset by its name."""
    return _PRESETS


_PRESETS = _Presets()
