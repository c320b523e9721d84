"""The TLS that a configuration asks for, made once at the start: the listeners' and the upstreams'."""

import ssl
from dataclasses import dataclass

from authproxy.config.model import Config
from authproxy.config.route import UpstreamTLS
from authproxy.errors import ConfigError, Fault
from authproxy.net.tls import UNUSABLE, listener_context, upstream_context
from authproxy.values import split_url

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
        if config.tls is not None:
            listener = listener_context(config.tls.cert_file, config.tls.key_file)
    except UNUSABLE:
        faults.append(Fault(config.file, 1, 1, "tls", NOT_USABLE))
    for index, route in enumerate(config.routes):
        secure = split_url(route.upstream).scheme == "https"
        if not secure and route.tls == UpstreamTLS():
            continue  # nothing is named, and nothing will be needed
        try:
            context = _upstream(route.tls)
        except UNUSABLE:
            faults.append(Fault(config.file, 1, 1, f"routes[{index}].tls", NOT_USABLE))
            continue
        if secure:
            upstreams[route.name] = context
    if faults:
        raise ConfigError(faults)
    return TLSContexts(listener, upstreams)


def _upstream(tls: UpstreamTLS) -> ssl.SSLContext:
    return upstream_context(
        ca_file=tls.ca_file, cert_file=tls.cert_file, key_file=tls.key_file, verify=tls.verify
    )
