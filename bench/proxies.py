"""The proxies, and nginx as their origin: how each is found, configured and started.

Every proxy does the same work: it listens on a loopback port, forwards to the origin over kept-alive
connections, and adds one Authorization header, without which the origin answers 401. A configuration that a
proxy has no word for raises `Unsupported`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from processes import Command

HERE = Path(__file__).parent
ROOT = HERE.parent
TOKEN = "bench-token"
AUTHORIZATION = f"Bearer {TOKEN}"
ANSWER = '{"items":[' + ",".join(f'{{"id":{number},"name":"asset"}}' for number in range(100, 105)) + "]"
ANSWER += " " * (149 - len(ANSWER)) + "}"  # 150 bytes
FILES = {"10k": 10 << 10, "chunked": 10 << 10, "large": 100 << 20}
KEPT_CONNECTIONS = 1024  # to the origin: as many as there are requests at a time
APT = "apt-get install nginx haproxy wrk"
PIP = "make bench, or pip install --group bench"


class Unsupported(Exception):
    """The proxy cannot do what the scenario asks for."""


class Missing(Exception):
    """The program is not installed; says how to get it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Where a proxy is to listen and to forward to, where its files go, and what else a scenario wants."""

    port: int
    origin_port: int
    folder: Path
    ca_file: Path | None = None  # TLS to the origin, checked against this authority
    routes: int = 1
    workers: int = 1
    logs: bool = False  # one line a request
    token_expires: bool = False  # the origin gives out tokens, and they end

    @property
    def origin(self) -> str:
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.origin_port}"

    @property
    def paths(self) -> list[str]:
        """The prefixes of the routes."""
        return ["/"] if self.routes == 1 else [f"/r{number:05}" for number in range(self.routes)]

    def write(self, name: str, text: str) -> str:
        """Put a file into the folder; return its path."""
        file = self.folder / name
        file.write_text(text)
        return str(file)

    def only(self, *supported: str) -> None:
        """Raise `Unsupported` when more is wanted than `supported`."""
        plain = replace(self, **{name: getattr(PLAIN, name) for name in supported})
        for name in ("ca_file", "routes", "workers", "logs", "token_expires"):
            if getattr(plain, name) != getattr(PLAIN, name):
                raise Unsupported(name)


PLAIN = Setup(0, 0, Path())


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy to compare. `command` raises `Missing` or `Unsupported`."""

    name: str
    command: Callable[[Setup], Command]
    version: Callable[[], str]


# ── authproxy ────────────────────────────────────────────────────────────────────────────────────


def authproxy(checkout: Path) -> Callable[[Setup], Command]:
    """Return what configures the authproxy of `checkout`, which need not be this one."""

    def command(setup: Setup) -> Command:
        file = setup.write("authproxy.yaml", json.dumps(_authproxy_config(setup)))
        workers = ["--workers", str(setup.workers)] if setup.workers > 1 else []
        return Command(
            [sys.executable, "-P", "-m", "authproxy", "run", "--no-admin", *workers, "-c", file],
            {"PYTHONPATH": str(checkout)},
        )

    return command


def _authproxy_config(setup: Setup) -> dict[str, Any]:
    auth: dict[str, Any] = {"grant": "static", "token": TOKEN}
    if setup.token_expires:
        auth = {
            "grant": "client_credentials", "token_url": f"{setup.origin}/token", "client_id": "bench",
            "client_secret": "bench-secret",
        }  # fmt: skip
    route: dict[str, Any] = {"upstream": setup.origin, "auth": auth, "strip_path": False}
    if setup.ca_file:
        route["tls"] = {"ca_file": str(setup.ca_file)}
    routes = [{"name": f"r{number}", "path": path} for number, path in enumerate(setup.paths)]
    return {
        "listen": f"127.0.0.1:{setup.port}",
        "log": {"level": "info" if setup.logs else "warning", "access": setup.logs},
        "defaults": route,
        "routes": routes,
    }


def _commit(checkout: Path) -> Callable[[], str]:
    def read() -> str:
        git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(git, check=False, capture_output=True, text=True).stdout.strip() or "?"

    return read


# ── from Debian ──────────────────────────────────────────────────────────────────────────────────


