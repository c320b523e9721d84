"""What to check when an upstream's own answer looks like a mistake of the configuration.

a redirect to a host of no route           always
404, where the base path stands twice      always
404, or 400 over plain http                until the route has had a success: then they are answers
"""

from collections.abc import Container
from urllib.parse import urlsplit

from authproxy.observe.record import RequestRecord

REDIRECT = (
    "redirects are passed on, not followed: if the API is there, set `upstream` to that host; "
    "a login page there means that the upstream does not take the credential"
)
TWICE = "the base path is in the URL twice: remove it from the request, or from `upstream`"
PATH = "is that URL right? authproxy removes `path` (see `strip_path`) and prepends the path of `upstream`"
AT_ITS_OWN = (
    "is that URL right? At a route's own address no prefix is taken off: the whole path is put behind that "
    "of `upstream`"
)
SCHEME = "if it says that plain HTTP came to an HTTPS port, write https:// in `upstream`"


def advice(
    record: RequestRecord, proven: Container[str | None], *, redirect: str | None, upstream: str | None
) -> str | None:
    """Return a hint for the answer of an upstream; `proven` are the routes that have had a success.

    `redirect` is where the answer leads, if that is away from all routes; `upstream` is where it is from.
    """
    if redirect is not None:
        return REDIRECT
    if upstream is None or record.cause is not None or record.status not in {400, 404}:
        return None
    base = record.facts.base if record.facts is not None else ""
    if record.status == 404 and base and f"{urlsplit(upstream).path}/".startswith(f"{base}{base}/"):
        return TWICE
    if record.route in proven:
        return None
    if record.status == 404:
        return AT_ITS_OWN if record.facts is not None and record.facts.listener else PATH
    return SCHEME if upstream.startswith("http:") else None
