"""Trust stores that a program keeps: a keychain, the store of Windows, the databases of browsers (NSS)."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from authproxy.app.trust.store import NotChanged, Root, Run, must, run_program

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
        must(self.run(command), command)

    def remove(self, root: Root) -> None:
        command = self._command(self.removes, root)
        must(self.run(command), command)

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


def nss_databases(home: Path | None = None) -> list[Path]:
    """Return the directories of the user's browsers that have such a database."""
    return sorted(_nss_databases(home))


def _nss_databases(home: Path | None) -> Iterator[Path]:
    with contextlib.suppress(OSError, RuntimeError):  # there is no home
        start = home or Path.home()
        for pattern in NSS_DIRECTORIES:
            yield from (each for each in start.glob(pattern) if (each / NSS).is_file())
