"""What is sent of a token: a text with places for the token itself and for fields of the reply it came in.

Bearer {token}        {response:/tenant_id}        {{ and }} stand for braces
"""

import re
from dataclasses import dataclass, field

from authproxy.errors import BadTokenReply
from authproxy.masking import MASK, SCHEMES
from authproxy.tokens.token import Token

UNUSABLE = "Unusable token"  # the title where there is one that cannot go where it should
TOKEN = "{token}"  # noqa: S105 - a place, not a token

_PLACE = re.compile(r"\{\{|\}\}|\{(?:token|response:(/[^{}]*))\}|[{}]")
_BRACES = {"{{": "{", "}}": "}"}


@dataclass(frozen=True, slots=True)
class Field:
    """The place of a field of the token reply, by its JSON Pointer (RFC 6901); of the token itself for ""."""

    pointer: str


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places. Its own words may be a secret: `shown` is for people."""

    parts: tuple[str | Field, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Return what `text` says. Raises `ValueError`, which never repeats it."""
        parts: list[str | Field] = []
        end = 0
        for match in _PLACE.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if match[0] in _BRACES:
                parts.append(_BRACES[match[0]])
            elif len(match[0]) == 1:
                raise ValueError(
                    "should hold no braces but {token} and {response:/FIELD}; {{ and }} stand for braces"
                )
            else:
                parts.append(Field(match[1] or ""))
        parts.append(text[end:])
        return cls(tuple(filter(None, parts)))

    @property
    def pointers(self) -> tuple[str, ...]:
        """The fields of the token reply that it wants."""
        return tuple(part.pointer for part in self.parts if isinstance(part, Field) and part.pointer)

    @property
    def is_fixed(self) -> bool:
        """Whether it has no place at all."""
        return not any(isinstance(part, Field) for part in self.parts)

    @property
    def words(self) -> str:
        """What stands before the first place."""
        first = self.parts[0] if self.parts else ""
        return first if isinstance(first, str) else ""

    @property
    def shown(self) -> str:
        """The text, without what may be a secret in it: all but the scheme before a token."""
        return "".join(map(_shown, self.parts))

    @property
    def own_words(self) -> bool:
        """Whether it has words of its own that may be a secret."""
        return MASK in self.shown

    def fill(self, token: Token) -> str:
        """Return the text for `token`. Raises `BadTokenReply` where it lacks a field."""
        fields = dict(token.fields)
        try:
            return "".join(
                part if isinstance(part, str) else fields[part.pointer] if part.pointer else token.value
                for part in self.parts
            )
        except KeyError as missing:
            raise BadTokenReply(f"the token came without {missing.args[0]}, which `inject` wants") from None

    def origin_of(self, character: str, token: Token) -> str:
        """Return, in words, what brings `character` into the text for `token`."""
        fields = dict(token.fields)
        for part in self.parts:
            if isinstance(part, Field):
                value = fields.get(part.pointer, "") if part.pointer else token.value
                if character in value:
                    return f"the field {part.pointer}" if part.pointer else "the token"
        return "the configured text"


def _shown(part: str | Field) -> str:
    if isinstance(part, Field):
        return f"{{response:{part.pointer}}}" if part.pointer else TOKEN
    return part if part in {":", "="} or part.removesuffix(" ").lower() in SCHEMES else MASK
