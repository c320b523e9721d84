"""The TLS that a configuration asks for, made once: the listeners' and the upstreams'.

Routes with the same settings and files share a context: to trust what the system trusts takes some 30 ms
each time. It is taken over from the configuration before as long as these are the same, so that who compares
contexts sees what has changed.
"""

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from authproxy.app.runtime_files import RuntimeFiles
from authproxy.config.model import AUTO, EPHEMERAL, Config, ListenerTLS
from authproxy.errors import AuthproxyError, ConfigError, Fault
from authproxy.net.key_pair import UNUSABLE, UnusableFile
from authproxy.net.tls import listener_context, upstream_context
from authproxy.net.tls_settings import TLSSettings
from authproxy.values import split_url

if TYPE_CHECKING:
    from authproxy.app.forward_authority import Exported, ForwardAuthority
    from authproxy.app.local_certificate import LocalCertificate

NOT_USABLE = "the certificate or the key cannot be used"


@dataclass(frozen=True, slots=True)
class TLSContexts:
    """How to speak TLS on the listeners, and to the upstream of each https route, by its name.

    `made` has the contexts by a digest of what each was made from. With `tls: auto`, `local` keeps the
    certificate of the listeners valid. With `forward` there is an authority for it, which clients find in
    `files`: those are there while the process lives, whichever configuration it has.
    """

    listener: ssl.SSLContext | None
    upstreams: dict[str, ssl.SSLContext]
    made: dict[str, ssl.SSLContext] = field(default_factory=dict, repr=False)
    local: "LocalCertificate | None" = field(default=None, repr=False)
    forward: "ForwardAuthority | None" = field(default=None, repr=False)
    files: RuntimeFiles | None = field(default=None, repr=False)

    def stage(self) -> None:
        """Write the files for clients, for `publish` to put in their places. Raises `StoreError`."""
        if self.forward is not None:
            self.forward.stage()

    def publish(self) -> None:
        """Have the files for clients as this has them: they are removed when there is nothing to tell.

        Raises `StoreError`.
        """
        if self.forward is not None:
            self.forward.publish()
        else:
            self.end()

    def abandon(self) -> None:
        """Have them as they were before `stage`."""
        if self.forward is not None:
            self.forward.abandon()

    def begin(self) -> None:
        """Have the files for clients there, until `end`. Raises `StoreError`."""
        self.stage()
        self.publish()

    def end(self) -> None:
        """Remove the files for clients, of whichever configuration they are."""
        if self.files is not None:
            self.files.close()


def tls_contexts(
    config: Config,
    before: TLSContexts | None = None,
    exported: "Exported | None" = None,
    *,
    makes: bool = True,
) -> TLSContexts:
    """Load every certificate and key that `config` names, once. Raises `ConfigError`.

    A context of `before` that was made from the same is taken over. What another process of ours has
    `exported` is the authority of `forward`. Unless it `makes` what `tls: auto` takes, listeners have no
    context with that, nor is an authority made.
    """
    files = before.files if before is not None and before.files is not None else RuntimeFiles()
    made, faults = _Contexts(before), list[Fault]()
    listener = local = forward = None
    try:
        if config.tls == AUTO:
            local = _local(config, before, makes=makes)
            listener = local.context if local is not None else None
        else:
            listener = _listener(config, made)
    except UNUSABLE as error:
        faults.append(_unusable(config, "tls", error))
    except AuthproxyError as error:
        faults.append(config.fault("tls", f"cannot be served: {error.detail}; {error.hint}"))
    try:
        forward = _forward(config, before, files, exported, makes=makes)
    except ConfigError as error:
        faults += error.faults
    upstreams = _upstreams(config, made, faults)
    if faults:
        raise ConfigError(faults)
    return TLSContexts(listener, upstreams, made.made, local, forward, files)


