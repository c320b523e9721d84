"""A client's own login, which is answered here: the keys of one entry of `stand_in`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from authproxy.values import Duration

KEYS = ConfigDict(extra="forbid")
NEVER_FORWARDED = frozenset({"CONNECT", "TRACE"})
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # a token (RFC 9110 §9.1)
_PATH = re.compile(r"/[^?#\x00-\x1f\x7f]*\Z")


def matches(pattern: re.Pattern[str], message: str) -> Callable[[str], str]:
    """Return a check that lets through what `pattern` fits, and says `message` of anything else."""

    def check(value: str) -> str:
        if not pattern.match(value):
            raise ValueError(message)
        return value

    return check


def _login_path(value: str) -> str:
    if not _PATH.match(value):
        raise ValueError("should be a path that begins with /, without query and fragment, such as /v1/oauth")
    if "*" in value:
        raise ValueError("should be one path: `*` is no pattern here; list each path")
    if {".", ".."} & set(value.split("/")) or "//" in value or re.search("%(?!2F)", value):
        raise ValueError(
            "should be the decoded path, without . or .. or empty segments; %2F is a slash in one"
        )
    return value


def _answerable(value: str) -> str:
    if value.upper() in NEVER_FORWARDED:
        raise ValueError("should be a method that a login may have: CONNECT and TRACE are always refused")
    return value


def _lifetime(value: float) -> float:
    if value < 1:
        raise ValueError("should be a second at least")
    return value


Method = Annotated[str, AfterValidator(matches(_METHOD, "should be a method, such as GET"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A login of clients that is answered here."""

    __pydantic_config__ = KEYS

    path: Annotated[str, AfterValidator(_login_path)]
    """The decoded path below the route's prefix, whole: `/oauth/token/` is another one than `/oauth/token`.
    Example: /v1/oauth"""
    methods: Annotated[tuple[Annotated[Method, AfterValidator(_answerable)], ...], Field(min_length=1)] = (
        "POST",
    )
    """Methods, spelled exactly as clients send them. Example: [GET, POST]"""
    shape: Literal["auto", "opaque", "jwt"] = "auto"
    """What the placeholder looks like: `opaque` is one word; `jwt` has the claims of the real token, with
    `iat` and `exp` of its own, for clients that read them; `auto` is `jwt` where the real token is one.
    Example: opaque"""
    lifetime: Annotated[Duration, AfterValidator(_lifetime)] = 3600.0
    """How long the placeholder is said to last; then the client logs in again. Example: 12h"""
