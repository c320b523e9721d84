"""Puts every stand-in on a free loopback port, and says how to reach them through the proxy.

    async with stand_ins() as demo:
        demo.config()                        a configuration with one route a preset
        demo.curl_lines("http://…:8080")     a command for each, to paste

What an API lets through it answers with what it received, so that one sees what the proxy sent.
"""

import json
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any

from aiohttp import web

from authproxy.demo.standin import EXPIRE, REVOKE, Received, StandIn
from authproxy.demo.systems import SYSTEMS
from authproxy.masking import is_secret_name
from authproxy.tokens.source import Clock
from authproxy.values import bracketed

FIRST_PORT = 28081  # below the ports that systems hand out, so that the next start finds them free
SHOWN = 6  # characters of a credential that the answer repeats
SHUTDOWN_SECONDS = 1.0
REPEATED = "up42"
"""The route on which a repeat is shown: its tokens come with refresh tokens."""


class Demo:
    """The stand-ins while they serve. Every mapping is keyed by the system's name, such as `code42`."""

    def __init__(self, served: dict[str, tuple[StandIn, str]]) -> None:
        self._served = served

    @property
    def systems(self) -> dict[str, str]:
        """The base URL of each system."""
        return {name: base_url for name, (_, base_url) in self._served.items()}

    @property
    def token_requests(self) -> dict[str, int]:
        """How often each was asked for a token, in vain or not."""
        return {name: system.token_requests for name, (system, _) in self._served.items()}

    @property
    def api_requests(self) -> dict[str, int]:
        """How often each system's API was called, in vain or not."""
        return {name: system.api_requests for name, (system, _) in self._served.items()}

    @property
    def last_token_request(self) -> dict[str, Received]:
        """The last request for a token, of each system that had one."""
        return {
            name: system.last_token_request
            for name, (system, _) in self._served.items()
            if system.last_token_request is not None
        }

    def revoke(self, system: str) -> None:
        """Make `system` forget every token it handed out, refresh tokens and handmade ones included."""
        self._served[system][0].revoke()

    def config(self) -> dict[str, Any]:
        """Return a configuration with one route a preset, at `/` and the route's name."""
        routes = [
            {"name": route.name, "path": f"/{route.name}", "upstream": base_url, "auth": dict(route.auth)}
            for system, base_url in self._served.values()
            for route in system.routes(base_url)
        ]
        return {"routes": routes}

    def curl_lines(self, proxy_url: str) -> list[tuple[str, str]]:
        """Return a command for each route that asks it through the proxy at `proxy_url`.

        Routes that want a person's login first are left out.
        """
        return [
            (route.name, curl_line(proxy_url, f"/{route.name}{route.example}"))
            for system, base_url in self._served.values()
            for route in system.routes(base_url)
            if not route.needs_login
        ]

    def repeat_lines(self, proxy_url: str) -> list[tuple[str, str]]:
        """Return what has a token refused, what has it expire, and what shows then that a request came again.

        Each is a sentence and a command.
        """
        example = dict(self.curl_lines(proxy_url))[REPEATED]
        return [
            (
                f"Have the token of {REPEATED} refused:",
                curl_line(proxy_url, f"/{REPEATED}{REVOKE}", "-X POST"),
            ),
            ("or have it expire:", curl_line(proxy_url, f"/{REPEATED}{EXPIRE}", "-X POST")),
            ("and call again. The answer says that it was repeated, the log retried=yes:", example),
        ]

    @property
    def login_routes(self) -> list[str]:
        """The routes that want a person's login first."""
        return [
            route.name
            for system, base_url in self._served.values()
            for route in system.routes(base_url)
            if route.needs_login
        ]

    def __repr__(self) -> str:
        return f"<Demo {' '.join(f'{name}={url}' for name, url in self.systems.items())}>"


