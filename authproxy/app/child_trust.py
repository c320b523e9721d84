"""Whom a program trusts, by its environment: the variables that name a file of roots, and those files.

    adds        to the roots that are built in: a file with ours, and what the variable named before
    replaces    them: a file with ours, and what would have been read without us

A program takes each file for its own, so what was configured before stays trusted, and nothing more. What a
tool has in settings of its own (.npmrc, .gitconfig, pip.conf) is not looked at. docs/exec.md has the tables,
with where each tool says so.
"""

from collections.abc import Mapping
from pathlib import Path

from authproxy import logs
from authproxy.app.forward_authority import ForwardAuthority
from authproxy.net.bundle import composed

ADDS = ("NODE_EXTRA_CA_CERTS",)

REPLACES: Mapping[str, tuple[str, ...]] = {
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
"""Each with those that its reader turns to where it is not set; SSL_CERT_FILE is one of them too."""

REPLACES_WHERE_SET = (
    "npm_config_cafile", "NPM_CONFIG_CAFILE", "YARN_HTTPS_CA_FILE_PATH", "BUNDLE_SSL_CA_CERT",
    "COMPOSER_CAFILE", "HEX_CACERTS_PATH", "JULIA_SSL_CA_ROOTS_PATH", "WEBSOCKET_CLIENT_CA_BUNDLE",
)  # fmt: skip
"""Those whose readers, where they are not set, go by one of the others."""


BUNDLE = "SSL_CERT_FILE"


def trust_variables(authority: ForwardAuthority, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which a program trusts `authority` besides what it trusts by `environ`.

    Files that are yet to be made are made beside those that `authority` has published. Raises `StoreError`.
    """
    if authority.bundle_file.read_bytes() == composed(authority.root_pem):
        logs.warning(
            "there are no roots on this machine: the program will trust no server but the routes' own",
            hint="name a file of them in SSL_CERT_FILE",
        )
    if (named := environ.get(BUNDLE)) and not composed(b"", named):
        logs.warning(
            "no roots can be read from what a variable names: the bundle has the system's in their place",
            variable=BUNDLE,
            file=named,
        )
    files = _Files(authority)
    found = {name: files.with_ours(name, environ.get(name), authority.cert_file) for name in ADDS}
    for name, others in REPLACES.items():
        source = next((environ[each] for each in (name, *others) if environ.get(each)), None)
        found[name] = files.with_ours(name, source, authority.bundle_file)
    for name in REPLACES_WHERE_SET:
        if environ.get(name):
            found[name] = files.with_ours(name, environ[name], authority.bundle_file)
    # What it names, and SSL_CERT_DIR besides, is in the bundle already, for all to whom nothing else is said.
    found[BUNDLE] = str(authority.bundle_file)
    files.publish()
    return found


class _Files:
    """Makes files of the authority's roots and of others, each once."""

    def __init__(self, authority: ForwardAuthority) -> None:
        self._authority = authority
        self._names: dict[str, str] = {}
        self._contents: dict[str, bytes] = {}

    def with_ours(self, variable: str, source: str | None, otherwise: Path) -> str:
        """Return a file with our roots and those at `source`, which `variable` names, if that is anything."""
        if not source:
            return str(otherwise)
        if source not in self._names:
            name = self._names[source] = f"roots-{len(self._names) + 1}.pem"
            roots = composed(b"", source)
            if not roots:
                logs.warning(
                    "no roots can be read from what a variable names: only authproxy's CA is in its place",
                    variable=variable,
                    file=source,
                )
            self._contents[name] = composed(self._authority.root_pem + roots)
        return str(self._authority.bundle_file.with_name(self._names[source]))

    def publish(self) -> None:
        """Put the files in their places. Raises `StoreError`."""
        self._authority.files.stage(self._contents)
        self._authority.files.publish()
