"""Bundles of certificates: files with all that somebody trusts, for programs that are told one file.

Nothing is judged here: what a file or a directory has is taken over as it is, each certificate once.
"""

import base64
import binascii
import os
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

_BLOCK = re.compile(
    rb"-----BEGIN ((?:TRUSTED |X509 )?CERTIFICATE)-----\s+([A-Za-z0-9+/=\s]+?)-----END \1-----"
)


def composed(roots: bytes, *places: str | Path) -> bytes:
    """Return a bundle, PEM, of `roots` and of what each of `places`, a file or a directory, has.

    A place that is not there, or cannot be read, has none.
    """
    found = {_der(body): block for block, body in _blocks(roots)}
    for path in _files(places):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        for block, body in _blocks(content):
            found.setdefault(_der(body), block)
    found.pop(b"", None)
    return b"".join(block + b"\n" for block in found.values())


def configured_places(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return where OpenSSL, and so most programs, look for roots: by `environ`, or as they were built."""
    paths = ssl.get_default_verify_paths()
    file = environ.get(paths.openssl_cafile_env) or paths.openssl_cafile
    directories = environ.get(paths.openssl_capath_env) or paths.openssl_capath
    return [file, *filter(None, directories.split(os.pathsep))]


def configured_roots(environ: Mapping[str, str] = os.environ) -> bytes:
    """Return what is trusted without us, PEM: what OpenSSL finds, else what the system's own store has.

    Where there is neither, as in a bare container, what the package certifi has, if it is installed.
    """
    if found := composed(b"", *configured_places(environ)):
        return found
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    found = "".join(map(ssl.DER_cert_to_PEM_cert, context.get_ca_certs(binary_form=True))).encode()
    return found or _packaged_roots()


def _packaged_roots() -> bytes:
    try:
        return composed(b"", import_module("certifi").where())
    except ImportError:
        return b""


def _blocks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each certificate in `content` as it stands there, and the inside of it."""
    for match in _BLOCK.finditer(content):
        yield match[0], match[2]


def _der(body: bytes) -> bytes:
    """Return what tells one certificate from another; nothing for what is none."""
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return b""


def _files(places: Iterable[str | Path]) -> Iterator[Path]:
    """Yield the files that `places` are, or that are in them; what is no regular file may never end."""
    for place in map(Path, places):
        try:
            found = sorted(place.iterdir()) if place.is_dir() else [place]
            yield from filter(Path.is_file, found)
        except OSError:
            continue