def _unusable(config: Config, key: str, error: Exception) -> Fault:
    """Return the fault of the file that `error` is about, of those that are named below `key`."""
    if isinstance(error, UnusableFile):
        return config.fault(f"{key}.{error.key}", str(error))
    return config.fault(key, NOT_USABLE)


def _upstreams(config: Config, made: "_Contexts", faults: list[Fault]) -> dict[str, ssl.SSLContext]:
    """Return the context of each route with an https upstream, by its name; add to `faults`.

    Those for token endpoints are made anew for each token request; they should be found faulty here.
    """
    upstreams = {}
    for index, route in enumerate(config.routes):
        is_https = split_url(route.upstream).scheme == "https"
        wanted = [("tls", route.tls)] if is_https or route.tls != TLSSettings() else []
        wanted += [("auth.tls", route.grant.tls)] if route.grant.tls is not None else []
        for key, tls in wanted:
            try:
                context = made.context(tls, partial(_upstream, tls))
            except UNUSABLE as error:
                faults.append(_unusable(config, f"routes[{index}].{key}", error))
                continue
            if is_https and key == "tls":
                upstreams[route.name] = context
    return upstreams


def _listener(config: Config, made: "_Contexts") -> ssl.SSLContext | None:
    """Return the context of the listeners, of files; None without. Raises one of `UNUSABLE`."""
    if not isinstance(keys := config.tls, ListenerTLS):
        return None
    return made.context(keys, lambda: listener_context(keys.cert_file, keys.key_file))


def _forward(
    config: Config,
    before: TLSContexts | None,
    files: RuntimeFiles,
    exported: "Exported | None",
    *,
    makes: bool,
) -> "ForwardAuthority | None":
    """Return the authority of `forward`, with what that of `before` has. Raises `ConfigError`.

    None without `forward`, and where nothing is to be made.
    """
    if config.forward is None or (not makes and config.forward.ca == EPHEMERAL):
        return None
    from authproxy.app.forward_authority import ForwardAuthority

    known = before.forward if before is not None else None
    if exported is not None:
        return ForwardAuthority.imported(exported, files, before=known)
    return ForwardAuthority.of(config, before=known, files=files)


def _local(config: Config, before: TLSContexts | None, *, makes: bool) -> "LocalCertificate | None":
    """Return the certificate of `tls: auto`, that of `before` if it is for the same names.

    None where nothing is to be made, though it could be. Raises `StoreError`, and one of `UNUSABLE`.
    """
    from authproxy.app.local_authority import LocalAuthority, default_directory

    directory = default_directory()
    if not makes:
        LocalAuthority(directory).check()
        return None
    from authproxy.app.local_certificate import LocalCertificate, certified_names

    names = certified_names(config)
    known = before.local if before is not None else None
    if known is not None and known.names == names:
        return known
    return LocalCertificate(known.kept if known is not None else LocalAuthority(directory), names)


class _Contexts:
    """Makes contexts, or takes over those of `before`: one for all that are made from the same."""

    def __init__(self, before: TLSContexts | None) -> None:
        self.made: dict[str, ssl.SSLContext] = {}
        self._before = before.made if before is not None else {}

    def context(self, keys: ListenerTLS | TLSSettings, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """Return the context that `make` makes of `keys`. Raises one of `UNUSABLE`."""
        digest = _digest(keys)
        if digest not in self.made:
            self.made[digest] = self._before.get(digest) or make()
        return self.made[digest]


def _digest(keys: ListenerTLS | TLSSettings) -> str:
    """Return what tells one set of settings and files from another. Raises OSError."""
    digest = hashlib.sha256(repr(keys).encode())
    for file in (keys.cert_file, keys.key_file, getattr(keys, "ca_file", None)):
        if file is not None:
            digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()


def _upstream(tls: TLSSettings) -> ssl.SSLContext:
    return upstream_context(
        ca_file=tls.ca_file, cert_file=tls.cert_file, key_file=tls.key_file, verify=tls.verify
    )
