"""The way to a server, step by step: DNS, TCP, a tunnel if there is an HTTP proxy, TLS.

Each step is the one that the data path takes (`net/dial.py`); nothing is sent to the server but a handshake.
Where one fails, what a person would try next is tried: the certificate looked at, plain http in place of TLS,
the direct way around an HTTP proxy. None of these carries a credential.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from authproxy.app.doctor.certificate import CertificateFacts, explain, read_certificate, utc_now
from authproxy.app.doctor.steps import Steps, Verdict, failed, passed
from authproxy.errors import AuthproxyError, UpstreamError
from authproxy.net.dial import Addresses, Dialer, Origin
from authproxy.net.failures import NO_TLS, UPSTREAM, Failure, failure_of, tls_hint
from authproxy.net.http_proxy import HTTPProxy
from authproxy.net.own_listeners import NOBODY, OwnListeners
from authproxy.net.tls import upstream_context

MAX_ADDRESSES = 3  # of a name that are told
PROBE_SECONDS = 3.0
PLAIN_PROBE = b"OPTIONS * HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be reached: `setting` is the key that names it, `seconds` bounds each step.

    `proxy_setting` says where the HTTP proxy was named; `prefix` begins the names of the steps.
    """

    origin: Origin
    setting: str = UPSTREAM
    proxy: HTTPProxy | None = None
    proxy_setting: str = ""
    own: OwnListeners = NOBODY
    seconds: float = 10.0
    prefix: str = ""

    @property
    def dialer(self) -> Dialer:
        return Dialer(self.origin, proxy=self.proxy, own=self.own, tunnel=self.tunnels, setting=self.setting)

    @property
    def tunnels(self) -> bool:
        """Whether an HTTP proxy is asked to pass on bytes: plain http it forwards."""
        return self.origin.tls is not None

    @property
    def name(self) -> str:
        return self.origin.server_name or self.origin.host


class _Line(asyncio.Protocol):
    """A connection that says nothing."""

    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def reach(target: Target, steps: Steps) -> bool:
    """Take the steps to `target`; tell whether it can be reached."""
    return await _Way(target, steps).walk()


class _Way:
    """One walk; what a step brings is here for the next one."""

    def __init__(self, target: Target, steps: Steps) -> None:
        self._target = target
        self._steps = steps
        self._dialer = target.dialer
        self._addresses: Addresses = []

    async def walk(self) -> bool:
        taken = [("dns", self._resolve), ("tcp", self._connect)]
        if self._target.origin.tls is not None:
            taken.append(("tls", self._secure))
        for name, step in taken:
            verdict = await self._steps.take(self._target.prefix + name, self._bounded(step()))
            if not verdict.ok:
                return False
        return True

    async def _bounded(self, step: Awaitable[Verdict]) -> Verdict:
        target = self._target
        try:
            return await step
        except TimeoutError:
            cause = f"{self._dialer.place} did not answer within {target.seconds:g} s"
            hint = self._dialer.hint("and whether a firewall is in the way")
        except UpstreamError as error:
            cause, hint = error.detail, error.hint or self._dialer.hint("and the network")
        around = await self._way_around()
        return failed(cause, around or hint)

    # ── the steps ────────────────────────────────────────────────────────────────────────────────

    async def _resolve(self) -> Verdict:
        async with asyncio.timeout(self._target.seconds):
            self._addresses = await self._dialer.resolve()
        found = list(dict.fromkeys(str(each[4][0]) for each in self._addresses))
        more = [f"{len(found) - MAX_ADDRESSES} more"] if len(found) > MAX_ADDRESSES else []
        shown = ", ".join([*found[:MAX_ADDRESSES], *more])
        return passed(f"{shown}{self._through()}")

    async def _connect(self) -> Verdict:
        async with asyncio.timeout(self._target.seconds):
            with contextlib.closing(await self._dialer.connect(self._addresses)) as sock:
                host, port = sock.getpeername()[:2]
                await self._dialer.tunnel(sock)
        return passed(f"connected to {host}, port {port}{self._through()}")

    async def _secure(self) -> Verdict:
        shaking = asyncio.ensure_future(handshake(self._dialer))
        try:
            async with asyncio.timeout(self._target.seconds):
                await asyncio.wait([shaking], timeout=PROBE_SECONDS)
                if not shaking.done() and await answers_plain_http(self._target):
                    return self._is_plain()
                version, facts = await shaking
        except UpstreamError as error:
            return await self._no_tls(tls_failure(error))
        except TimeoutError:
            return await self._no_tls(Failure.HANDSHAKE)
        finally:
            shaking.cancel()
        said = facts.summary(utc_now()) if facts is not None else "no certificate that can be read"
        tls = self._target.origin.tls
        unverified = tls is not None and tls.verify_mode is ssl.CERT_NONE
        return passed(f"{version}, {said}{'; not verified (tls.verify: false)' if unverified else ''}")

    async def _no_tls(self, failure: Failure) -> Verdict:
        target = self._target
        if failure in {Failure.HANDSHAKE, Failure.PLAIN_HTTP} and await answers_plain_http(target):
            return self._is_plain()
        facts = await shown_certificate(target)
        return failed(explain(failure, target.name, facts, utc_now()), tls_hint(failure, target.setting))

    def _is_plain(self) -> Verdict:
        target = self._target
        cause = f"{target.origin.authority} speaks plain http, not TLS"
        return failed(cause, tls_hint(Failure.PLAIN_HTTP, target.setting))

    # ── what a person would try next ─────────────────────────────────────────────────────────────

    def _through(self) -> str:
        proxy = self._target.proxy
        return f", the HTTP proxy {proxy} (from {self._target.proxy_setting})" if proxy is not None else ""

    async def _way_around(self) -> str | None:
        """Return what to do when the server can be reached without the HTTP proxy."""
        target = self._target
        if target.proxy is None or not await is_reachable(replace(target, proxy=None)):
            return None
        return (
            f"{target.origin} can be reached directly: set `http_proxy: none`, "
            f"or add {target.origin.host} to NO_PROXY"
        )


