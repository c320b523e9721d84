"""A client of the forward proxy, as bytes on a socket: CONNECT, TLS in the tunnel, whole URLs.

with running_proxy(forwarding(route(upstream))) as proxy:
    with tunnel(proxy, upstream.authority) as wire: …            bytes, after the 200
    with inside(proxy, "localhost", upstream.port) as wire: …    TLS in it, trusting the proxy's authority
"""

import base64
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import trustme

from tests.support.command import RunningProxy, wait_until
from tests.support.launch import ANY_PORT
from tests.support.wire import Message, Upstream, Wire, connect

TOKEN = "t0ken-of-the-route"
FORWARD = "forwarding on "


class Named(Upstream):
    """A TLS server at `localhost`, whose certificate `ca_file` vouches for."""

    def __init__(self, directory: Path, host: str = "localhost") -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(host, "127.0.0.1").configure_cert(context)
        super().__init__(tls=context)
        self.host = host
        self.ca_file = directory / f"{host}-{self.port}.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"

    def client(self) -> ssl.SSLContext:
        """Return who trusts this server itself, and nobody else."""
        return ssl.create_default_context(cafile=self.ca_file)


def route(upstream: Upstream, base: str = "", **more: Any) -> dict[str, Any]:
    """Return a route to `upstream`, with a token of its own."""
    made = {"name": "api", "auth": {"grant": "static", "token": TOKEN}, **more}
    if isinstance(upstream, Named):
        return made | {
            "upstream": f"https://{upstream.authority}{base}", "tls": {"ca_file": str(upstream.ca_file)},
        }  # fmt: skip
    return made | {"upstream": f"{upstream.url}{base}"}


def forwarding(*routes: dict[str, Any], forward: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a configuration with a forward proxy at a free port."""
    return {"forward": {"listen": ANY_PORT, **(forward or {})}, "routes": list(routes), **more}


def forward_url(proxy: RunningProxy) -> str:
    """Return where the forward proxy is, once it has been said."""

    def said() -> list[str]:
        lines = proxy.output().splitlines()
        return [line.removeprefix(FORWARD) for line in lines if line.startswith(FORWARD)]

    wait_until(said, lambda: f"no forward proxy: {proxy.output()}{proxy.log()}")
    return said()[0]


def connect_request(target: str, *lines: str, host: str | None = None, version: str = "1.1") -> bytes:
    named = [f"Host: {target if host is None else host}"] if host != "" else []
    return "\r\n".join([f"CONNECT {target} HTTP/{version}", *named, *lines, "", ""]).encode("latin-1")


def basic(key: str, name: str = "any") -> str:
    """Return the header that says a key to a proxy."""
    return f"Proxy-Authorization: Basic {base64.b64encode(f'{name}:{key}'.encode()).decode()}"


def connecting(proxy: RunningProxy, target: str, *lines: str, **more: Any) -> Message:
    """Ask for a tunnel on a connection of its own; return the answer."""
    with connect(forward_url(proxy)) as wire:
        return wire.send(connect_request(target, *lines, **more)).answer()


def tunnel(proxy: RunningProxy, target: str, *lines: str, **more: Any) -> Wire:
    """Return a tunnel to `target`, once it is there."""
    wire = connect(forward_url(proxy))
    wire.send(connect_request(target, *lines, **more))
    head = wire.head()
    assert head.status == 200, (head, wire.rest())
    return wire


def trusting(proxy: RunningProxy) -> ssl.SSLContext:
    """Return a client that trusts the proxy's authority alone, and is as strict as Python can be."""
    with urlopen(f"{proxy.admin_url}/forward-ca.pem", timeout=20) as answer:
        context = ssl.create_default_context(cadata=answer.read().decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def inside(
    proxy: RunningProxy,
    host: str,
    port: int,
    *lines: str,
    server_name: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> Wire:
    """Return TLS in a tunnel to `host` and `port`, as `server_name`, which is `host` by default."""
    wire = tunnel(proxy, f"{host}:{port}", *lines)
    context = tls or trusting(proxy)
    return Wire(context.wrap_socket(wire.sock, server_hostname=server_name or host.strip("[]")))


def told(proxy: RunningProxy) -> list[dict[str, Any]]:
    """Return the last requests, as the admin API tells of them, the newest first."""
    with urlopen(f"{proxy.admin_url}/api/requests", timeout=20) as answer:
        found: list[dict[str, Any]] = json.load(answer)["requests"]
    return found
