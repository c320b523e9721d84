"""`authproxy trust`: the local authority of `tls: auto`, and whether this machine's programs trust it.

Nothing else changes a trust store, and this asks before.
"""

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from authproxy import logs
from authproxy.app.local_authority import ENDS_SOON, LocalAuthority, default_directory
from authproxy.app.trust.keeper import NO_NSS_PROGRAM, NSS_PROGRAM, nss_databases
from authproxy.app.trust.store import NotChanged, Root, TrustStore
from authproxy.app.trust.system import find_program, trust_stores
from authproxy.cli.options import config_option, json_option, print_json
from authproxy.errors import AuthproxyError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

NONE_YET = "there is no local authority yet"
HOW_TO_MAKE = "`tls: auto` makes it at the first `authproxy run`, and so does `authproxy trust --install`"
NO_STORE = "no trust store that this system has is known"
TO_BE_ALLOWED = "this takes more rights; nothing was changed. Run this, and then the same as now once more:"


@click.command()
@click.option("--print", "prints", is_flag=True, help="Print its certificate (PEM).")
@click.option("--install", "installs", is_flag=True, help="Put it into the trust stores, after asking.")
@click.option("--remove", "removes", is_flag=True, help="Take it out of the trust stores, after asking.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def trust(
    *,
    prints: bool,
    installs: bool,
    removes: bool,
    yes: bool,
    config_file: str | None,  # noqa: ARG001 - every verb takes -c, and the authority is one for all of a user's
    as_json: bool,
) -> None:
    """Show the local authority that signs for `tls: auto`, and which trust stores have it.

    It signs for localhost, names below .localhost and loopback addresses alone. --install puts it into the
    system's trust store, and into the databases of Firefox and Chromium; --remove undoes that.
    """
    if prints + installs + removes + as_json > 1:
        raise click.UsageError("--print, --install, --remove and --json cannot be used together")
    if yes and not installs and not removes:
        raise click.UsageError("--yes goes with --install or --remove")
    logs.set_up("warning", "text")
    kept = LocalAuthority(default_directory())
    if installs:
        _install(kept, yes=yes)
    elif removes:
        _remove(kept, yes=yes)
    elif prints:
        click.echo(_first(kept).pem.decode(), nl=False)
    elif as_json:
        print_json(_document(kept))
    else:
        _show(kept)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def _first(kept: LocalAuthority) -> Root:
    """Return the certificate that is at work. Raises `AuthproxyError`."""
    if not (found := kept.roots()):
        raise AuthproxyError(NONE_YET, hint=HOW_TO_MAKE)
    return Root.of(found[0], kept.public)


def _document(kept: LocalAuthority) -> dict[str, Any] | None:
    """Return what `--json` prints; None where there is no authority."""
    from authproxy.net.authority import fingerprint_of, permitted_by

    if not (found := kept.roots()):
        return None
    certificate, root = found[0], Root.of(found[0], kept.public)
    permits = permitted_by(certificate)
    stores = [{"name": each.name, "installed": each.has(root)} for each in trust_stores()]
    return {
        "subject": certificate.subject.rfc4514_string(),
        "sha256": fingerprint_of(certificate),
        "not_before": _moment(certificate.not_valid_before_utc),
        "not_after": _moment(certificate.not_valid_after_utc),
        "permitted": {"names": list(permits.names), "addresses": [str(each) for each in permits.networks]},
        "file": str(kept.public),
        "installed": any(each["installed"] for each in stores),
        "stores": stores,
    }


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _show(kept: LocalAuthority) -> None:
    document = _document(kept)
    if document is None:
        click.echo(f"{NONE_YET}: {HOW_TO_MAKE}")
        return
    for line in _lines(kept.roots()[0], document):
        click.echo(line)
    if find_program(NSS_PROGRAM) is None and nss_databases():
        click.echo(NO_NSS_PROGRAM, err=True)


