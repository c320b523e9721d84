"""Where systems keep whom they trust, and how a certificate gets in and out again: for `trust` alone.

    Anchors     a directory of certificates, of which a program of the distribution makes what others read
    Keeper      a program that keeps them: a keychain, the store of Windows, the databases of browsers (NSS)

How they differ stands in tables. No shell is used, and what fails leaves a store as it was.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Protocol

from authproxy.errors import AuthproxyError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

SECONDS = 120.0  # for a program, which may have its user confirm
NOT_IN_EVERY_PATH = ("/usr/sbin", "/sbin", "/usr/local/sbin")
OTHERS_READ = 0o644


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


def _must(said: Said, command: Sequence[str]) -> None:
    if said.code != 0:
        last = said.text.splitlines()[-1:] or [""]
        raise NotChanged(f"{join(command)} failed with exit code {said.code}: {last[0]}")


# ── a directory, and a program that reads it ─────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Anchors:
    """Certificates in `directory`; `program` makes `bundle` of them, which other programs read.

    `deselects` is the file in which the program of Debian has those that it is to leave out, each with a `!`.
    """

    directory: Path
    program: str
    bundle: Path
    deselects: Path | None = None
    run: Run = field(default=run_program, repr=False)
    by_curl: bool = True

    @property
    def name(self) -> str:
        return f"the system's trust store ({self.directory})"

    def has(self, root: Root) -> bool:
        try:
            return root.pem.strip() in self.bundle.read_bytes()
        except OSError:
            return False

    def lack(self, root: Root, *, adding: bool) -> str | None:
        if all(os.access(each, os.W_OK) for each in (self.directory, self.bundle.parent)):
            return None
        placed = str(self._placed(root))
        program = Path(self.program).name
        if adding:
            return f"sudo {join(['install', '-m', '644', str(root.file), placed])} && sudo {program}"
        return f"sudo {join(['rm', '-f', placed])} && sudo {program}{' --fresh' if self.deselects else ''}"

    def add(self, root: Root) -> None:
        placed = self._placed(root)
        try:
            _replace(placed, root.pem)
        except OSError as error:
            raise NotChanged(f"{placed} cannot be written: {error.strerror}") from error
        try:
            self._refresh()
        except NotChanged:
            placed.unlink(missing_ok=True)
            with contextlib.suppress(NotChanged):
                self._refresh()
            raise

    def remove(self, root: Root) -> None:
        placed = self._placed(root)
        try:
            placed.unlink(missing_ok=True)
        except OSError as error:
            raise NotChanged(f"{placed} cannot be removed: {error.strerror}") from error
        if not self._deselected(placed.name):
            self._refresh()

    def _deselected(self, name: str) -> bool:
        """Have Debian's program forget `name`, in a list of its own; tell whether it did.

        Of a file that is merely gone it tells nobody: links to it would stay, and so would Java's copy.
        """
        if self.deselects is None or not self.deselects.is_file():
            return False
        with tempfile.TemporaryDirectory(prefix="authproxy-") as made:
            listed = Path(made, "ca-certificates.conf")
            listed.write_bytes(self.deselects.read_bytes() + f"\n!{name}\n".encode())
            return self.run([self.program, "--certsconf", str(listed)]).code == 0

    def _refresh(self) -> None:
        command = [self.program]
        _must(self.run(command), command)

    def _placed(self, root: Root) -> Path:
        return self.directory / f"{root.mark}.crt"


def _replace(path: Path, content: bytes) -> None:
    """Write `path` whole or not at all. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(content)
        new.chmod(OTHERS_READ)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


