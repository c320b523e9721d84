"""`authproxy healthcheck`, for containers and supervisors: asks `/readyz` at the admin listener."""

import json
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import click

from authproxy.capabilities import UNIX_SOCKETS, run_interruptibly
from authproxy.cli.options import config_option, load_config
from authproxy.cli.terminal import Progress
from authproxy.errors import BadTokenReply
from authproxy.grants.reply import read_up_to
from authproxy.masking import one_line, without_query
from authproxy.net.failures import Failure, failure_of
from authproxy.values import bracketed, reached_at, split_address

TIMEOUT = aiohttp.ClientTimeout(total=5)
MAX_ANSWER = 1 << 20  # bytes
PAGE = "/readyz"
OUR_PAGES = ("/healthz", "/metrics", PAGE)  # whoever names another one of the admin listener means this one

NOT_OURS = "the answer is not from authproxy's admin listener"
NOT_MOUNTED = "no route is mounted"  # what such a listener says, see proxy/router.py
NOT_ADMIN = "that is a listener for requests, not the admin listener"
GIVE_ADMIN = "give the URL of the admin listener (`admin.listen`, by default http://127.0.0.1:8081)"
HINTS = {
    Failure.CONNECT: f"start the proxy, or {GIVE_ADMIN}",
    Failure.DNS: "check the host name",
    Failure.PLAIN_HTTP: "the admin listener speaks plain http: write http://",
    Failure.HANDSHAKE: "the admin listener speaks plain http: write http://",
    Failure.TIMEOUT: f"is that the admin listener? {GIVE_ADMIN}",
}


@click.command()
@click.argument("url", required=False)
@config_option
def healthcheck(*, url: str | None, config_file: str | None) -> None:
    """Exit 0 when /readyz answers 200; else print why and exit 1.

    URL is the admin listener's, http://127.0.0.1:8081 or unix:/PATH; without it, that of the
    configuration is asked. http://127.0.0.1:8081?route=NAME asks about one route.
    """
    if url is None:
        admin = load_config(config_file).admin
        if admin is None:
            raise click.UsageError("the configuration has `admin: false`; give the URL to ask")
        url = _url(admin.listen)
    scheme, is_whole, _ = url.partition("://")
    if is_whole and scheme.lower() not in {"http", "https"}:
        raise click.UsageError(f"URL should begin with http://, https:// or unix:/; {GIVE_ADMIN}")
    if url.startswith("unix:") and not UNIX_SOCKETS:
        raise click.UsageError(f"{url} cannot be asked: {UNIX_SOCKETS.lack}")
    with Progress("waiting for an answer"):
        ready, said, hint = run_interruptibly(_ask(url))
    if not ready:
        click.echo(f"authproxy: not ready: {said}", err=True)
        if hint is not None:
            click.echo(f"  hint: {hint}", err=True)
        raise click.exceptions.Exit(1)


def _url(address: str) -> str:
    """Return the URL by which this machine reaches what listens on `address`."""
    place = split_address(address)
    if place is None:
        return address
    host, port = place
    return f"http://{bracketed(reached_at(host))}:{port}"


def _readiness(url: str) -> str:
    """Return the URL of the page that tells readiness, on the server that `url` names; its query stays."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    path = parts.path.rstrip("/")
    for page in OUR_PAGES:
        path = path.removesuffix(page)
    return urlunsplit(parts._replace(path=path + PAGE, fragment=""))


Verdict = tuple[bool, str, str | None]
"""Whether all is ready; else why not, and what to do."""


async def _ask(given: str) -> Verdict:
    path = given.removeprefix("unix:").rstrip("/") if given.startswith("unix:/") else None
    try:
        url = _readiness(given) if path is None else f"http://localhost{PAGE}"
        connector = aiohttp.UnixConnector(path) if path is not None else _connector(url)
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, connector=connector) as session,
            session.get(url) as response,
        ):
            body = await read_up_to(response.content, MAX_ANSWER, url)
            return _verdict(response.status, body.decode("utf-8", "replace"))
    except BadTokenReply:  # it is longer than any of ours
        return False, NOT_OURS, GIVE_ADMIN
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        asked = without_query(given if path is not None else _asked(given))
        failure = failure_of(error, otherwise=Failure.NOT_HTTP)
        return False, f"{asked} does not answer: {failure.value}", HINTS.get(failure, GIVE_ADMIN)


def _connector(url: str) -> aiohttp.TCPConnector | None:
    """Return how to connect to `url` where the authority of `tls: auto` may vouch for what answers."""
    if not url.startswith("https:"):
        return None
    from authproxy.app.local_authority import public_file
    from authproxy.net.tls import upstream_context

    if (known := public_file()) is None:
        return None
    context = upstream_context()
    context.load_verify_locations(known)
    return aiohttp.TCPConnector(ssl=context)


def _asked(given: str) -> str:
    try:
        return _readiness(given)
    except ValueError:
        return given


def _verdict(status: int, text: str) -> Verdict:
    """Return what an answer means: a 200 counts only if it is ours."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False, NOT_OURS, GIVE_ADMIN
    match document:
        case {"ready": True} if status == 200:
            return True, "", None
        case {"routes": dict(routes)}:
            return False, _reasons(routes), None
        case {"detail": str(detail)} if detail.startswith(NOT_MOUNTED):
            return False, NOT_ADMIN, GIVE_ADMIN
        case {"detail": str(detail)}:
            hint = document.get("hint")
            return False, one_line(detail), one_line(hint) if isinstance(hint, str) else None
        case _:
            return False, NOT_OURS, GIVE_ADMIN


def _reasons(routes: dict[str, Any]) -> str:
    """Return which routes are not ready, and why, which with `access` is not told to everybody."""
    told = {
        name: [str(each[key]) for key in ("state", "cause") if each.get(key)]
        for name, each in routes.items()
        if isinstance(each, dict)
    }
    return one_line("; ".join(f"{name} is {': '.join(said)}" for name, said in told.items()))
