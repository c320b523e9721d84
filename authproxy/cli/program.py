"""A program that a verb starts beside the proxy: how it stands on the command line, and what it is told.

authproxy VERB [OPTION]... [ROUTE]... -- COMMAND [ARG]...

our environment ─┬─ without the variables that held secrets
                 ├─ where the routes are        variables.py
                 └─ with --forward: which proxy to use, and whom to trust
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from pydantic import SecretStr

from authproxy import logs
from authproxy.app.beside import serve_beside
from authproxy.app.child import Child, NotStarted, hold_signals, release_signals
from authproxy.app.credentials import check_stores
from authproxy.app.file_limits import raise_file_limit
from authproxy.app.listeners import (
    FREE_PORT,
    LOOPBACK,
    Listeners,
    each_at_a_free_port,
    listening_urls,
    open_listeners,
    own_urls,
)
from authproxy.app.observing import Watcher
from authproxy.app.serving import run_loop
from authproxy.app.tls import tls_contexts
from authproxy.cli.completing import complete_files, complete_routes
from authproxy.cli.variables import (
    NO_PROXY,
    OTHER_LOOPBACK,
    direct_loopback,
    upstream_hosts,
    variables,
)
from authproxy.config.checks import NO_CERTIFICATE, WRITTEN_BACK
from authproxy.config.model import Config, Forward
from authproxy.config.route import RouteConfig
from authproxy.stderr import dropping_stderr
from authproxy.values import bracketed, port_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from authproxy.app.forward_authority import ForwardAuthority

COMMAND = "authproxy.program.command"  # where the context keeps what stands behind --
NOT_WITHHELD = "--inherit is of no use: no secret of the configuration comes from it"
SHADOWED = "nobody comes to a route by the forward proxy: another one has the same upstream"
NOT_BESIDE = frozenset({NO_CERTIFICATE, WRITTEN_BACK})
"""Warnings that `check` and `run` give, and not each run of a program: there is no `tls`, and it reads."""
USER = "exec"  # of the key that a program gets for the forward listener
DRAIN = 1.0  # seconds; whoever is left was started by the program, which has ended
CERTIFICATE_DIRECTORY = "SSL_CERT_DIR"  # what is in there is in the bundle, and some read it alone


class WithCommand(click.Command):
    """Takes what stands behind `--` as it is; to click it would be more of the routes."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, context.meta[COMMAND] = args[:at], args[at + 1 :]
        return super().parse_args(context, args)


def no_command(context: click.Context, usage: str) -> str:
    """Return what is wrong where there is no COMMAND."""
    fault = "COMMAND is missing after --" if COMMAND in context.meta else "put -- before COMMAND"
    return f"{fault}: {usage}"


def complete_until_command(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]] | list[str]":
    """Return routes; behind `--` it is the shell that knows more."""
    complete = complete_files if COMMAND in context.meta else complete_routes
    return complete(context, parameter, incomplete)


def served_beside(
    config: Config, routes: Sequence[RouteConfig], *, forward: bool = False, keyed: bool = True
) -> Config:
    """Return what is served beside a program: `routes` alone, each on a port of its own, and nothing else.

    With `forward` there is a forward listener, as the configuration has it, but at a free port too. It wants
    a key, made for this run, unless it is not to be `keyed`.
    """
    direct = direct_loopback(upstream_hosts(routes)) if forward else ""
    host = OTHER_LOOPBACK if direct == OTHER_LOOPBACK else LOOPBACK
    served = each_at_a_free_port(config, [route.name for route in routes], host)
    limits = replace(config.limits, drain=min(config.limits.drain, DRAIN))
    warnings = tuple(each for each in config.warnings if each.message not in NOT_BESIDE)
    served = replace(served, tls=None, limits=limits, warnings=warnings)
    if not forward:
        return served
    key = SecretStr(secrets.token_urlsafe()) if keyed else None
    forward_listener = replace(config.forward or Forward(), listen=FREE_PORT)
    return replace(served, forward=forward_listener, forward_key=key, for_one_program=True)


def with_log_level(served: Config, log_level: str | None) -> Config:
    """Return `served` with what is logged: little, unless the configuration or the command line says more."""
    level: Any = log_level or (served.log.level if served.place("log.level") is not None else "warning")
    return replace(served, log=replace(served.log, level=level))