def _nginx_proxy(setup: Setup) -> Command:
    setup.only("ca_file", "routes", "workers", "logs")
    scheme = "https" if setup.ca_file else "http"
    tls = f'proxy_ssl_trusted_certificate "{setup.ca_file}"; proxy_ssl_verify on; proxy_ssl_name localhost;'
    locations = "\n".join(f"location {path} {{ proxy_pass {scheme}://origin; }}" for path in setup.paths)
    return nginx(
        setup,
        "proxy",
        f"""
        upstream origin {{
            server 127.0.0.1:{setup.origin_port};
            keepalive {KEPT_CONNECTIONS};
            keepalive_requests 100000000;
        }}
        server {{
            listen 127.0.0.1:{setup.port} backlog=1024;
            client_max_body_size 0;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "{AUTHORIZATION}";
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_buffers 8 64k;
            proxy_busy_buffers_size 128k;
            client_body_buffer_size 256k;
            {tls if setup.ca_file else ""}
            location = /events {{ proxy_pass {scheme}://origin; proxy_buffering off; }}
            {locations}
        }}
        """,
    )


def nginx(setup: Setup, role: str, http: str) -> Command:
    """Return the command of an nginx with `http` in its block of that name. Raises `Missing`."""
    temporary = "\n".join(
        f'{kind}_temp_path "{setup.folder}/{role}-{kind}";'
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = setup.write(
        f"nginx-{role}.conf",
        f"""
        {"user root;" if os.geteuid() == 0 else ""}
        daemon off;
        worker_processes {setup.workers};
        pid "{setup.folder}/nginx-{role}.pid";
        error_log stderr error;
        events {{ worker_connections 16384; }}
        http {{
            access_log {f'"{setup.folder}/access.log"' if setup.logs else "off"};
            keepalive_requests 100000000;
            {temporary}
            {http}
        }}
        """,
    )
    return Command([program("nginx", APT), "-p", str(setup.folder), "-e", "stderr", "-c", file])


def origin_nginx(setup: Setup, tls_port: int, certificate: Path, key: Path) -> Command:
    """Return the origin's command: a small answer everywhere, and files of several sizes."""
    for name, size in FILES.items():
        with (setup.folder / name).open("wb") as file:
            if size < 1 << 20:
                file.write(b"x" * size)
            file.truncate(size)
    return nginx(
        setup,
        "origin",
        f"""
        open_file_cache max=10;
        sendfile on;
        tcp_nopush on;
        server {{
            listen 127.0.0.1:{setup.port} backlog=1024;
            listen 127.0.0.1:{tls_port} ssl backlog=1024;
            ssl_certificate "{certificate}";
            ssl_certificate_key "{key}";
            root "{setup.folder}";
            default_type application/json;
            if ($http_authorization != "{AUTHORIZATION}") {{ return 401; }}
            location = /10k {{ }}
            location = /large {{ }}
            location = /chunked {{ ssi on; ssi_types application/json; }}
            location / {{ return 200 '{ANSWER}'; }}
        }}
        """,
    )


def _haproxy(setup: Setup) -> Command:
    setup.only("ca_file", "routes", "workers", "logs")
    tls = f"ssl verify required sni str(localhost) ca-file {setup.ca_file}" if setup.ca_file else ""
    choice = "default_backend origin"
    if setup.routes > 1:
        table = setup.write("routes.map", "".join(f"{path} origin\n" for path in setup.paths))
        choice = f"use_backend %[path,map_beg({table})]"
    file = setup.write(
        "haproxy.cfg",
        f"""
global
    nbthread {setup.workers}
    maxconn 4000
    {"log stdout format raw local0" if setup.logs else ""}
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
    {"log global" if setup.logs else ""}
    {"option httplog" if setup.logs else ""}
frontend proxy
    bind 127.0.0.1:{setup.port}
    http-request set-header Authorization "{AUTHORIZATION}"
    {choice}
backend origin
    server origin 127.0.0.1:{setup.origin_port} pool-max-conn {KEPT_CONNECTIONS} {tls}
""",
    )
    return Command([program("haproxy", APT), "-db", "-f", file])


# ── from PyPI ────────────────────────────────────────────────────────────────────────────────────


def _go(setup: Setup, buffers: str = "allocated") -> Command:
    setup.only("ca_file", "routes", "workers")
    file = setup.folder / "reverseproxy"
    if not file.exists():
        build_with_go(HERE / "peers" / "reverseproxy.go", file)
    arguments = [f"127.0.0.1:{setup.port}", setup.origin, AUTHORIZATION, str(setup.ca_file or ""), buffers]
    routes = [setup.write("routes", "\n".join(setup.paths))] if setup.routes > 1 else []
    return Command([str(file), *arguments, *routes], _go_runtime(setup))


def build_with_go(source: Path, file: Path) -> None:
    """Make the program `file` of `source`."""
    build = [program("go", PIP), "build", "-o", str(file), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)


def _go_runtime(setup: Setup) -> dict[str, str]:
    return {"GOMAXPROCS": str(setup.workers), "HOME": str(setup.folder)}


def _caddy(setup: Setup) -> Command:
    setup.only("ca_file", "workers", "logs")
    file = setup.write(
        "Caddyfile",
        f"""
{{
    admin off
    auto_https off
    persist_config off
    log default {{
        output stderr
        level {"INFO" if setup.logs else "ERROR"}
    }}
}}
http://127.0.0.1:{setup.port} {{
    bind 127.0.0.1
    {"log" if setup.logs else ""}
    reverse_proxy {setup.origin} {{
        header_up Authorization "{AUTHORIZATION}"
        transport http {{
            keepalive_idle_conns {KEPT_CONNECTIONS}
            keepalive_idle_conns_per_host {KEPT_CONNECTIONS}
            compression off
            {f'tls_trust_pool file "{setup.ca_file}"' if setup.ca_file else ""}
        }}
    }}
}}
""",
    )
    return Command(
        [program("caddy", PIP), "run", "--adapter", "caddyfile", "--config", file], _go_runtime(setup)
    )


def _traefik(setup: Setup) -> Command:
    setup.only("ca_file", "workers", "logs")
    transport: dict[str, Any] = {"maxIdleConnsPerHost": KEPT_CONNECTIONS}
    if setup.ca_file:
        transport["rootCAs"] = [str(setup.ca_file)]
    dynamic = {
        "http": {
            "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "origin", "middlewares": ["token"]}},
            "middlewares": {"token": {"headers": {"customRequestHeaders": {"Authorization": AUTHORIZATION}}}},
            "services": {
                "origin": {"loadBalancer": {"servers": [{"url": setup.origin}], "serversTransport": "kept"}}
            },
            "serversTransports": {"kept": transport},
        }
    }
    static: dict[str, Any] = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {"web": {"address": f"127.0.0.1:{setup.port}"}},
        "providers": {"file": {"filename": setup.write("routes.yaml", json.dumps(dynamic)), "watch": False}},
        "log": {"level": "ERROR"},
    }
    if setup.logs:
        static["accessLog"] = {}
    file = setup.write("traefik.yaml", json.dumps(static))
    return Command([program("traefik", PIP), f"--configFile={file}"], _go_runtime(setup))


