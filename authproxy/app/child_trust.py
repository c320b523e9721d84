"""Which certificates a program trusts, by its environment: the variables with a file of roots, and those files.

    adds        to the roots that are built in: a file with ours, and what the variable named before
    replaces    them: a file with ours, and what would have been read without us

A program takes each file for its own, so what was configured before stays trusted, and nothing more. What a
tool has in settings of its own (.npmrc, .gitconfig, pip.conf) is not looked at. docs/exec.md has the tables,
with where each tool says so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from authproxy import logs

ADDS = ("NODE_EXTRA_CA_CERTS",)

REPLACES: Mapping[str, tuple[str, ...]] = {
    "SSL_CERT_FILE": (),
    "CURL_CA_BUNDLE": (),
    "REQUESTS_CA_BUNDLE": ("CURL_CA_BUNDLE",),
    "PIP_CERT": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "AWS_CA_BUNDLE": ("REQUESTS_CA_BUNDLE",),
    "GIT_SSL_CAINFO": (),
    "HTTPLIB2_CA_CERTS": (),
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": (),
    "DENO_CERT": (),
    "CARGO_HTTP_CAINFO": (),
    "NIX_SSL_CERT_FILE": (),
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": (),
    "PERL_LWP_SSL_CA_FILE": (),
}
"""Each with those that its reader turns to where it is not set."""

REPLACES_WHERE_SET = (
    "npm_config_cafile", "NPM_CONFIG_CAFILE", "YARN_HTTPS_CA_FILE_PATH", "BUNDLE_SSL_CA_CERT", "COMPOSER_CAFILE",
    "HEX_CACERTS_PATH", "JULIA_SSL_CA_ROOTS_PATH", "WEBSOCKET_CLIENT_CA_BUNDLE",
)  # fmt: skip
"""Those whose readers, where they are not set, go by one of the others."""

UNSET = "SSL_CERT_DIR"  # what is in there is in the bundle

_CERTIFICATE = re.compile(
    rb"-----BEGIN (?P<kind>(?:X509 |TRUSTED )?CERTIFICATE)-----.*?-----END (?P=kind)-----", re.DOTALL
)
_PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class OurRoots:
    """The certificates of our own authority, `pem`; `file` has them alone, `bundle` with the configured ones."""

    pem: bytes = field(repr=False)
    file: Path
    bundle: Path


def trust_variables(ours: OurRoots, directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which a program trusts us besides what it trusts by `environ`.

    Files that are yet to be made are made in `directory`, 0600. Raises OSError where that cannot be done.
    """
    files = _Files(ours, directory)
    found = {name: files.with_ours(name, environ.get(name), ours.file) for name in ADDS}
    for name, others in REPLACES.items():
        source = next((environ[each] for each in (name, *others) if environ.get(each)), None)
        # What SSL_CERT_FILE and SSL_CERT_DIR name is in the bundle, as it is for all to whom nothing else is said.
        found[name] = files.with_ours(name, None if name == "SSL_CERT_FILE" else source, ours.bundle)
    for name in REPLACES_WHERE_SET:
        if environ.get(name):
            found[name] = files.with_ours(name, environ[name], ours.bundle)
    return found


class _Files:
    """Makes files of our roots and of others, each once."""

    def __init__(self, ours: OurRoots, directory: Path) -> None:
        self._ours = ours
        self._directory = directory
        self._made: dict[str, Path] = {}

    def with_ours(self, variable: str, source: str | None, otherwise: Path) -> str:
        """Return a file with our roots and those in `source`, which `variable` names, if that is anything."""
        if not source:
            return str(otherwise)
        if source not in self._made:
            roots = certificates_at(Path(source))
            if not roots:
                logs.warning(
                    "a file of roots that a variable names cannot be used, and ours stand alone in its place",
                    variable=variable,
                )
            path = self._directory / f"roots-{len(self._made) + 1}.pem"
            write_private(path, self._ours.pem.rstrip(b"\n") + b"\n" + roots)
            self._made[source] = path
        return str(self._made[source])


def certificates_at(path: Path) -> bytes:
    """Return the certificates, PEM, of a file or of all files in a directory; b"" where there are none."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError:
        return b""
    return b"".join(map(_certificates_of, files))


def _certificates_of(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    return b"".join(certificates_in(content))


def certificates_in(pem: bytes) -> list[bytes]:
    """Return each certificate, PEM; whatever else there is, such as a key, is left out."""
    return [found[0] + b"\n" for found in _CERTIFICATE.finditer(pem)]


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that nobody else can read. Raises OSError."""
    path.touch(_PRIVATE, exist_ok=False)
    path.write_bytes(content)
