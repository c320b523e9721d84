"""From the file to a `Config`, or to every fault in it at once.

    text ── compose ── resolve ${…} ── overrides ─┬─ FileKeys ─────────────────────┬── Config
                                                  └─ each route: preset's route    │
                                                     under defaults under its own ─┘
                                                       └─ auth: preset, then grant

Nothing is contacted, except what references name: files, the keyring, commands.
"""

import contextlib
import os
import shlex
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from authproxy.capabilities import FILE_OWNERS, MAX_SOCKET_PATH
from authproxy.config import checks
from authproxy.config.auth import Auth, read_auth
from authproxy.config.credential import credential_key
from authproxy.config.document import Item, below, compose, merge, scalars, typed
from authproxy.config.find import NO_SUCH_FILE
from authproxy.config.layers import is_shared, routes_of
from authproxy.config.model import Config, FileKeys, ForwardCA, ForwardDefaults, ListenerTLS
from authproxy.config.references import References, not_utf8
from authproxy.config.reread import reread_of
from authproxy.config.route import RouteConfig, RouteKeys, transport_of
from authproxy.config.validation import Validation
from authproxy.errors import ConfigError, Fault
from authproxy.places import Stamp, is_file, stamp_of, working_directory
from authproxy.values import split_address

PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
NOT_ONLY_OURS = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TMPDIR", "USER"})
"""Variables that programs need, whatever else they are used for."""
PLACEHOLDER_BASE = "https://upstream.invalid"  # while the upstream is faulty, `auth` is still checked
USUAL_NAMES = ("authproxy.yaml", "config.yaml")
TLS_FILES = ("ca_file", "cert_file", "key_file")
MAX_FILE = 4 << 20  # bytes
NO_MAPPING = (
    "should be a mapping, `listen: …`, `routes: …` and so on, each key in a line of its own with `: ` after "
    "it; `authproxy init` writes one to begin with"
)
NOT_READABLE = "the user that authproxy runs as has to be able to read it; in the image that is 10001"


def load(
    path: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    needed: Collection[str] | None = None,
) -> Config:
    """Read the file at `path`; raise `ConfigError`.

    `overrides` are top-level keys given on the command line; mappings in them are merged with the file's.
    `needed` are the names of the routes that will be used, if not all: another one, a reference of which
    leads nowhere, is left out.
    """
    stamp = stamp_of(path)
    try:
        text, exposed = read_text(path)
        config = parse(text, str(path), environ=environ, overrides=overrides, exposed=exposed, needed=needed)
    except ConfigError as error:
        error.files = {path: stamp, **error.files}
        raise
    return replace(config, files={path: stamp, **config.files})


