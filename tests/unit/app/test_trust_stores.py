"""Trust stores of made-up systems, and the programs of Debian and of NSS on directories of their own."""

import os
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authproxy.app.local_authority import permitted
from authproxy.app.trust_stores import (
    ANCHORS,
    KEPT,
    Anchors,
    Keeper,
    NotChanged,
    Root,
    Said,
    find_program,
    nss_databases,
    nss_keeper,
    run_program,
    trust_stores,
)
from authproxy.net.authority import make_authority
from tests.support.installed import need
from tests.support.systems import needs_owners, needs_scripts

FINE, FAILS = Said(0, ""), Said(1, "first\nno such luck")


def new_root(directory):
    made = make_authority("test", permitted(), lifetime=timedelta(days=9), now=datetime.now(UTC))
    file = directory / f"{made.fingerprint[:8]}.pem"
    file.write_bytes(made.root_pem)
    return Root.of(made.root, file)


@pytest.fixture
def root(tmp_path):
    return new_root(tmp_path)


class Programs:
    """Runs nothing: it remembers what it was to run, and says what it is told to."""

    def __init__(self, *said):
        self.ran = []
        self.said = list(said)
        self.does = lambda _command: None

    def __call__(self, command):
        self.ran.append(list(command))
        self.does(command)
        return self.said.pop(0) if self.said else FINE


def bundles(place):
    """Do what `update-ca-certificates` does."""

    def do(_command):
        place.bundle.write_bytes(
            b"".join(each.read_bytes() for each in sorted(place.directory.glob("*.crt")))
        )

    return do


@pytest.fixture
def programs():
    return Programs()


@pytest.fixture
def anchors(tmp_path, programs):
    """A system like Debian, where somebody else's certificate is trusted."""
    for name in ("anchors", "certs"):
        (tmp_path / name).mkdir()
    place = Anchors(tmp_path / "anchors", "/usr/sbin/update", tmp_path / "certs" / "all.crt", run=programs)
    (place.directory / "company.crt").write_bytes(b"of the company\n")
    programs.does = bundles(place)
    programs.does(())
    return place


# ── a directory, and a program that reads it ─────────────────────────────────────────────────────


def test_a_certificate_is_in_the_bundle_from_when_it_is_added_until_it_is_removed(anchors, root, programs):
    before = anchors.bundle.read_bytes()
    assert not anchors.has(root)
    anchors.add(root)
    assert anchors.has(root)
    [placed] = anchors.directory.glob("authproxy-*")
    assert (placed.name, placed.read_bytes()) == (f"{root.mark}.crt", root.pem)
    anchors.remove(root)
    assert not anchors.has(root)
    assert anchors.bundle.read_bytes() == before
    assert [each.name for each in anchors.directory.iterdir()] == ["company.crt"]
    assert programs.ran == [["/usr/sbin/update"]] * 2


@needs_owners
def test_others_can_read_what_was_placed(anchors, root):
    anchors.add(root)
    [placed] = anchors.directory.glob("authproxy-*")
    assert stat.S_IMODE(placed.stat().st_mode) == 0o644


def test_a_program_that_fails_leaves_the_directory_as_it_was(anchors, root, programs):
    programs.said = [FAILS]
    with pytest.raises(NotChanged, match="/usr/sbin/update failed with exit code 1: no such luck"):
        anchors.add(root)
    assert [each.name for each in anchors.directory.iterdir()] == ["company.crt"]
    assert len(programs.ran) == 2, "so that nothing is left of it in the bundle"
    assert not anchors.has(root)


def test_authorities_of_two_users_do_not_meet(anchors, tmp_path):
    mine, theirs = new_root(tmp_path), new_root(tmp_path)
    anchors.add(mine)
    anchors.add(theirs)
    anchors.remove(mine)
    assert (anchors.has(mine), anchors.has(theirs)) == (False, True)


@needs_owners
def test_who_may_not_write_there_is_told_what_to_run(anchors, root, monkeypatch):
    assert anchors.lack(root, adding=True) is None
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != anchors.bundle.parent)
    placed = anchors.directory / f"{root.mark}.crt"
    assert anchors.lack(root, adding=True) == f"sudo install -m 644 {root.file} {placed} && sudo update"
    assert anchors.lack(root, adding=False) == f"sudo rm -f {placed} && sudo update"


DELETES = "delete-certificate -t -Z {sha1}"


# ── a program that keeps them ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("platform", "program", "adds", "removes"),
    [
        (
            "darwin",
            "security",
            "add-trusted-cert -r trustRoot -p ssl {file}",
            "delete-certificate -t -Z {sha1}",
        ),
        ("win32", "certutil", "-user -addstore -f Root {file}", "-user -delstore Root {sha1}"),
    ],
)
def test_what_is_run_where_a_program_keeps_them(tmp_path, root, programs, platform, program, adds, removes):
    [store] = trust_stores(
        home=tmp_path, run=programs, program_of=lambda name: f"/bin/{name}", platform=platform
    )
    store.add(root)
    store.remove(root)
    wanted = [each.format(file=root.file, sha1=root.sha1).split() for each in (adds, removes)]
    assert programs.ran == [[f"/bin/{program}", *each] for each in wanted]
    assert store.lack(root, adding=True) is None


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (Said(0, "SHA-1 hash: {SHA1}"), True),
        (Said(0, "Cert Hash(sha1): {spaced}"), True),
        (Said(0, "Fingerprint (SHA1):\n {colons}"), True),
        (Said(0, "another one"), False),
        (Said(1, "{SHA1}"), False),
    ],
)
def test_a_keeper_has_it_if_it_shows_it(tmp_path, root, said, found):
    pairs = [root.sha1[at : at + 2] for at in range(0, 40, 2)]
    text = said.text.format(SHA1=root.sha1.upper(), spaced=" ".join(pairs), colons=":".join(pairs).upper())
    store = Keeper("x", "/bin/x", (), (), (), Programs(Said(said.code, text)))
    assert store.has(root) == found