@dataclass(frozen=True, slots=True)
class Program:
    """What a program is told of the routes of `config` that are `served` at open `listeners`.

    `environ` is our environment, with the secrets. Those of its variables that hold some are not handed on,
    unless the program is to `inherit` them.
    """

    config: Config
    served: Config
    listeners: Listeners
    environ: Mapping[str, str] = field(repr=False)
    inherit: Collection[str] = ()
    java: bool = False

    def variables(self) -> dict[str, str]:
        """Return where it finds the routes. Raises `ConfigError` where two of them are at odds."""
        own = own_urls(self.served, self.listeners.proxy)
        common = next(iter([*listening_urls(self.served, self.listeners.proxy), *own.values()]))
        if self.served.forward is not None:
            name = direct_loopback(upstream_hosts(self.served.routes))
            own = {route: _at(url, name) for route, url in own.items()}
            common = _at(common, name)
        return variables(
            self.config,
            self.served.routes,
            own,
            common=common,
            environ=self.environ,
            forward=self.forward_url(),
        )

    def warn(self) -> None:
        """Warn of routes that nobody comes to by the forward listener: another one has the same upstream.

        Where the file has `forward`, it is warned about already.
        """
        if self.served.forward is None or self.config.forward is not None:
            return
        first: dict[tuple[str, str], str] = {}
        for route in self.served.routes:
            place = place_of(route), urlsplit(route.upstream).path.rstrip("/")
            if (other := first.setdefault(place, route.name)) != route.name:
                logs.warning(SHADOWED, route=route.name, by=other, hint="name one of them before --")

    def forward_url(self) -> str | None:
        """Return the URL of the forward listener, with the key, if there is one."""
        listener = self.served.forward_listener
        for name, sock in self.listeners.proxy:
            if name == listener:
                key = self.served.forward_key
                user = f"{USER}:{key.get_secret_value()}@" if key is not None else ""
                return f"http://{user}127.0.0.1:{sock.getsockname()[1]}"
        return None

    def trust(self, told: Mapping[str, str], authority: "ForwardAuthority") -> dict[str, str]:
        """Return whom it is to trust besides: `told` is what it is told already. Raises `StoreError`."""
        from authproxy.app.child_trust import trust_variables

        before = {**self.environ, **told}
        found: dict[str, str] = {}
        if authority.root_pem:  # else no upstream speaks TLS
            found |= trust_variables(authority, before)
        if self.java and (proxy := self.forward_url()) is not None:
            from authproxy.app.java_trust import java_variables

            direct = told.get(NO_PROXY[0], "").split(",")
            found |= java_variables(proxy, authority, before, direct=direct)
        return found

    def environment(self, told: Mapping[str, str], authority: "ForwardAuthority | None") -> dict[str, str]:
        """Return all that it gets. Raises `StoreError`."""
        trust = self.trust(told, authority) if authority is not None else {}
        own = {**told, **trust}
        for name in sorted(set(self.inherit) - self.config.secret_variables):
            logs.warning(NOT_WITHHELD, variable=name)
        _tell_overridden(own, self.environ)
        withheld = self.config.secret_variables.difference(self.inherit)
        found = {name: value for name, value in self.environ.items() if name not in withheld} | own
        if "SSL_CERT_FILE" in trust:
            found.pop(CERTIFICATE_DIRECTORY, None)
        return found


def run_beside(
    served: Config,
    command: Sequence[str],
    program_of: Callable[[Listeners], Program],
    *,
    retry_rejected: bool = False,
    to_stderr: bool = False,
    watcher: Watcher | None = None,
) -> int:
    """Run `command` with what is `served` beside it, and return its exit code.

    `program_of` says what it is told; its stdout may go `to_stderr`; `watcher` is told of all that comes.
    Raises `NotStarted`, and `AuthproxyError` for what cannot be served.
    """
    mask = hold_signals()  # to the end: what comes after the program's own is not to change the exit code
    with dropping_stderr(logs.dropped_lines):
        logs.set_up(served.log.level, served.log.format)
        raise_file_limit(served)
        check_stores(served)
        tls = tls_contexts(served)
        listeners = open_listeners(served)
        program = program_of(listeners)
        program.warn()
        told = program.variables()

        def start(authority: "ForwardAuthority | None") -> Child:
            return Child(command, program.environment(told, authority), mask, to_stderr=to_stderr)

        work = serve_beside(served, listeners, tls, start, retry_rejected=retry_rejected, watcher=watcher)
        try:
            return run_loop(work)
        except NotStarted:
            raise
        except BaseException:
            release_signals(mask)  # there is no program for them to go to
            raise


def place_of(route: RouteConfig) -> str:
    """Return where a route's upstream is, as a CONNECT names it."""
    url = urlsplit(route.upstream)
    return f"{bracketed((url.hostname or '').rstrip('.'))}:{port_of(url)}"


def _at(url: str, name: str) -> str:
    """Return the `url` of a listener of ours by another name of this machine."""
    return url.replace("//127.0.0.1:", f"//{name}:", 1)


def _tell_overridden(own: Mapping[str, str], environ: Mapping[str, str]) -> None:
    for name, value in own.items():
        if name not in NO_PROXY and environ.get(name, value) != value:
            logs.info("a variable that was set is overridden", variable=name)
