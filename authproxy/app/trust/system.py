"""Which trust stores this system and its user have."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from authproxy.app.trust.anchors import anchors_of
from authproxy.app.trust.keeper import KEPT, NSS_PROGRAM, Keeper, nss_databases, nss_keeper
from authproxy.app.trust.store import Root, Run, TrustStore, run_program

NOT_IN_EVERY_PATH = ("/usr/sbin", "/sbin", "/usr/local/sbin")


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
        found += anchors_of(root, run, program_of)[:1]
    program = program_of(NSS_PROGRAM) if platform != "win32" else None
    if program is not None:
        found += [nss_keeper(each, program, run) for each in nss_databases(home)]
    return found


def is_trusted_by_curl(root: Root) -> bool:
    """Tell whether curl would accept what `root` has signed without being told of it."""
    return any(each.has(root) for each in trust_stores() if each.by_curl)