def _envoy(setup: Setup) -> Command:
    file = setup.write("envoy.json", json.dumps(_envoy_config(setup)))
    return Command(
        [_envoy_program(), "--concurrency", str(setup.workers), "--log-level", "error", "-c", file,
         "--disable-hot-restart"]
    )  # fmt: skip


def _envoy_program() -> str:
    spec = find_spec("envoy")  # its command is a Python script that becomes this
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / "_bin" / "envoy").exists():
            return str(file)
    return program("envoy", PIP)


def _envoy_type(name: str, **keys: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.{name}", **keys}


def _envoy_routes(paths: list[str]) -> dict[str, Any]:
    """Return the routes of a virtual host: a list is searched in order, so many are a tree."""
    target = {"cluster": "origin", "timeout": "0s"}
    if len(paths) == 1:
        return {"routes": [{"match": {"prefix": paths[0]}, "route": target}]}
    header = _envoy_type("type.matcher.v3.HttpRequestHeaderMatchInput", header_name=":path")
    route = _envoy_type("config.route.v3.Route", match={"prefix": "/"}, route=target)
    found = {"action": {"name": "route", "typed_config": route}}
    return {
        "matcher": {
            "matcher_tree": {
                "input": {"name": "path", "typed_config": header},
                "prefix_match_map": {"map": dict.fromkeys(paths, found)},
            }
        }
    }


def _envoy_config(setup: Setup) -> dict[str, Any]:
    secret = AUTHORIZATION
    credential = {
        "name": "envoy.http.injected_credentials.generic",
        "typed_config": _envoy_type(
            "extensions.http.injected_credentials.generic.v3.Generic", credential={"name": "secret"}
        ),
    }
    if setup.token_expires:
        secret = "bench-secret"
        credential = {
            "name": "envoy.http.injected_credentials.oauth2",
            "typed_config": _envoy_type(
                "extensions.http.injected_credentials.oauth2.v3.OAuth2",
                token_endpoint={"cluster": "origin", "timeout": "3s", "uri": f"{setup.origin}/token"},
                client_credentials={"client_id": "bench", "client_secret": {"name": "secret"}},
            ),
        }
    filters = [
        {
            "name": "envoy.filters.http.credential_injector",
            "typed_config": _envoy_type(
                "extensions.filters.http.credential_injector.v3.CredentialInjector",
                overwrite=True, credential=credential,
            ),
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": _envoy_type("extensions.filters.http.router.v3.Router"),
        },
    ]  # fmt: skip
    host = {"name": "all", "domains": ["*"], **_envoy_routes(setup.paths)}
    manager = _envoy_type(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bench",
        http_filters=filters,
        route_config={"virtual_hosts": [host]},
    )
    if setup.logs:
        access_log = _envoy_type("extensions.access_loggers.stream.v3.StdoutAccessLog")
        manager["access_log"] = [{"name": "stdout", "typed_config": access_log}]
    return {
        "static_resources": {
            "secrets": [{"name": "secret", "generic_secret": {"secret": {"inline_string": secret}}}],
            "listeners": [
                {
                    "name": "proxy",
                    "address": _envoy_address(setup.port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [_envoy_cluster(setup)],
        }
    }


def _envoy_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_cluster(setup: Setup) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _envoy_address(setup.origin_port)}}
    cluster: dict[str, Any] = {
        "name": "origin",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {
            "thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]
        },
    }
    if setup.ca_file:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": _envoy_type(
                "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                sni="localhost",
                common_tls_context={
                    "validation_context": {
                        "trusted_ca": {"filename": str(setup.ca_file)},
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": "localhost"}}
                        ],
                    }
                },
            ),
        }
    return cluster


