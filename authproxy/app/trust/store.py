"""What all trust stores have in common: a certificate gets in, and out again."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Protocol

from authproxy.errors import AuthproxyError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

SECONDS = 120.0  # for a program, which may have its user confirm


class NotChanged(AuthproxyError):
    """A trust store has not been changed."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a program has said, and the code with which it ended."""

    code: int
    text: str


Run = Callable[[Sequence[str]], Said]


@dataclass(frozen=True, slots=True)
class Root:
    """A root's certificate, as stores want it."""

    pem: bytes = field(repr=False)
    sha1: str
    mark: str
    """What we call it there: like no other one's."""
    file: Path

    @classmethod
    def of(cls, certificate: "Certificate", file: Path) -> "Root":
        """Return `certificate`, which `file` holds."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        sha1 = certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - a name, no proof
        return cls(certificate.public_bytes(Encoding.PEM), sha1, f"authproxy-{sha1[:12]}", file)


class TrustStore(Protocol):
    """One place with certificates that programs trust; `by_curl` says whether curl is one of them."""

    @property
    def name(self) -> str: ...

    @property
    def by_curl(self) -> bool: ...

    def has(self, root: Root) -> bool:
        """Tell whether `root` is trusted there."""
        ...

    def lack(self, root: Root, *, adding: bool) -> str | None:
        """Return the command for who may do what we may not; None where we may."""
        ...

    def add(self, root: Root) -> None:
        """Have `root` trusted. Raises `NotChanged`."""
        ...

    def remove(self, root: Root) -> None:
        """Have `root` trusted no more. Raises `NotChanged`."""
        ...


def run_program(command: Sequence[str]) -> Said:
    """Run a program to its end. Raises `NotChanged`."""
    try:
        done = subprocess.run(  # noqa: S603 - from the tables below
            command, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotChanged(f"{command[0]} cannot be run: {type(error).__name__}") from error
    return Said(done.returncode, f"{done.stdout}\n{done.stderr}".strip())


def must(said: Said, command: Sequence[str]) -> None:
    """Raise `NotChanged` unless `command`, which has said that, has done its work."""
    if said.code != 0:
        last = said.text.splitlines()[-1:] or [""]
        raise NotChanged(f"{join(command)} failed with exit code {said.code}: {last[0]}")
