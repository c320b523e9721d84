"""What an upstream says it wants instead: the schemes of its `WWW-Authenticate` (RFC 9110 §11.6.1).

    WWW-Authenticate: Basic realm="api", Token    ─▶  Basic, Token

A challenge is a scheme, alone or with parameters behind a space; parameters have a `=`.
"""

import re
from collections.abc import Iterable

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCHEME = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s+(?!=)\S.*)?\Z", re.DOTALL)
MAX_SCHEMES = 8
MAX_LENGTH = 24  # characters of a scheme that is repeated

ANOTHER_GRANT = (
    "use a `grant` that gets such a token instead of `grant: basic`: with another `scheme` alone it would be "
    "the name and the password that are sent"
)
OTHER_GRANTS = {"basic": "`grant: basic`"}
"""Schemes that another grant is for."""
NOT_OURS = frozenset({"digest", "negotiate", "ntlm", "hoba", "mutual", "dpop", "aws4-hmac-sha256"})
"""Schemes that no key brings about."""


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

    `setting` is the key that says what is sent: `scheme`, `inject`, or `grant` where no token is.
    """
    wanted = schemes_in(headers)
    if not wanted or sent.lower() in {each.lower() for each in wanted}:
        return None
    named = " or ".join(wanted)
    able = [each for each in wanted if each.lower() not in NOT_OURS]
    if not able:
        return named, "authproxy has no grant for that scheme: is `upstream` right?"
    if setting == "grant":  # what is sent is a name and a password, under whatever word
        return named, ANOTHER_GRANT
    ways = [OTHER_GRANTS.get(each.lower()) or _way_to_send(each, setting) for each in able]
    return named, f"set {' or '.join(ways)}"


def _way_to_send(scheme: str, setting: str) -> str:
    if setting == "scheme":
        return f"`scheme: {scheme}`"
    return f'`value: "{scheme} {{token}}"` of Authorization in `inject`'
