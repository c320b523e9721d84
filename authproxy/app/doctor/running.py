"""Whether the proxy of a configuration runs, how it is, and who has its port if it does not.

    each listener       TRACE, which nobody forwards: authproxy refuses it under its own name
    `admin`             /healthz, then /readyz

Neither carries a key: whoever listens there may be somebody else.
"""

import asyncio
import json
import re
import socket
import ssl
from dataclasses import dataclass

from authproxy.app.doctor.steps import Steps, Verdict, failed, passed, skipped
from authproxy.capabilities import AF_UNIX
from authproxy.config.model import Config, address_of
from authproxy.masking import scrub
from authproxy.net.tls import upstream_context
from authproxy.values import reached_at, split_address

OTHER_FILE = "is the proxy that runs one of another file?"
ELSEWHERE = "; it listens elsewhere than `listen` says"

SECONDS = 3.0
MAX_ANSWER = 64 << 10  # bytes
UNIX = "unix:"

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_OURS = re.compile(rb"^proxy-status: *authproxy\b", re.IGNORECASE | re.MULTILINE)


Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Found:
    """What answered at an address: nobody (`status` None), or a head and a body."""

    status: int | None = None
    head: bytes = b""
    body: bytes = b""
    refused: bool = False

    @property
    def is_ours(self) -> bool:
        return _OURS.search(self.head) is not None


async def examine_running(config: Config, steps: Steps) -> None:
    """Take the steps to the proxy that should run with `config`."""
    routes = [each for each in config.listeners if each != config.forward_listener]
    addresses = [each for each in map(address_of, routes) if not each.endswith(":0")]
    if not addresses:
        steps.note("proxy", skipped("not looked for: it listens on whatever port is free (port 0)"))
        return
    verdict = await steps.take("proxy", _proxy(addresses, secure=config.tls is not None))
    if config.admin is not None and not config.admin.listen.endswith(":0"):
        await steps.take("admin", _admin(config.admin.listen, is_running=verdict.ok is True))


async def _proxy(addresses: list[str], *, secure: bool) -> Verdict:
    tls = upstream_context(verify=False) if secure else None
    found = [(each, await ask(each, "TRACE", "/", tls=tls)) for each in addresses]
    return judge_listeners(found)


def judge_listeners(found: list[tuple[str, Found]]) -> Verdict:
    """Return what was found at each address that the proxy should listen on."""
    taken = [address for address, each in found if not each.refused and not each.is_ours]
    ours = [address for address, each in found if each.is_ours]
    if taken:
        return failed(
            f"{taken[0]} is taken by something that is not authproxy, or that does not answer",
            "end that program, or choose another address: `listen`, or `run --listen ADDRESS`",
        )
    if ours:
        return passed(f"runs, and listens on {', '.join(ours)}")
    return skipped(f"not running: nobody listens on {found[0][0]}", "start it with `authproxy run`")


async def _admin(address: str, *, is_running: bool) -> Verdict:
    health = await ask(address, "GET", "/healthz")
    if health.refused:
        if is_running:
            return failed(
                f"nobody answers at {address}, the admin listener",
                OTHER_FILE,
            )
        return skipped(f"not running: nobody listens on {address}")
    ready = await ask(address, "GET", "/readyz")
    return judge_admin(address, health, ready, is_running=is_running)


def judge_admin(address: str, health: Found, ready: Found, *, is_running: bool) -> Verdict:
    """Return what the admin listener's answers mean."""
    if health.status != 200 or ready.status not in {200, 503}:
        return failed(
            f"{address} is taken by something that is not authproxy's admin listener",
            "end that program, or choose another address: `admin: {listen: …}`, or `run --admin ADDRESS`",
        )
    if ready.status == 200:
        return passed("healthy and ready" if is_running else f"healthy and ready{ELSEWHERE}")
    return failed(
        f"the proxy that runs is not ready: {_reasons(ready.body) or 'it does not say why'}",
        "see the routes below; once the cause is mended, POST /api/routes/NAME/refresh tries at once",
    )


def _reasons(body: bytes) -> str:
    try:
        routes = json.loads(body)["routes"]
        return scrub("; ".join(f"{name} is {each['state']}" for name, each in routes.items()), ())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""


async def ask(address: str, method: str, path: str, *, tls: ssl.SSLContext | None = None) -> Found:
    """Ask what listens on `address`, if something does; of a listener on all addresses, that on loopback."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await _open(address, tls)
    except (OSError, ValueError):
        return Found(refused=True)
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = await _up_to(reader, MAX_ANSWER)
    except OSError:  # a timeout is one
        return Found()
    finally:
        writer.transport.abort()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = _STATUS.match(head)
    return Found(int(status[1]) if status else None, head, body)


async def _open(address: str, tls: ssl.SSLContext | None) -> Line:
    if address.startswith(UNIX):
        sock = await _connected(address.removeprefix(UNIX))
        name = "localhost" if tls is not None else None  # asyncio wants one; nobody verifies it
        return await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name)
    place = split_address(address)
    if place is None:
        raise ValueError(address)
    return await asyncio.open_connection(reached_at(place[0]), place[1], ssl=tls)


async def _connected(path: str) -> socket.socket:
    sock = socket.socket(AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 - it is all there is
        await asyncio.get_running_loop().sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


async def _up_to(reader: asyncio.StreamReader, limit: int) -> bytes:
    answer = b""
    while len(answer) < limit and (piece := await reader.read(limit)):
        answer += piece
    return answer
