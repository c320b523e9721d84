"""The live page: the files in `page/`, as they are. All that it shows it asks the admin API for.

    GET /              page/index.html, which names the header of the access key
    GET /page/NAME     its style, its modules, its icon

None of it is secret, so a browser needs no key to load it; the page asks for the key that its requests need.
A browser keeps the files and asks each time whether they are still the same (RFC 9110 §13.1.2).
"""

from collections.abc import Callable, Iterable
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path

from aiohttp import ETag, web

from authproxy.errors import NoRoute

INDEX, ASSET = "/", "/page/{name}"
FILES = Path(__file__).with_name("page")
KEY_HEADER = b'name="key-header" content=""'  # stands in index.html
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes(key_header: Callable[[], str]) -> Iterable[web.AbstractRouteDef]:
    """Return the routes of the page; `key_header` names the header of the access key, "" for none."""

    async def index(request: web.Request) -> web.Response:
        named = KEY_HEADER.replace(b'""', f'"{escape(key_header())}"'.encode())
        return _file(request, ".html", _files()["index.html"].replace(KEY_HEADER, named))

    async def asset(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "index.html" or name not in _files():
            raise NoRoute("the live page has no such file")
        return _file(request, Path(name).suffix, _files()[name])

    return [web.get(INDEX, index), web.get(ASSET, asset)]


@cache
def _files() -> dict[str, bytes]:
    """Return the files by name; they are read once, when somebody opens the page."""
    return {each.name: each.read_bytes() for each in FILES.iterdir() if each.suffix in TYPES}


def _file(request: web.Request, suffix: str, content: bytes) -> web.Response:
    tag = sha256(content).hexdigest()[:32]
    held = request.if_none_match or ()
    if any(each.value in {tag, "*"} for each in held):
        response = web.Response(status=304, headers=HEADERS)
    else:
        response = web.Response(body=content, headers=HEADERS)
        response.content_type, response.charset = TYPES[suffix], "utf-8"
    response.etag = ETag(tag)
    return response