def _lines(certificate: "Certificate", document: dict[str, Any]) -> Iterator[str]:
    permits, digits = document["permitted"], document["sha256"]
    left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    names = [f"{each} and names below it" for each in permits["names"]]
    pairs = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    yield f"authority  {document['subject']}"
    yield f"SHA-256    {pairs.upper()}"
    yield f"valid      {document['not_before'][:10]} to {document['not_after'][:10]} ({left} days left)"
    yield f"permits    {', '.join([*names, *permits['addresses']])}"
    yield f"file       {document['file']}"
    for each in document["stores"]:
        yield f"{'installed' if each['installed'] else 'not in':9}  {each['name']}"


# ── changing ─────────────────────────────────────────────────────────────────────────────────────


def _install(kept: LocalAuthority, *, yes: bool) -> None:
    """Put the authority into every store that has not got it, and take those out that it has followed."""
    kept.get(lasts=ENDS_SOON)
    root, *former = [Root.of(each, kept.public) for each in kept.roots()]
    stores = trust_stores()
    if not stores:
        raise AuthproxyError(NO_STORE, hint=f"have clients trust {kept.public}")
    wanted = [each for each in stores if not each.has(root)]
    old = [(each, known) for each in stores for known in former if each.has(known)]
    if not wanted and not old:
        click.echo(f"already installed: {', '.join(each.name for each in stores)}")
        return
    _allowed([(each, root) for each in wanted], adding=True)
    _allowed(old, adding=False)
    _ask("Have these trust the local authority, for names of this machine alone?", wanted or stores, yes=yes)
    _add(wanted, root)
    for store, known in old:
        store.remove(known)
    for store in wanted:
        click.echo(f"installed: {store.name}")


def _add(stores: Sequence[TrustStore], root: Root) -> None:
    """Add `root` to all of `stores` or to none. Raises `NotChanged`."""
    added: list[TrustStore] = []
    try:
        for store in stores:
            store.add(root)
            added.append(store)
            _see(store, root)
    except NotChanged:
        for store in added:
            store.remove(root)
        raise


def _see(store: TrustStore, root: Root) -> None:
    """Raise `NotChanged` unless `store` has `root`."""
    if not store.has(root):
        raise NotChanged(f"{store.name} did not take the certificate, and does not say why")


def _remove(kept: LocalAuthority, *, yes: bool) -> None:
    """Take the authority, and those that it has followed, out of every store."""
    roots = [Root.of(each, kept.public) for each in kept.roots()]
    found = [(each, root) for each in trust_stores() for root in roots if each.has(root)]
    if not found:
        click.echo("not installed anywhere: there is nothing to remove")
        return
    _allowed(found, adding=False)
    stores = list(dict.fromkeys(store for store, _ in found))
    _ask("Have these trust the local authority no more?", stores, yes=yes)
    for store, root in found:
        store.remove(root)
    for store in stores:
        click.echo(f"removed: {store.name}")


def _allowed(changes: Sequence[tuple[TrustStore, Root]], *, adding: bool) -> None:
    """See that we may make all of `changes`; else say what to run instead, and end."""
    lacks = [lack for store, root in changes if (lack := store.lack(root, adding=adding)) is not None]
    if lacks:
        click.echo(f"authproxy: {TO_BE_ALLOWED}", err=True)
        for each in dict.fromkeys(lacks):
            click.echo(f"  {each}", err=True)
        raise click.exceptions.Exit(1)


def is_asked() -> bool:
    """Tell whether somebody sits before stdin."""
    return sys.stdin is not None and sys.stdin.isatty()


def _ask(question: str, stores: Sequence[TrustStore], *, yes: bool) -> None:
    """Have a person say yes. Raises `AuthproxyError` where there is none, `click.Abort` for a no."""
    if yes:
        return
    if not is_asked():
        raise AuthproxyError("nobody can be asked: stdin is no terminal", hint="say so with --yes")
    for each in stores:
        click.echo(f"  {each.name}", err=True)
    if not click.confirm(question, default=False, err=True):
        click.echo("nothing was changed", err=True)
        raise click.exceptions.Exit(1)
