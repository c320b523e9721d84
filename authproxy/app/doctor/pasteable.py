"""Makes what the doctor says safe to paste: no secret, nobody's name, no home, no control character.

Nothing that is secret should get this far: texts are made of settings that are not, and foreign ones are
scrubbed where they come in. This is the last look.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from authproxy.app.doctor.steps import Verdict
from authproxy.config.model import Config
from authproxy.masking import SHORT_SECRET, Hiding, leaves, one_line


class Pasteable:
    """Cleans texts of the secrets of a configuration, and of those that are added."""

    def __init__(self, config: Config | None) -> None:
        self._secrets = set(_secrets_of(config)) if config is not None else set()
        self._hiding = Hiding(self._secrets)
        self._home = _home()

    def add(self, *secrets: str | None) -> None:
        """Hide these too."""
        self._secrets |= {each for each in secrets if each}
        self._hiding = Hiding(self._secrets)

    def __call__(self, text: str) -> str:
        text = one_line(self._hiding(text))
        return text.replace(self._home, "~") if self._home else text

    def verdict(self, verdict: Verdict) -> Verdict:
        """Return `verdict` with each of its texts cleaned."""
        cause = self(verdict.cause) if verdict.cause is not None else None
        what_next = self(verdict.next) if verdict.next is not None else None
        return replace(verdict, detail=self(verdict.detail), cause=cause, next=what_next)


def _secrets_of(config: Config) -> Iterable[str]:
    for route in config.routes:
        for leaf in leaves(route.grant) + leaves(route.headers) + leaves(route.http_proxy):
            value = leaf.value.get_secret_value() if isinstance(leaf.value, SecretStr) else leaf.value
            is_person = isinstance(value, str) and "user" in (leaf.declared.name if leaf.declared else "")
            if isinstance(leaf.value, SecretStr) or (is_person and "@" in value):
                yield from [value] if is_telling(value) else []


def is_telling(text: str) -> bool:
    """Tell whether `text` is no word that stands in our sentences by chance: those would become riddles."""
    return len(text) >= SHORT_SECRET or (len(text) > 3 and not text.isalpha())


def _home() -> str:
    try:
        home = str(Path.home())
    except RuntimeError:
        return ""
    return home if len(home) > 1 else ""