def read_text(path: Path) -> tuple[str, bool]:
    """Return what stands in the file at `path`, and whether others can read it. Raises `ConfigError`."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        fault = Fault(file, 0, 0, "", f"cannot be read: {error.strerror}")
        raise ConfigError([fault], hint=_hint(path, error)) from None
    if len(content) > MAX_FILE:
        raise ConfigError([Fault(file, 1, 1, "", f"is larger than {MAX_FILE >> 20} MiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Fault(file, 1, 1, "", not_utf8(content))]) from None
    return text, bool(FILE_OWNERS) and mode & stat.S_IROTH != 0


def _hint(path: Path, error: OSError) -> str:
    """Return what to do about a file that cannot be read."""
    if isinstance(error, PermissionError) and not path.is_dir():
        return NOT_READABLE
    if path.is_dir():
        inside = next((name for name in USUAL_NAMES if is_file(path / name)), None)
        return f"name the file in it: -c {shlex.quote(str(path / (inside or USUAL_NAMES[0])))}"
    return NO_SUCH_FILE


def parse(
    text: str,
    file: str,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    exposed: bool = False,
    needed: Collection[str] | None = None,
) -> Config:
    """Read `text`, which stands in `file`; raise `ConfigError`. `exposed` says that others can read it."""
    top, directory = compose(text, file), Path(file).parent
    return read(top, directory, environ=environ, overrides=overrides, exposed=exposed, needed=needed)


def read(
    top: Item,
    directory: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    exposed: bool = False,
    references: References | None = None,
    needed: Collection[str] | None = None,
) -> Config:
    """Read what `compose` returned; relative paths start from `directory`.

    `references` are those of an earlier reading: what they gave is not asked for again. `needed` is as for
    `load`. Raises `ConfigError`.
    """
    if not isinstance(top.value, dict):
        raise ConfigError([top.fault(NO_MAPPING)])
    over = typed({name: _option(name, value) for name, value in (overrides or {}).items()})
    top = replace(top, value=merge(over, top, 2).value)
    directory = directory if directory.is_absolute() else working_directory() / directory
    references = references or References(directory, environ)
    if any("${command:" in each.value for each in scalars(top) if isinstance(each.value, str)):
        # What a program must not be given is only known once all is read; so it is read without them first.
        rehearsal = _Reader(references.without_commands(), needed=needed)
        with contextlib.suppress(ConfigError):
            rehearsal.config(top)
        references.withheld = rehearsal.secret_variables
    return _Reader(references, exposed=exposed, needed=needed).config(top)


def _option(name: str, value: Any) -> Item:
    """Return what an option of the command line says, under its own name all the way down."""

    def named(item: Item) -> Item:
        below = item.value
        if isinstance(below, dict):
            below = {key: named(each) for key, each in below.items()}
        elif isinstance(below, list):
            below = [named(each) for each in below]
        return replace(item, value=below, key=f"--{name}")

    return named(typed(value))


class _Reader:
    """Reads one file once; collects the faults."""

    def __init__(
        self, references: References, *, exposed: bool = False, needed: Collection[str] | None = None
    ) -> None:
        self._references = references
        self._exposed = exposed
        self._needed = needed
        self._validation = Validation(references.directory)

    @property
    def secret_variables(self) -> frozenset[str]:
        """The variables from which secrets came, of those that are nobody else's."""
        names = {name for leaf in self._validation.secrets for name in leaf.place.variables}
        return frozenset(name for name in names - NOT_ONLY_OURS if name.lower() not in PROXIES)

    def config(self, top: Item) -> Config:
        unresolved: list[Fault] = []
        top = self._references.resolved(top, unresolved)
        keys = self._validation.make(FileKeys, top, "routes", "defaults")
        faults = self._validation.faults
        items = routes_of(top, faults)
        lost = self._lost(items, unresolved)
        unresolved = [fault for fault in unresolved if not fault.key.startswith(lost)]
        routes = [(route, item) for item in items if (route := self._route(item)) is not None]
        faults[:] = [fault for fault in faults if not fault.key.startswith(lost)]
        routes = [(route, item) for route, item in routes if not below(item.key, "").startswith(lost)]
        variables = [place for route, _ in routes for place in route.variables.values()]
        faults += checks.variable_faults(variables, self._validation.secrets, self.secret_variables)
        if keys is not None:
            keys = _with_listeners(keys, top, [route for route, _ in routes])
            faults += checks.file_faults(keys, top, routes)
            faults += checks.access_faults(keys, top, [(route.grant, item) for route, item in routes])
            faults += checks.worker_faults(keys, top)
            faults += checks.store_faults(keys, top)
            faults += checks.loop_faults(keys, routes)
            self._validation.warnings += checks.certificate_warnings(keys, top, routes)
            self._validation.warnings += checks.forward_warnings(keys, routes)
            self._validation.warnings += checks.authority_warnings(keys, top)
            self._validation.warnings += checks.rewrite_warnings(routes)
            self._validation.warnings += checks.method_warnings(routes)
        beyond = self._beyond(top)
        # What a reference did not give is not news when it will not do either.
        places = {fault.place for fault in unresolved}
        unresolved += [fault for fault in faults if fault.place not in places]
        if unresolved or keys is None:
            error = ConfigError(list(set(unresolved)))
            error.files = self._references.files
            raise error
        admin = top.child("admin")
        exposed = checks.exposed_secrets(self._validation.secrets, to_others=self._exposed)
        return Config(
            **{each.name: getattr(keys, each.name) for each in fields(FileKeys)},
            routes=tuple(route for route, _ in routes),
            file=top.file,
            forward_defaults=beyond or ForwardDefaults(),
            admin_is_default=admin is None or admin.value is None,
            secret_variables=self.secret_variables,
            warnings=tuple(sorted({*self._references.warnings, *self._validation.warnings, *exposed})),
            places=_places(top, items),
            files=self._references.files | _tls_files(keys, [route for route, _ in routes]),
        )

    def _beyond(self, top: Item) -> ForwardDefaults | None:
        """Return what `defaults` says of hosts that no route is for."""
        defaults = top.child("defaults")
        if defaults is None or not isinstance(defaults.value, dict):
            return None
        names = {each.name for each in fields(ForwardDefaults)}
        given = {key: item for key, item in defaults.value.items() if key in names}
        return self._validation.make(ForwardDefaults, replace(defaults, value=given)) if given else None

    def _lost(self, routes: Iterable[Item], unresolved: list[Fault]) -> tuple[str, ...]:
        """Return what the keys begin with of each route that is not needed, and cannot be had."""
        lost = []
        for item in routes:
            name, own = item.child("name"), below(item.key, "")
            is_needed = self._needed is None or name is None or name.value in self._needed
            if not is_needed and any(fault.key.startswith(own) for fault in unresolved):
                lost.append(own)
        return tuple(lost)

    def _route(self, item: Item) -> RouteConfig | None:
        faults = self._validation.faults
        keys = self._validation.make(RouteKeys, item, "auth")
        auth_item = item.child("auth")
        if auth_item is None or auth_item.value is None:
            faults.append(item.missing("auth", "is required; for plain forwarding `auth: {grant: none}`"))
            return None
        auth = read_auth(auth_item, keys.upstream if keys else PLACEHOLDER_BASE, self._validation)
        if keys is None or auth is None:
            return None
        faults += checks.route_faults(keys, auth.grant, item, auth.item)
        faults += checks.proxy_faults(keys, auth.grant, item, auth.item, self._references.environ)
        return RouteConfig(
            **{each.name: getattr(keys, each.name) for each in fields(RouteKeys)},
            grant=auth.grant,
            key=credential_key(auth.grant, transport_of(keys, auth.grant)),
            preset=auth.preset.name if auth.preset else None,
            is_shared=is_shared(item),
            warnings=_preset_warnings(auth, keys.upstream),
            auth=auth.shown(),
            reread=reread_of(keys, item, self._references),
            runs_commands=any("command" in scalar.sources for scalar in scalars(auth_item)),
            variables=_variables(item, keys),
        )


