"""Trust stores that are a directory of certificates, of which a program makes what others read."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join

from authproxy.app.trust.store import NotChanged, Root, Run, must, run_program

OTHERS_READ = 0o644

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
        must(self.run(command), command)

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


def anchors_of(root: Path, run: Run, program_of: Callable[[str], str | None]) -> list[Anchors]:
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
