"""What to check when an upstream's own answer looks like a mistake of the configuration.

a redirect to a host of no route           always
404, where the base path stands twice      always
404, or 400 over plain http                until the route has had a success: then they are answers
"""

import re
from collections.abc import Container

from authproxy.masking import without_query
from authproxy.observe.record import RequestRecord

REDIRECT = (
    "redirects are passed on, not followed: if the API is there, set `upstream` to that host; "
    "a login page there means that the upstream does not take the credential"
)
TWICE = "the base path stands there twice: leave it away in the request, or in `upstream`"
PATH = "is that URL right? `path` is taken off (`strip_path`), and the path of `upstream` put before the rest"
SCHEME = "if it says that plain HTTP came to an HTTPS port, write https:// in `upstream`"

_TWICE = re.compile(r"[a-z]+://[^/]+(/[^?]+?)\1(?:/|\Z)")


def advice(record: RequestRecord, proven: Container[str | None], redirect: str | None) -> str | None:
    """Return a hint for the answer of an upstream; `proven` are the routes that have had a success.

    `redirect` is where the answer leads, if that is away from all routes.
    """
    if redirect is not None:
        return REDIRECT
    if record.facts is None or record.cause is not None or record.status not in {400, 404}:
        return None
    url = without_query(record.facts.url_of(record.path))
    if record.status == 404 and _TWICE.match(url):
        return TWICE
    if record.route in proven:
        return None
    if record.status == 404:
        return PATH
    return SCHEME if url.startswith("http:") else None
