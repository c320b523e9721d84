"""Directories of certificates: a made-up one, and Debian's own program on directories of its own."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from authproxy.app.trust.anchors import Anchors
from authproxy.app.trust.store import NotChanged, run_program
from authproxy.app.trust.system import find_program
from tests.support.installed import need
from tests.support.systems import needs_owners, needs_scripts
from tests.unit.app.trust.programs import FAILS, new_root


def bundles(place):
    """Do what `update-ca-certificates` does."""

    def do(_command):
        place.bundle.write_bytes(
            b"".join(each.read_bytes() for each in sorted(place.directory.glob("*.crt")))
        )

    return do


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