def tls_failure(error: UpstreamError) -> Failure:
    """Return what was wrong with a handshake that ended in `error`."""
    failure = failure_of(error.__cause__ or error, otherwise=Failure.HANDSHAKE)
    return failure if failure in NO_TLS else Failure.HANDSHAKE


async def handshake(dialer: Dialer) -> tuple[str, CertificateFacts | None]:
    """Return the protocol and the certificate of a TLS handshake.

    Raises `UpstreamError`.
    """
    sock = await dialer.connect(await dialer.resolve())
    try:
        await dialer.tunnel(sock)
        line = await dialer.secure(sock, _Line)
    except BaseException:
        sock.close()
        raise
    assert line.transport is not None  # noqa: S101 - it is made by now
    try:
        found = line.transport.get_extra_info("ssl_object")
        return found.version() or "TLS", read_certificate(found.getpeercert(binary_form=True))
    finally:
        if isinstance(line.transport, asyncio.Transport):
            line.transport.abort()


async def shown_certificate(target: Target) -> CertificateFacts | None:
    """Return the certificate that the server shows to whoever would take any; we show none."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return (await handshake(_unverified(target).dialer))[1]
    except (AuthproxyError, OSError):
        return None


def is_tls(target: Target) -> Verdict:
    """Return what to say of a server that speaks TLS where plain http was meant."""
    return failed(f"{target.origin} speaks TLS, not plain http", f"write https:// in `{target.setting}`")


async def speaks_tls(target: Target) -> bool:
    """Tell whether the server takes a TLS handshake."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await handshake(_unverified(target).dialer)
    except UpstreamError as error:
        return tls_failure(error) is Failure.WANTS_CERTIFICATE
    except OSError:
        return False
    return True


async def answers_plain_http(target: Target) -> bool:
    """Tell whether the server answers in plain HTTP where TLS was expected."""
    loop, dialer = asyncio.get_running_loop(), target.dialer
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            with contextlib.closing(await dialer.connect(await dialer.resolve())) as sock:
                await dialer.tunnel(sock)
                await loop.sock_sendall(sock, PLAIN_PROBE % target.origin.authority.encode("ascii"))
                return (await loop.sock_recv(sock, 16)).startswith(b"HTTP/1.")
    except (AuthproxyError, OSError):
        return False


async def is_reachable(target: Target) -> bool:
    """Tell whether a TCP connection can be made."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            dialer = target.dialer
            (await dialer.connect(await dialer.resolve())).close()
    except (AuthproxyError, OSError):
        return False
    return True


def _unverified(target: Target) -> Target:
    return replace(target, origin=replace(target.origin, tls=upstream_context(verify=False)))