def test_a_keeper_that_refuses_or_is_not_there_is_told(root):
    store = Keeper("x", "/bin/x", ("show",), ("add",), ("remove",), Programs(FAILS, FAILS))
    for deed in (store.add, store.remove):
        with pytest.raises(NotChanged, match="no such luck"):
            deed(root)
    with pytest.raises(NotChanged, match="cannot be run: FileNotFoundError"):
        run_program(["/no/such/program"])
    assert not Keeper("x", "/no/such/program", (), (), ()).has(root)


# ── those of a system ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("row", ANCHORS, ids=lambda row: row[0])
def test_each_distribution_is_known_by_its_directory_and_its_program(tmp_path, row):
    place, program, bundle = row
    (tmp_path / place[1:]).mkdir(parents=True)
    known = {program: f"/usr/sbin/{program}"}
    [store] = trust_stores(root=tmp_path, home=tmp_path, program_of=known.get, platform="linux")
    assert (store.directory, store.program) == (tmp_path / place[1:], f"/usr/sbin/{program}")
    assert store.bundle == tmp_path / bundle[1:]
    assert store.by_curl
    assert trust_stores(root=tmp_path, home=tmp_path, program_of={}.get, platform="linux") == []


def test_where_several_would_do_only_one_is_used(tmp_path):
    for place, _, _ in ANCHORS:
        (tmp_path / place[1:]).mkdir(parents=True)
    found = trust_stores(root=tmp_path, home=tmp_path, program_of=lambda name: f"/x/{name}", platform="linux")
    assert len(found) == 1


def test_the_browsers_databases_of_the_user_are_found_where_there_is_the_program(tmp_path):
    for place in (
        ".pki/nssdb",
        ".mozilla/firefox/a.default",
        "snap/firefox/common/.mozilla/firefox/b",
        ".mozilla/x",
    ):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "cert9.db").touch()
    (tmp_path / ".mozilla/firefox/without").mkdir()
    found = [each.relative_to(tmp_path).as_posix() for each in nss_databases(tmp_path)]
    assert found == [".mozilla/firefox/a.default", ".pki/nssdb", "snap/firefox/common/.mozilla/firefox/b"]
    only = {"certutil": "/usr/bin/certutil"}
    stores = trust_stores(root=tmp_path, home=tmp_path, program_of=only.get, platform="linux")
    assert len(stores) == 3
    assert trust_stores(root=tmp_path, home=tmp_path, program_of={}.get, platform="linux") == []
    windows = trust_stores(root=tmp_path, home=tmp_path, program_of=only.get, platform="win32")
    assert [each.name for each in windows] == [KEPT["win32"].name], "whose certutil is another one"


def test_a_database_in_a_place_with_braces_is_no_template(tmp_path, root, programs):
    nss_keeper(tmp_path / "{x}", "certutil", programs).add(root)
    assert f"sql:{tmp_path}/{{x}}" in programs.ran[0]


# ── the real programs, on directories of their own ───────────────────────────────────────────────


@needs_scripts
def test_debians_own_program_makes_the_bundle_of_it_and_takes_it_out_again(tmp_path, root):
    need("openssl")
    program = find_program("update-ca-certificates")
    if program is None:
        need("update-ca-certificates")
    local, made, nothing, hooks, heard = (
        tmp_path / each for each in ("local", "etc", "nothing", "hooks", "heard")
    )
    for each in (local, made, nothing, hooks):
        each.mkdir()
    (hooks / "java").write_text(f"#!/bin/sh\ncat >> {heard}\n")
    (hooks / "java").chmod(0o755)
    conf = tmp_path / "ca-certificates.conf"
    conf.write_text("# none of the system's own\n")
    options = [
        "--localcertsdir", str(local), "--etccertsdir", str(made), "--hooksdir", str(hooks),
        "--certsconf", str(conf), "--certsdir", str(nothing),
    ]  # fmt: skip

    def run(command):
        assert command[0] == program
        return run_program([program, *options, *command[1:]])

    new_root(tmp_path).file.rename(local / "company.crt")
    store = Anchors(local, program, made / "ca-certificates.crt", conf, run)
    store.add(root)
    assert store.has(root)
    verify = ["openssl", "verify", "-CApath", str(made), str(root.file)]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    store.remove(root)
    assert not store.has(root)
    assert subprocess.run(verify, capture_output=True, check=False).returncode != 0
    assert [each.name for each in local.iterdir()] == ["company.crt"]
    assert {each.name for each in made.iterdir() if each.is_symlink()} >= {"company.pem"}
    assert not [each for each in made.iterdir() if "authproxy" in each.name or not each.exists()]
    assert heard.read_text().splitlines()[-1] == f"-{made}/{root.mark}.pem", "so that Java's copy goes too"


def test_the_program_of_nss_takes_it_and_takes_it_out_again(tmp_path, root):
    need("certutil")
    database = tmp_path / "nssdb"
    database.mkdir()
    program = shutil.which("certutil")
    subprocess.run([program, "-N", "-d", f"sql:{database}", "--empty-password"], check=True)
    store = nss_keeper(database, program)
    assert not store.has(root)
    store.add(root)
    assert store.has(root)
    store.remove(root)
    assert not store.has(root)
