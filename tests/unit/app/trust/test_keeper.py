"""Programs that keep certificates: what they are told, and NSS' own on a database of its own."""

import shutil
import subprocess

import pytest

from authproxy.app.trust.keeper import Keeper, nss_keeper
from authproxy.app.trust.store import NotChanged, Said, run_program
from authproxy.app.trust.system import trust_stores
from tests.support.installed import need
from tests.unit.app.trust.programs import FAILS, Programs

DELETES = "delete-certificate -t -Z {sha1}"


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


def test_a_database_in_a_place_with_braces_is_no_template(tmp_path, root, programs):
    nss_keeper(tmp_path / "{x}", "certutil", programs).add(root)
    assert f"sql:{tmp_path}/{{x}}" in programs.ran[0]


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
