"""`authproxy healthcheck`: for containers and supervisors."""

import asyncio
import json

import aiohttp
import click

from authproxy.cli.options import config_option, load_config

TIMEOUT = aiohttp.ClientTimeout(total=5)


@click.command()
@click.argument("url", required=False)
@config_option
def healthcheck(*, url: str | None, config_file: str | None) -> None:
    """Exit 0 when /readyz answers 200; else print why and exit 1.

    URL is the admin listener's, http://127.0.0.1:8081 for one; without it, the configuration's is asked.
    """
    if url is None:
        admin = load_config(config_file).admin
        if admin is None:
            raise click.UsageError("the configuration has `admin: false`; give the URL to ask")
        url = f"http://{admin.listen}"
    ready, said = asyncio.run(_ask(url.rstrip("/")))
    if not ready:
        click.echo(f"authproxy: not ready: {said}", err=True)
        raise click.exceptions.Exit(1)


async def _ask(base: str) -> tuple[bool, str]:
    url = base if base.endswith("/readyz") else f"{base}/readyz"
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.get(url) as response:
            text = await response.text()
            return response.status == 200, _reasons(text)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return False, f"{url} does not answer ({type(error).__name__})"


def _reasons(text: str) -> str:
    """Return what an answer says: which routes are not ready and why, or what else is wrong."""
    try:
        match json.loads(text):
            case {"routes": routes}:
                return "; ".join(
                    f"{name} is {each['state']}: {each['cause']}" for name, each in routes.items()
                )
            case {"detail": str(detail)}:
                return detail
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return "the answer is not authproxy's"
