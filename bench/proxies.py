"""The origin and the proxies in front of it: how each is found, configured and started.

Every proxy does the same work: it listens on a loopback port, forwards to the origin over kept-alive
connections, and adds one Authorization header, without which the origin answers 401. None logs requests.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
AUTHORIZATION = "Bearer bench-token"
ANSWER = '{"items":[' + ",".join(f'{{"id":{number},"name":"asset"}}' for number in range(100, 105)) + "]"
ANSWER += " " * (149 - len(ANSWER)) + "}"  # 150 bytes
DOWNLOAD_BYTES = 100 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program is to listen, where the origin is, and a folder for its files."""

    port: int
    origin_port: int
    folder: Path

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.origin_port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy to compare. `command` returns None where it is not installed."""

    name: str
    command: Callable[[Place], list[str] | None]


def origin_command(place: Place) -> list[str]:
    """Return the command of the origin: nginx with a small answer at `/` and a large file at `/file`."""
    with (place.folder / "file").open("wb") as file:
        file.truncate(DOWNLOAD_BYTES)
    return _nginx(
        place,
        "origin",
        f"""
        server {{
            listen 127.0.0.1:{place.origin_port} backlog=1024;
            if ($http_authorization != "{AUTHORIZATION}") {{ return 401; }}
            location = /file {{ root "{place.folder}"; sendfile on; }}
            location / {{ default_type application/json; return 200 '{ANSWER}'; }}
        }}
        """,
    )


def _authproxy(place: Place) -> list[str] | None:
    program = _beside_python("authproxy")
    if program is None:
        return None
    file = place.folder / "authproxy.yaml"
    file.write_text(
        f"""
listen: 127.0.0.1:{place.port}
log: {{level: warning, access: false}}
routes:
  - name: bench
    upstream: {place.origin}
    auth: {{grant: static, token: {AUTHORIZATION.partition(" ")[2]}}}
"""
    )
    return [program, "run", "--no-admin", "-c", str(file)]


def _nginx_proxy(place: Place) -> list[str]:
    return _nginx(
        place,
        "proxy",
        f"""
        upstream origin {{ server 127.0.0.1:{place.origin_port}; keepalive 256; keepalive_requests 1000000; }}
        server {{
            listen 127.0.0.1:{place.port} backlog=1024;
            location / {{
                proxy_pass http://origin;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Authorization "{AUTHORIZATION}";
                proxy_max_temp_file_size 0;
            }}
        }}
        """,
    )


def _haproxy(place: Place) -> list[str] | None:
    program = _system_program("haproxy")
    if program is None:
        return None
    file = place.folder / "haproxy.cfg"
    file.write_text(
        f"""
global
    nbthread 1
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend proxy
    bind 127.0.0.1:{place.port}
    http-request set-header Authorization "{AUTHORIZATION}"
    default_backend origin
backend origin
    server origin 127.0.0.1:{place.origin_port}
"""
    )
    return [program, "-db", "-f", str(file)]


def _go(place: Place) -> list[str] | None:
    program = place.folder / "reverseproxy"
    if not program.exists():
        compiler = _system_program("go")
        if compiler is None:
            return None
        source = HERE / "peers" / "reverseproxy.go"
        subprocess.run([compiler, "build", "-o", program, source], check=True, capture_output=True, text=True)
    return ["env", "GOMAXPROCS=1", str(program), f"127.0.0.1:{place.port}", place.origin, AUTHORIZATION]


def _plain_aiohttp(place: Place) -> list[str]:
    script = HERE / "peers" / "plain_aiohttp.py"
    return [sys.executable, str(script), str(place.port), place.origin, AUTHORIZATION]


def _mitmproxy(place: Place) -> list[str] | None:
    program = _beside_python("mitmdump")
    if program is None:
        return None
    return [
        program,
        "--quiet",
        *("--mode", f"reverse:{place.origin}"),
        *("--listen-host", "127.0.0.1", "--listen-port", str(place.port)),
        *("--modify-headers", f"/~q/Authorization/{AUTHORIZATION}"),
        *("--set", f"confdir={place.folder}", "--set", "stream_large_bodies=1m"),
    ]


REFERENCE = "Go ReverseProxy"
PROXIES = (
    Proxy("authproxy", _authproxy),
    Proxy("nginx", _nginx_proxy),
    Proxy("HAProxy", _haproxy),
    Proxy(REFERENCE, _go),
    Proxy("plain aiohttp", _plain_aiohttp),
    Proxy("mitmproxy", _mitmproxy),
)


def _nginx(place: Place, role: str, http: str) -> list[str]:
    program = _system_program("nginx")
    if program is None:
        sys.exit("nginx is not installed; it is the origin of every measurement")
    temporary = "\n".join(
        f'{kind}_temp_path "{place.folder}/{role}-{kind}";'
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = place.folder / f"nginx-{role}.conf"
    file.write_text(
        f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid "{place.folder}/nginx-{role}.pid";
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    {temporary}
    {http}
}}
"""
    )
    return [program, "-p", str(place.folder), "-e", "stderr", "-c", str(file)]


def _system_program(name: str) -> str | None:
    """Return where a program is; `/usr/sbin`, where servers live, is not on everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _beside_python(name: str) -> str | None:
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
