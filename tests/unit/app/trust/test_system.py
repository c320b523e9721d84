"""Which trust stores a system has, and its user."""

import pytest

from authproxy.app.trust import system
from authproxy.app.trust.anchors import ANCHORS
from authproxy.app.trust.keeper import KEPT, nss_databases
from authproxy.app.trust.system import is_trusted_by_curl, trust_stores


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


@pytest.mark.parametrize(
    ("by_curl", "has", "trusted"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_curl_trusts_what_is_in_a_store_that_it_reads(monkeypatch, root, by_curl, has, trusted):
    class Store:
        def has(self, _root):
            return has

    Store.by_curl = by_curl
    monkeypatch.setattr(system, "trust_stores", lambda: [Store()])
    assert is_trusted_by_curl(root) == trusted
