"""Takes the pictures of the README: `make pictures`.

    terminal.svg           `authproxy run` and curl, as they print (recording.py)
    page-{light,dark}.png  the admin listener's page after some requests, in Chromium

The APIs behind the proxy are the demo's stand-ins. It listens where a reader's would, on 8080 and 8081.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import yaml
from playwright.async_api import async_playwright

from authproxy.demo import Demo, stand_ins
from docs.tools.recording import Pane, Shown, draw

PICTURES = Path(__file__).parents[1] / "pictures"
PROXY, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:8081"
ROUTES = ("up42", "code42", "login", "calendar42-oauth")  # a row of cards
SECONDS = 14  # of requests, for the charts
SIZE = {"width": 1280, "height": 1040}
LABEL = (
    "authproxy run with four lines of configuration; curl gets an answer, also after the token was revoked"
)


async def take() -> None:
    """Take all of them."""
    PICTURES.mkdir(exist_ok=True)
    async with stand_ins() as demo:
        with tempfile.TemporaryDirectory() as directory:
            (PICTURES / "terminal.svg").write_text(await record(demo, directory), encoding="utf-8")
            async with serving(demo, directory):
                await page(demo)


# ── the terminal ─────────────────────────────────────────────────────────────────────────────────


async def record(demo: Demo, directory: str) -> str:
    """Return the recording: a first answer, a token that is revoked, and the answer after it."""
    (route,) = (each for each in demo.config()["routes"] if each["name"] == "login")
    auth = {"preset": "password-login", "username": route["auth"]["username"], "password": "${PASSWORD}"}
    config = {"name": "login", "upstream": route["upstream"], "auth": auth}
    text = yaml.safe_dump({"routes": [config]}, sort_keys=False, default_flow_style=None)
    (Path(directory) / "authproxy.yaml").write_text(text, encoding="utf-8")
    env = environment(directory, PASSWORD=route["auth"]["password"])
    return await asyncio.to_thread(_record, demo, directory, env)


def _record(demo: Demo, directory: str, env: dict[str, str]) -> str:
    def run(command: str) -> list[Shown]:
        with Pane(command, cwd=directory, env=env) as pane:
            pane.wait()
        return pane.lines

    file = run("cat authproxy.yaml")
    with Pane("authproxy run", cwd=directory, env=env) as proxy:
        proxy.wait_for("admin on")
        curl = run(f"curl -s {PROXY}/items | head -n 9")
        proxy.wait_for("status=200")
        demo.revoke("login")
        curl += run(f"curl -s -o /dev/null -w '%{{http_code}}\\n' {PROXY}/items  # token revoked")
        proxy.wait_for("retried=yes")
    return draw([("authproxy", [*file, *proxy.lines]), ("any tool", curl)], LABEL)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def serving(demo: Demo, directory: str) -> AsyncIterator[None]:
    """Have the proxy serve some of the demo's routes."""
    routes = [route for route in demo.config()["routes"] if route["name"] in ROUTES]
    path = Path(directory) / "authproxy.yaml"
    path.write_text(yaml.safe_dump({"routes": routes, "token_store": {"type": "memory"}}), encoding="utf-8")
    path.chmod(0o600)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "authproxy", "run", cwd=directory, env=environment(directory),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        while b"admin on" not in (line := await process.stdout.readline()):
            if not line:
                raise SystemExit("the proxy did not start: are the ports 8080 and 8081 free?")
        yield
    finally:
        process.terminate()
        await process.wait()


async def page(demo: Demo) -> None:
    """Take the page's pictures, if there is a page."""
    if await asyncio.to_thread(status, f"{ADMIN}/") != 200:
        print("there is no page at the admin listener yet: no picture of it")
        return
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        contexts = [await browser.new_context(color_scheme=look, viewport=SIZE) for look in ("light", "dark")]
        pages = [await context.new_page() for context in contexts]
        for each in pages:
            await each.goto(f"{ADMIN}/")
        await requests(demo)
        for each, look in zip(pages, ("light", "dark"), strict=True):
            await each.screenshot(path=PICTURES / f"page-{look}.png")
        await browser.close()


async def requests(demo: Demo) -> None:
    """Send what there is to see: good ones, one that is repeated, one refused, one that goes nowhere."""
    urls = [line.split()[-1].strip("'") for name, line in demo.curl_lines(PROXY) if name in ROUTES]
    for second in range(SECONDS):
        if second == SECONDS // 2:
            demo.revoke("up42")
        for url in urls * (1 + second % 3):
            await asyncio.to_thread(status, url)
        await asyncio.sleep(1)
    for url in (f"{PROXY}/calendar42-oauth/api/v2/events/", f"{PROXY}/nowhere", *urls):
        await asyncio.to_thread(status, url)
    await asyncio.sleep(1.5)


def status(url: str) -> int:
    """Return how `url` is answered."""
    try:
        with urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def environment(directory: str, **more: str) -> dict[str, Any]:
    """Return an environment in which `authproxy` is this one, and nothing of the user's is found."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {"HOME": directory, "PATH": path, "TERM": "xterm-256color", "LANG": "C.UTF-8", "NO_PROXY": "*"}
    return ours | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ} | more


if __name__ == "__main__":
    asyncio.run(take())
