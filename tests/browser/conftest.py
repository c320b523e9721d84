"""A real browser: Debian's Chromium, headless, driven by Playwright.

It is `/usr/bin/chromium`, or the program that AUTHPROXY_CHROMIUM names. Nothing but loopback can be reached
from it, and nothing of one test is left in it for the next.
"""

import os
from collections.abc import AsyncIterator

import aiohttp
import pytest_asyncio

from tests.servers.conftest import Client, Django, django_url
from tests.servers.oidc.conftest import oidc_provider
from tests.support.installed import need

__all__ = ["django_url", "oidc_provider"]  # fixtures

CHROMIUM = os.environ.get("AUTHPROXY_CHROMIUM", "/usr/bin/chromium")
ELSEWHERE = "elsewhere.example"  # a site that the browser finds on loopback
ARGUMENTS = [
    "--no-sandbox",  # which it cannot have as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
PATIENCE = 20_000  # milliseconds until what a test waits for has failed


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator:
    need("playwright", CHROMIUM)
    from playwright.async_api import async_playwright  # noqa: PLC0415 - it may be missing

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(chromium) -> AsyncIterator:
    """Return an empty page in a browser without a past."""
    context = await chromium.new_context()
    context.set_default_timeout(PATIENCE)
    yield await context.new_page()
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield Client(session)


@pytest_asyncio.fixture(loop_scope="session")
async def django(django_url: str, client: Client) -> Django:
    """Return django-oauth-toolkit with its pages, nothing handed out yet."""
    server = Django(django_url, client)
    await server.start_anew()
    return server
