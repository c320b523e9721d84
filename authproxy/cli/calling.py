"""Where a route is called: its URL, and what curl needs besides.

listener   http://127.0.0.1:8080          unix:/run/proxy.sock
route      http://127.0.0.1:8080/up42     http://localhost/up42, by that socket
with host  http://up42.localhost:8080
its own    http://127.0.0.1:8091
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from authproxy.config.model import Config, ListenerTLS
from authproxy.config.route import RouteConfig
from authproxy.values import bracketed, is_loopback, reached_at

LOOPBACKS = frozenset({"127.0.0.1", "::1", "localhost"})  # where curl looks for a name below .localhost
KEY = "KEY"
"""The variable that stands for one of `access.tokens`, which are not printed."""


@dataclass(frozen=True, slots=True)
class URLs:
    """Where the proxy is called: at `shared` for all mounted routes, at `own` for one alone, by its name.

    `forward` says how the forward proxy is used, if there is one.
    """

    shared: tuple[str, ...] = ()
    own: Mapping[str, str] = field(default_factory=dict)
    forward: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """The URL of a route without its last slash, and curl's options for it, quoted for a shell."""

    url: str
    options: tuple[str, ...] = ()
    socket: str | None = None

    @property
    def shown(self) -> str:
        """What a table says."""
        return self.url if self.socket is None else f"{self.url} by unix:{self.socket}"

    def curl(self, path: str = "/", method: str = "GET") -> str:
        """Return a command that asks for `path` below the route."""
        asked = () if method == "GET" else ("-I",) if method == "HEAD" else ("-X", shlex.quote(method))
        return " ".join(["curl", *asked, *self.options, shlex.quote(self.url + path)])


def configured_urls(config: Config) -> URLs:
    """Return the URLs of the listeners as far as the configuration tells: a port 0 stays one."""
    own = {route.name: url_at(config, route.listen) for route in config.routes if route.listen}
    shared = tuple(url_at(config, address) for address in config.listen)
    if config.forward is None:
        return URLs(shared, own)
    listen = config.forward.listen
    return URLs(
        shared, own, use_of_forward(config, listen if listen.startswith("unix:") else f"http://{listen}")
    )


def use_of_forward(config: Config, url: str, bundle: str | None = None) -> str:
    """Return how the forward proxy at `url` is used, whose clients are to trust the file `bundle`."""
    if not url.startswith("unix:"):
        _, host, port = place_of(url)
        key = f"any:${KEY}@" if config.access is not None else ""
        url = f"http://{key}{bracketed(host)}:{port}"
    return f"HTTPS_PROXY={url}" + (f", CA bundle {bundle}" if bundle is not None else "")


def url_at(config: Config, address: str) -> str:
    """Return the URL of the listener at `address`."""
    scheme = "https" if config.tls is not None else "http"
    return address if address.startswith("unix:") else f"{scheme}://{address}"


def place_of(url: str) -> tuple[str, str, str]:
    """Return scheme, host and port of a listener's `url` as this machine calls it."""
    scheme, _, place = url.partition("://")
    host, _, port = place.rpartition(":")
    return scheme, reached_at(host.strip("[]")), port


def reachable(url: str) -> str:
    """Return the `url` of a listener, not a Unix socket, as this machine calls it."""
    scheme, host, port = place_of(url)
    return f"{scheme}://{bracketed(host)}:{port}"


def call_of(config: Config, route: RouteConfig, urls: URLs) -> Call:
    """Return how `route` is called at the first of the listeners' `urls` that other programs can call.

    A URL of its own comes before those of all routes: it needs neither prefix nor host name.
    """
    own, shared = urls.own.get(route.name), urls.shared if route.is_shared else ()
    known = [*([own] if own is not None else []), *shared]
    url = next((each for each in known if not each.startswith("unix:")), known[0])
    prefix, name = ("", None) if url == own else (route.path.removesuffix("/"), route.host)
    options = _access_options(config)
    if config.tls is not None and (trusted := _trusted_file(config)) is not None:
        options = ("--cacert", shlex.quote(trusted), *options)
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        scheme = "https" if config.tls is not None else "http"
        return Call(
            f"{scheme}://{name or _certified_name(config, 'localhost')}{prefix}",
            ("--unix-socket", shlex.quote(path), *options),
            socket=path,
        )
    scheme, listens_at, port = place_of(url)
    host = (name or _certified_name(config, listens_at)).strip("[]")
    if not _finds(host, listens_at):
        options = ("--resolve", f"{bracketed(host)}:{port}:{_address(listens_at)}", *options)
    return Call(f"{scheme}://{bracketed(host)}:{port}{prefix}", options)


def _access_options(config: Config) -> tuple[str, ...]:
    if config.access is None:
        return ()
    header = re.sub(r'([$`"\\])', r"\\\1", config.access.header)
    return ("-H", f'"{header}: ${KEY}"')


def _finds(host: str, listens_at: str) -> bool:
    """Tell whether curl finds the way to `host` by itself."""
    return host == listens_at or (
        listens_at in LOOPBACKS and (host == "localhost" or host.endswith(".localhost"))
    )


def _address(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else bracketed(host)


def _trusted_file(config: Config) -> str | None:
    """Return the file with which curl accepts the listener's certificate; None where it does so by itself."""
    if isinstance(config.tls, ListenerTLS):
        return config.tls.cert_file
    return _local_authority()


@cache
def _local_authority() -> str | None:
    """Return the file with the local authority's certificate, if curl has to be told of it."""
    from cryptography import x509

    from authproxy.app.local_authority import LocalAuthority, default_directory
    from authproxy.app.trust.store import Root
    from authproxy.app.trust.system import is_trusted_by_curl
    from authproxy.errors import StoreError

    try:
        kept = LocalAuthority(default_directory())
        roots = kept.roots()
    except (StoreError, x509.InvalidVersion):
        return None
    # Who has not made it yet will have it there.
    return None if roots and is_trusted_by_curl(Root.of(roots[0], kept.public)) else str(kept.public)


def _certified_name(config: Config, listens_at: str) -> str:
    """Return a name that the listener's certificate is for, and the guard accepts; else `listens_at`."""
    if config.tls is None:
        return listens_at
    if not isinstance(config.tls, ListenerTLS):
        return listens_at if is_loopback(listens_at, any_spelling=False) else "localhost"
    names = _certificate_names(config.tls.cert_file)
    if listens_at in names:
        return listens_at
    accepted = {"localhost", *config.allowed_hosts}
    good = (each for each in names if each in accepted or "*" in accepted or is_loopback(each))
    return next(good, listens_at)


@cache
def _certificate_names(file: str) -> list[str]:
    """Return the host names and addresses of the first certificate in `file`, wildcards left out."""
    from cryptography import x509

    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - nothing else needs a Path here
            certificate = x509.load_pem_x509_certificate(stream.read())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return []
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    return [*addresses, *(each for each in names.get_values_for_type(x509.DNSName) if "*" not in each)]
