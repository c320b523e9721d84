"""What an answer holds in place of the token that was due: a page for people, other fields, no JSON at all.

Names of fields are told, their values never.
"""

import re
from collections.abc import Collection, Iterator

from authproxy.grants.reply import is_page
from authproxy.grants.steps import Answer
from authproxy.masking import scrub

PAGE_HINT = (
    "a login page, a firewall or a captive portal may have answered: check the URL of the token endpoint"
)
MAX_FIELDS = 12  # of a reply that are named
DEPTH = 2  # how many levels of it

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,39}\Z", re.ASCII)  # a key that is another thing may be somebody's data
_LIKELY = re.compile(r"(token|jwt)\Z", re.IGNORECASE)


def no_token(
    answer: Answer, document: object, where: str, *, secrets: Collection[str] = ()
) -> tuple[str, str]:
    """Return what came instead of a token at `where`, and what to do."""
    came = f"{answer.place} answered {answer.status}"
    if is_page(answer):
        return (
            f"{came} without a token: it sent an HTML page, not JSON",
            PAGE_HINT,
        )
    if document is None:
        what = "what is not JSON" if answer.body.strip() else "nothing"
        return (
            f"{came} without a token at {where}: it sent {what}",
            "check the URL of the token endpoint; `response.token` says where the reply has the token",
        )
    fields = [scrub(each, secrets) for each in field_pointers(document)]
    named = f"; the fields there are {', '.join(fields)}" if fields else ""
    return f"{came} without a token at {where}{named}", _hint([each for each in fields if each not in where])


def field_pointers(document: object) -> list[str]:
    """Return the JSON Pointers of the fields that a reply has, the first `MAX_FIELDS` of them."""
    found = list(_fields(document, "", DEPTH))
    return [*found[:MAX_FIELDS], "…"] if len(found) > MAX_FIELDS else found


def _hint(fields: list[str]) -> str:
    likely = [each for each in fields if _LIKELY.search(each) and not each.endswith("refresh_token")]
    if len(likely) == 1:
        return f"if that is where the token is, set `response: {{token: {likely[0]}}}`"
    return "`response.token` says where the reply has the token"


def _fields(document: object, pointer: str, depth: int) -> Iterator[str]:
    if not isinstance(document, dict) or depth == 0:
        return
    for name, value in document.items():
        if not _NAME.match(name):
            continue
        here = f"{pointer}/{name}"
        inner = list(_fields(value, here, depth - 1))
        yield from inner or [here]