DEBIAN = (  # and Alpine
    "/usr/local/share/ca-certificates", "update-ca-certificates", "/etc/ssl/certs/ca-certificates.crt",
)  # fmt: skip
DESELECTS = "etc/ca-certificates.conf"
ANCHORS = (
    # directory, program, what it makes; the first one of which there are the directory and the program counts
    ("/etc/pki/trust/anchors", "update-ca-certificates", "/var/lib/ca-certificates/ca-bundle.pem"),  # SUSE
    (  # Fedora, RHEL
        "/etc/pki/ca-trust/source/anchors", "update-ca-trust",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ),
    (  # Arch
        "/etc/ca-certificates/trust-source/anchors", "update-ca-trust",
        "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    ),
    DEBIAN,
)  # fmt: skip


# ── a program that keeps them ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Keeper:
    """A store that `program` keeps. {file}, {sha1} and {mark} in its arguments are the root's."""

    name: str
    program: str
    shows: tuple[str, ...]
    """Prints the certificate's SHA-1, or fails."""
    adds: tuple[str, ...]
    removes: tuple[str, ...]
    run: Run = field(default=run_program, repr=False)
    by_curl: bool = False

    def has(self, root: Root) -> bool:
        try:
            said = self.run(self._command(self.shows, root))
        except NotChanged:
            return False
        return said.code == 0 and root.sha1 in said.text.replace(":", "").replace(" ", "").lower()

    def lack(self, root: Root, *, adding: bool) -> str | None:  # noqa: ARG002 - it is the user's own
        return None

    def add(self, root: Root) -> None:
        command = self._command(self.adds, root)
        _must(self.run(command), command)

    def remove(self, root: Root) -> None:
        command = self._command(self.removes, root)
        _must(self.run(command), command)

    def _command(self, arguments: tuple[str, ...], root: Root) -> list[str]:
        values = {"file": root.file, "sha1": root.sha1, "mark": root.mark}
        return [self.program, *(each.format_map(values) if "{" in each else each for each in arguments)]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a keeper is made of, on the systems that have its program."""

    name: str
    program: str
    shows: tuple[str, ...]
    adds: tuple[str, ...]
    removes: tuple[str, ...]
    by_curl: bool = False


KEPT = {
    "darwin": Kept(
        "the login keychain",
        "security",
        ("find-certificate", "-a", "-Z"),
        ("add-trusted-cert", "-r", "trustRoot", "-p", "ssl", "{file}"),
        ("delete-certificate", "-t", "-Z", "{sha1}"),
    ),
    "win32": Kept(
        "the user's store of Windows",
        "certutil",
        ("-user", "-store", "Root", "{sha1}"),
        ("-user", "-addstore", "-f", "Root", "{file}"),
        ("-user", "-delstore", "Root", "{sha1}"),
        by_curl=True,
    ),
}
"""By `sys.platform`."""

NSS = "cert9.db"
NSS_DIRECTORIES = (
    ".pki/nssdb", "snap/chromium/current/.pki/nssdb",  # Chromium
    ".mozilla/firefox/*", "snap/firefox/common/.mozilla/firefox/*",
    "Library/Application Support/Firefox/Profiles/*",
)  # fmt: skip
NSS_PROGRAM = "certutil"  # of Mozilla's; Windows has another one of that name
NO_NSS_PROGRAM = (
    "Firefox and Chromium have databases of their own, which certutil changes: it is not installed "
    "(libnss3-tools, nss-tools or nss); import the file there by hand, or install it"
)


def nss_keeper(database: Path, program: str, run: Run = run_program) -> Keeper:
    """Return the database of a browser that lies in the directory `database`."""
    at = ("-d", f"sql:{str(database).replace('{', '{{').replace('}', '}}')}", "-n", "{mark}")
    return Keeper(
        f"the browsers' database in {database}",
        program,
        ("-L", *at),
        ("-A", *at, "-t", "C,,", "-i", "{file}"),
        ("-D", *at),
        run,
    )


# ── those of this system ─────────────────────────────────────────────────────────────────────────


def find_program(name: str) -> str | None:
    """Return the path of a program, also where not everybody looks for it."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(NOT_IN_EVERY_PATH))


def trust_stores(
    *,
    root: Path = Path("/"),
    home: Path | None = None,
    run: Run = run_program,
    program_of: Callable[[str], str | None] = find_program,
    platform: str = sys.platform,
) -> list[TrustStore]:
    """Return the trust stores of this system and of its user; `root` is where its files begin."""
    found: list[TrustStore] = []
    if (kept := KEPT.get(platform)) is not None:
        if (program := program_of(kept.program)) is not None:
            found.append(
                Keeper(kept.name, program, kept.shows, kept.adds, kept.removes, run, by_curl=kept.by_curl)
            )
    else:
        found += _anchors(root, run, program_of)[:1]
    program = program_of(NSS_PROGRAM) if platform != "win32" else None
    if program is not None:
        found += [nss_keeper(each, program, run) for each in nss_databases(home)]
    return found


def _anchors(root: Path, run: Run, program_of: Callable[[str], str | None]) -> list[Anchors]:
    """Return the stores for all programs of which this system has what they take."""
    known = ((root / place.lstrip("/"), name, root / made.lstrip("/")) for place, name, made in ANCHORS)
    there = ((place, program_of(name), made) for place, name, made in known if place.is_dir())
    return [
        Anchors(
            place, program, made, root / DESELECTS if place == root / DEBIAN[0].lstrip("/") else None, run
        )
        for place, program, made in there
        if program is not None
    ]


def nss_databases(home: Path | None = None) -> list[Path]:
    """Return the directories of the user's browsers that have such a database."""
    return sorted(_nss_databases(home))


def _nss_databases(home: Path | None) -> Iterator[Path]:
    with contextlib.suppress(OSError, RuntimeError):  # there is no home
        start = home or Path.home()
        for pattern in NSS_DIRECTORIES:
            yield from (each for each in start.glob(pattern) if (each / NSS).is_file())


def is_trusted_by_curl(root: Root) -> bool:
    """Tell whether curl would accept what `root` has signed without being told of it."""
    return any(each.has(root) for each in trust_stores() if each.by_curl)
