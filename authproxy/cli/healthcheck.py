"""`authproxy healthcheck`: for containers and supervisors."""

import asyncio
import json
from ipaddress import ip_address

import aiohttp
import click

from authproxy.capabilities import UNIX_SOCKETS
from authproxy.cli.options import config_option, load_config
from authproxy.cli.terminal import Progress
from authproxy.masking import without_query
from authproxy.values import split_address

TIMEOUT = aiohttp.ClientTimeout(total=5)


@click.command()
@click.argument("url", required=False)
@config_option
def healthcheck(*, url: str | None, config_file: str | None) -> None:
    """Exit 0 when /readyz answers 200; else print why and exit 1.

    URL is the admin listener's, http://127.0.0.1:8081 or unix:/PATH; without it, that of the
    configuration is asked.
    """
    if url is None:
        admin = load_config(config_file).admin
        if admin is None:
            raise click.UsageError("the configuration has `admin: false`; give the URL to ask")
        url = _url(admin.listen)
    if url.startswith("unix:") and not UNIX_SOCKETS:
        raise click.UsageError(f"{url} cannot be asked: {UNIX_SOCKETS.lack}")
    with Progress("waiting for an answer"):
        ready, said = asyncio.run(_ask(url.rstrip("/")))
    if not ready:
        click.echo(f"authproxy: not ready: {said}", err=True)
        raise click.exceptions.Exit(1)


def _url(address: str) -> str:
    """Return the URL by which this machine reaches what listens on `address`."""
    place = split_address(address)
    if place is None:
        return address
    host, port = place
    if _is_every_address(host):
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_every_address(host: str) -> bool:
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


async def _ask(base: str) -> tuple[bool, str]:
    path = base.removeprefix("unix:") if base.startswith("unix:/") else None
    url = base if base.endswith("/readyz") else f"{base}/readyz"
    try:
        connector = aiohttp.UnixConnector(path) if path is not None else None
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, connector=connector) as session,
            session.get(url if path is None else "http://localhost/readyz") as response,
        ):
            text = await response.text()
            return response.status == 200, _reasons(text)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        asked = without_query(url) if path is None else base
        return False, f"{asked} does not answer ({type(error).__name__})"


def _state(route: dict[str, str]) -> str:
    """Return the state of a route, and the cause, which with `access` is not told to everybody."""
    return f"{route['state']}: {route['cause']}" if "cause" in route else route["state"]


def _reasons(text: str) -> str:
    """Return what an answer says: which routes are not ready and why, or what else is wrong."""
    try:
        match json.loads(text):
            case {"routes": routes}:
                return "; ".join(f"{name} is {_state(each)}" for name, each in routes.items())
            case {"detail": str(detail)}:
                return detail
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return "the answer is not from authproxy"
