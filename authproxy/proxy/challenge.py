"""What an upstream's `WWW-Authenticate` says (RFC 9110 §11.6.1): which schemes it wants, and why it refused.

    WWW-Authenticate: Basic realm="api", Token               ─▶  Basic, Token
    WWW-Authenticate: Bearer error="insufficient_scope"      ─▶  another token will not do either

A challenge is a scheme, alone or with parameters behind a space; parameters have a `=`.
"""

import re
from collections.abc import Iterable

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word
_TEXT = r'"((?:[^"\\]|\\.?)*)(?:"|\Z)'  # a quoted-string; one without an end goes to the end
_QUOTED = re.compile(_TEXT, re.DOTALL)
_PARAMETERS = re.compile(rf"({_TOKEN})(?:[ \t]*=[ \t]*(?:{_TEXT}|({_TOKEN})))?|{_TEXT}", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:\s+(?!=)\S.*)?\Z", re.DOTALL)
MAX_SCHEMES = 8
MAX_LENGTH = 24  # characters of a scheme that is repeated

OTHER_GRANTS = {"basic": "`grant: basic`"}
"""Schemes that another grant is for."""
NOT_OURS = frozenset({"digest", "negotiate", "ntlm", "hoba", "mutual", "dpop", "aws4-hmac-sha256"})
"""Schemes that no key brings about."""


def lacks_scope(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a refused token is good, but may not do this (RFC 6750 §3.1): no other one may either."""
    return any(
        name.lower() == b"www-authenticate" and "insufficient_scope" in _errors_of(value.decode("latin-1"))
        for name, value in headers
    )


def _errors_of(value: str) -> Iterable[str]:
    """Yield the `error` of each challenge in `value`: only a parameter of that very name is one."""
    for match in _PARAMETERS.finditer(value):
        if match[1] is not None and match[1].lower() == "error":
            yield match[3] or _QUOTED_PAIR.sub(r"\1", match[2] or "")


def schemes_in(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Return the schemes that an answer's challenges name, in order, each as it is spelled."""
    found: list[str] = []
    for name, value in headers:
        if name.lower() == b"www-authenticate":
            found += _schemes_of(value.decode("latin-1"))
    return list(dict.fromkeys(found))[:MAX_SCHEMES]


def _schemes_of(value: str) -> Iterable[str]:
    for part in _QUOTED.sub('""', value).split(","):
        match = _SCHEME.match(part.strip())
        if match is not None and len(match[1]) <= MAX_LENGTH and "=" not in match[1]:
            yield match[1]


def wanted_instead(
    sent: str, headers: Iterable[tuple[bytes, bytes]], setting: str = "scheme"
) -> tuple[str, str] | None:
    """Return what an upstream asks for instead of the scheme `sent`, and what to do; or None.

    `setting` is the key that says what is sent: `scheme` or `inject`.
    """
    wanted = schemes_in(headers)
    if not wanted or sent.lower() in {each.lower() for each in wanted}:
        return None
    named = " or ".join(wanted)
    able = [each for each in wanted if each.lower() not in NOT_OURS]
    if not able:
        return named, "authproxy has no grant for that scheme: is `upstream` right?"
    ways = [OTHER_GRANTS.get(each.lower()) or _way_to_send(each, setting) for each in able]
    return named, f"set {' or '.join(ways)}"


def _way_to_send(scheme: str, setting: str) -> str:
    if setting == "scheme":
        return f"`scheme: {scheme}`"
    return f'`value: "{scheme} {{token}}"` of Authorization in `inject`'