def curl_line(proxy_url: str, target: str, *options: str) -> str:
    """Return a command that asks for `target` at the proxy's listener."""
    base = proxy_url.rstrip("/")
    if base.startswith("unix:"):
        options, base = (
            (f"--unix-socket {shlex.quote(base.removeprefix('unix:'))}", *options),
            "http://localhost",
        )
    return " ".join(["curl", *options, shlex.quote(base + target)])


def announced(host: str = "127.0.0.1") -> Demo:
    """Return the demo as it is when it is served on `FIRST_PORT` and those after it; nothing is."""
    systems = [make() for make in SYSTEMS]
    urls = [f"http://{bracketed(host)}:{port}" for port, _ in enumerate(systems, FIRST_PORT)]
    return Demo({each.name: (each, url) for each, url in zip(systems, urls, strict=True)})


@asynccontextmanager
async def stand_ins(
    host: str = "127.0.0.1",
    *,
    lifetime: float | None = None,
    clock: Clock = time.time,
    first_port: int | None = None,
) -> AsyncIterator[Demo]:
    """Serve every stand-in on a port of `host`: from `first_port` on, or a free one where that is taken.

    `lifetime`, in seconds, takes the place of the vendors' own for access tokens.
    """
    async with AsyncExitStack() as stack:
        served: dict[str, tuple[StandIn, str]] = {}
        for index, make in enumerate(SYSTEMS):
            system = make(lifetime=lifetime, clock=clock)
            port = first_port + index if first_port is not None else 0
            served[system.name] = system, await stack.enter_async_context(_listening(system, host, port))
        yield Demo(served)


@asynccontextmanager
async def _listening(system: StandIn, host: str, port: int) -> AsyncIterator[str]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await _answer(system, request)

    # A bare server: an application's router misses targets such as `/%0d%0a`, which a proxy must carry too.
    server = web.Server(answer, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await web.TCPSite(runner, host, 0).start()
        yield f"http://{bracketed(host)}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _answer(system: StandIn, request: web.BaseRequest) -> web.StreamResponse:
    received = Received(request.method, request.raw_path, request.headers)
    if received.method == "POST" and (control := system.controls.get(received.path)) is not None:
        if _is_from_a_page(received):
            return web.Response(status=403, text="This is not for web pages: use curl.\n")
        return control(received)
    if (asked := system.endpoint(received.path)) is not None:
        return system.converse(replace(received, body=await request.read()), asked)
    if (page := system.pages.get(received.path)) is not None:
        return page(replace(received, body=await request.read()))
    refusal = system.judge(received)
    length, digest = await _digest(request)
    if refusal is not None:
        return refusal
    document = {
        "system": system.name,
        "method": received.method,
        "path": received.path_qs,
        "headers": _shown(received),
        "body": {"length": length, "sha256": digest},
    }
    if (repeated := system.repeats(received)) is not None:
        document = {"repeated": repeated} | document
    text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"  # somebody reads it in a terminal
    return web.Response(text=text, content_type="application/json")


def _is_from_a_page(received: Received) -> bool:
    """Whether a web page sent it: any may POST to a port of this machine, and none has a reason to."""
    return "Origin" in received.headers or received.headers.get("Sec-Fetch-Site", "none") != "none"


async def _digest(request: web.BaseRequest) -> tuple[int, str]:
    """Read the body without keeping it; return its length and SHA-256."""
    length, digest = 0, sha256()
    async for chunk in request.content.iter_any():
        length += len(chunk)
        digest.update(chunk)
    return length, digest.hexdigest()


def _shown(received: Received) -> dict[str, str]:
    """Return the headers, with repeated ones joined (RFC 9110 §5.3) and the credential cut short."""
    shown: dict[str, str] = {}
    for name, value in received.headers.items():
        if name.lower() == "authorization" or is_secret_name(name):
            scheme, space, credential = value.partition(" ")
            value = f"{scheme}{space}{credential[:SHOWN]}…" if space else f"{scheme[:SHOWN]}…"  # noqa: PLW2901
        shown[name] = f"{shown[name]}, {value}" if name in shown else value
    return shown
