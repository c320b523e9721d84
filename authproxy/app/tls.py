"""Every `SSLContext` of the data path, made once at the start: the listeners' and the upstreams'."""

import ssl
from dataclasses import dataclass

from authproxy.config.model import Config
from authproxy.config.route import UpstreamTLS
from authproxy.errors import ConfigError, Fault
from authproxy.values import split_url

UNUSABLE = (ssl.SSLError, OSError, ValueError)
NOT_USABLE = "the certificate or the key cannot be used"


@dataclass(frozen=True, slots=True)
class TLSContexts:
    """How to speak TLS on the listeners, and to the upstream of each https route, by its name."""

    listener: ssl.SSLContext | None
    upstreams: dict[str, ssl.SSLContext]


def tls_contexts(config: Config) -> TLSContexts:
    """Load every certificate and key that `config` names, once. Raises `ConfigError`."""
    faults = []
    listener = None
    upstreams: dict[str, ssl.SSLContext] = {}
    try:
        listener = _listener_tls(config)
    except UNUSABLE:
        faults.append(Fault(config.file, 1, 1, "tls", NOT_USABLE))
    for index, route in enumerate(config.routes):
        secure = split_url(route.upstream).scheme == "https"
        if not secure and route.tls == UpstreamTLS():
            continue  # nothing is named, and nothing will be needed
        try:
            context = upstream_tls(route.tls)
        except UNUSABLE:
            faults.append(Fault(config.file, 1, 1, f"routes[{index}].tls", NOT_USABLE))
            continue
        if secure:
            upstreams[route.name] = context
    if faults:
        raise ConfigError(faults)
    return TLSContexts(listener, upstreams)


def upstream_tls(settings: UpstreamTLS) -> ssl.SSLContext:
    """Return how to speak TLS to an upstream."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.set_alpn_protocols(["http/1.1"])
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _listener_tls(config: Config) -> ssl.SSLContext | None:
    if config.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(config.tls.cert_file, config.tls.key_file)
    return context
