"""What of an upstream's answers comes back pointing at the proxy: the keys of `rewrite`."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from authproxy.config.stand_in import KEYS
from authproxy.values import Size, Switch

_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+*-]+/[a-z0-9!#$&^_.+*-]+\Z")  # RFC 6838 §4.2, and `*`


def _media_type(value: str) -> str:
    pattern = value.lower()
    if pattern.startswith("multipart/"):
        raise ValueError("should be no type of multipart: its parts are not looked into")
    if not _MEDIA_TYPE.match(pattern):
        raise ValueError(
            "should be a media type such as application/json, or a pattern such as application/*+json,"
            " without parameters"
        )
    return pattern


def _off_is_nothing(value: Any) -> Any:
    if value is True:
        raise ValueError("should be a list of media types, such as [application/json]")
    return () if value is False or value is None else value


MediaPattern = Annotated[str, AfterValidator(_media_type)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """What is made to point at the proxy."""

    __pydantic_config__ = KEYS

    headers: Switch = True
    """Whether redirects, links and cookies are. Example: false"""
    bodies: Annotated[
        tuple[MediaPattern, ...],
        BeforeValidator(
            _off_is_nothing, json_schema_input_type=tuple[MediaPattern, ...] | Literal[False] | None
        ),
    ] = ()
    """Media types of JSON in which URLs are made to: string values that begin with the origin and the base
    path of this route, or of one with equal `auth`. `*` is any text within a type.
    Example: [application/json, "application/*+json"]"""
    max: Size = 4 << 20
    """An answer that says it is longer passes as it is. One that says no length is rewritten to its end, as
    nothing is held. Example: 16MiB"""