def _variables(route: Item, keys: RouteKeys) -> dict[str, Item]:
    """Return where the value of each variable stands."""
    env = route.child("env") or route
    return {name: env.child(name) or env for name in keys.env}


def _preset_warnings(auth: Auth, upstream: str) -> tuple[str, ...]:
    if auth.preset is None:
        return ()
    return auth.preset.warnings(upstream, (url for _, url in auth.grant.urls()))


def _with_listeners(keys: FileKeys, top: Item, routes: list[RouteConfig]) -> FileKeys:
    """Return `keys` with the listeners that are there by default: none where no route would be mounted."""
    listen = top.child("listen")
    if routes and (listen is None or listen.value is None) and not any(route.is_shared for route in routes):
        keys = replace(keys, listen=())
    others = [route.listen for route in routes if route.listen]
    others += [keys.forward.listen] if keys.forward is not None else []
    return _with_admin_socket(keys, top, [*keys.listen, *others])


def _with_admin_socket(keys: FileKeys, top: Item, addresses: list[str]) -> FileKeys:
    """Return `keys` with the admin listener on a socket too, where the proxy's are all Unix sockets.

    Their owner alone reaches those; a TCP port would let everybody on the machine see what he asks.
    """
    admin = top.child("admin")
    if keys.admin is None or keys.access is not None or (admin is not None and admin.child("listen")):
        return keys
    if not addresses or any(split_address(address) is not None for address in addresses):
        return keys
    beside = Path(addresses[0].removeprefix("unix:"))
    path = str(beside.with_name(f"{beside.stem}-admin{beside.suffix}"))
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        return keys
    return replace(keys, admin=replace(keys.admin, listen=f"unix:{path}"))


def _places(top: Item, routes: Iterable[Item]) -> dict[str, tuple[int, int]]:
    """Return where each key of the top level stands, those below that are told of later, and routes' too."""
    items = [item for item in top.value.values() if item.file == top.file]
    routes = list(routes)
    owners = [*routes, *(auth for route in routes if (auth := route.child("auth")) is not None)]
    tls = [mapping for each in owners if (mapping := each.child("tls")) is not None]
    items += tls
    log, forward = top.child("log") or top, top.child("forward") or top
    authority = forward.child("ca") or top
    below = [
        (log, "level"),
        (forward, "listen"),
        (forward, "ca"),
        (authority, "cert_file"),
        (authority, "key_file"),
    ]
    below += product(routes, ["listen"])
    below += product([top.child("tls") or top, *tls], TLS_FILES)
    found = (item.child(key) for item, key in below)
    items += [item for item in found if item is not None]
    return {item.key: (item.line, item.column) for item in items}


def _tls_files(keys: FileKeys, routes: Iterable[RouteConfig]) -> dict[Path, Stamp]:
    """Return each file with a certificate or a key, as it is now."""
    files = [keys.tls.cert_file, keys.tls.key_file] if isinstance(keys.tls, ListenerTLS) else []
    if keys.forward is not None and isinstance(keys.forward.ca, ForwardCA):
        files += [keys.forward.ca.cert_file, keys.forward.ca.key_file]
    for route in routes:
        files += route.tls.files + (route.grant.tls.files if route.grant.tls is not None else [])
    return {path: stamp_of(path) for path in map(Path, files)}