def _plain_aiohttp(setup: Setup) -> Command:
    setup.only()
    script = HERE / "peers" / "plain_aiohttp.py"
    return Command([sys.executable, str(script), str(setup.port), setup.origin, AUTHORIZATION])


def _mitmproxy(setup: Setup) -> Command:
    setup.only()
    return Command(
        [
            _mitmdump(),
            "--quiet",
            *("--mode", f"reverse:{setup.origin}"),
            *("--listen-host", "127.0.0.1", "--listen-port", str(setup.port)),
            *("--modify-headers", f"/~q/Authorization/{AUTHORIZATION}"),
            *("--set", f"confdir={setup.folder}", "--set", "stream_large_bodies=1m"),
        ]
    )


def _mitmdump() -> str:
    """Return where it is: in an environment of its own, for it wants other versions of what we use."""
    own = Path(sys.prefix) / "mitmproxy" / "bin" / "mitmdump"
    return str(own) if own.exists() else program("mitmdump", "make bench")


# ── finding them ─────────────────────────────────────────────────────────────────────────────────


def program(name: str, hint: str) -> str:
    """Return where a program is. Raises `Missing` with `hint`, how to get it.

    `/usr/sbin`, where servers live, is not on everybody's PATH.
    """
    beside_python = str(Path(sys.executable).parent)
    for path in (beside_python, None, "/usr/sbin:/usr/local/sbin"):
        if (found := shutil.which(name, path=path)) is not None:
            return found
    raise Missing(f"{name} is not installed: {hint}")


def _told_by(find: Callable[[], str], *arguments: str) -> Callable[[], str]:
    def read() -> str:
        told = subprocess.run([find(), *arguments], check=False, capture_output=True, text=True)
        match = re.search(r"(?<![\w.])(?:go|v)?(\d+\.\d+(?:\.\d+)*)", told.stdout + told.stderr)
        return match[1] if match else "?"

    return read


def before(checkout: Path) -> Proxy:
    """Return the authproxy of another checkout, to compare with."""
    return Proxy("authproxy before", authproxy(checkout), _commit(checkout))


PROXIES = (
    Proxy("authproxy", authproxy(ROOT), _commit(ROOT)),
    Proxy("nginx", _nginx_proxy, _told_by(lambda: program("nginx", APT), "-v")),
    Proxy("HAProxy", _haproxy, _told_by(lambda: program("haproxy", APT), "-v")),
    Proxy("Envoy", _envoy, _told_by(_envoy_program, "--version")),
    Proxy("Go", _go, _told_by(lambda: program("go", PIP), "version")),
    Proxy("pooled Go", partial(_go, buffers="pooled"), _told_by(lambda: program("go", PIP), "version")),
    Proxy("Traefik", _traefik, _told_by(lambda: program("traefik", PIP), "version")),
    Proxy("Caddy", _caddy, _told_by(lambda: program("caddy", PIP), "version")),
    Proxy("plain aiohttp", _plain_aiohttp, lambda: version("aiohttp")),
    Proxy("mitmproxy", _mitmproxy, _told_by(_mitmdump, "--version")),
)
