"""Where the local authority is kept, who makes it, and what follows it."""

import re
import stat
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta

import pytest

from authproxy.app import local_authority
from authproxy.app.local_authority import (
    ENDS_SOON,
    HINT,
    LocalAuthority,
    default_directory,
    permitted,
    public_file,
)
from authproxy.capabilities import Capability
from authproxy.errors import StoreError
from authproxy.net.authority import fingerprint_of, make_authority, permitted_by
from tests.support.clock import Clock
from tests.support.systems import needs_owners

YEAR, DAY = timedelta(days=365), timedelta(days=1)


class Keyring:
    """A keyring that works, until it is told not to."""

    def __init__(self):
        self.kept = {}
        self.asked = 0
        self.locked = False

    def get_password(self, service, username):
        self.asked += 1
        return None if self.locked else self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keep(tmp_path, clock):
    """Return a maker of what a process has of the authority."""

    def make(keyring=None, directory=tmp_path / "authority"):
        return LocalAuthority(directory, keyring=lambda: keyring, clock=clock)

    return make


def events(caplog):
    return [(each.levelname, each.getMessage()) for each in caplog.records]


def test_it_is_made_once_and_found_from_then_on(keep, caplog):
    caplog.set_level("INFO")
    made = keep().get()
    assert [keep().get().root, keep().find().root] == [made.root] * 2
    assert events(caplog) == [("INFO", "a local authority was made: clients have to trust it, once")]
    assert caplog.records[0].facts["hint"] == "authproxy trust --install"
    assert caplog.records[0].facts["sha256"] == fingerprint_of(made.root)
    assert permitted_by(made.issuer) == permitted()
    assert made.root.not_valid_after_utc - keep().now() == YEAR


def test_looking_makes_nothing(keep, tmp_path):
    assert keep().find() is None
    assert keep().roots() == []
    assert list(tmp_path.iterdir()) == []


@needs_owners
def test_all_files_are_their_owners_alone_and_the_only_key_is_the_issuers_encrypted(keep):
    kept = keep()
    made = kept.get()
    files = {each.name: each for each in kept.directory.iterdir()}
    assert set(files) == {"authority.key", "authority.pem", "ca.pem", "lock"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in files.values()} == {0o600}
    assert stat.S_IMODE(kept.directory.stat().st_mode) == 0o700
    assert files["ca.pem"].read_bytes() == made.root_pem
    keys = [each for file in files.values() for each in re.findall(r"BEGIN ([A-Z ]*KEY)", file.read_text())]
    assert keys == ["ENCRYPTED PRIVATE KEY"]
    assert made.key.public_key() == made.issuer.public_key(), "so it is not the root's"


def test_with_a_keyring_what_opens_the_key_is_there_alone_and_asked_for_once(keep):
    keyring = Keyring()
    kept = keep(keyring)
    made = kept.get()
    assert (kept.directory / "authority.key").read_text().startswith("keyring local authority ")
    other = keep(keyring)
    before = keyring.asked
    assert [other.get().root for _ in range(3)] == [made.root] * 3
    assert keyring.asked - before == 1


def test_a_keyring_that_does_not_answer_is_told_and_costs_nobody_the_authority(keep):
    keyring = Keyring()
    made = keep(keyring).get()
    keyring.locked = True
    with pytest.raises(StoreError) as caught:
        keep(keyring).get()
    assert caught.value.detail == "the local authority's key is in the keyring, which did not return it"
    assert "unlock the keyring" in caught.value.hint
    assert "tokens" not in caught.value.hint
    keyring.locked = False
    assert keep(keyring).get().root == made.root


def test_another_one_follows_well_before_its_end(keep, clock, caplog):
    kept = keep()
    first = kept.get()
    clock.advance((YEAR - timedelta(days=15)).total_seconds())
    assert kept.get() is first
    clock.advance(2 * DAY.total_seconds())
    second = kept.get()
    assert second.root != first.root
    assert keep().get().root == second.root
    assert kept.public.read_bytes() == second.root_pem
    assert kept.roots() == [second.root, first.root]
    assert events(caplog)[-1] == (
        "WARNING", "another local authority was made: clients refuse it until they trust it as well",
    )  # fmt: skip


def test_who_wants_it_to_last_longer_gets_another_one_sooner(keep, clock):
    kept = keep()
    first = kept.get()
    clock.advance((YEAR - timedelta(days=30)).total_seconds())
    assert kept.get().root == first.root
    assert kept.get(lasts=ENDS_SOON).root != first.root


def test_what_another_process_has_made_is_noticed(keep, clock):
    mine, other = keep(), keep()
    first = mine.get()
    clock.advance((YEAR - DAY).total_seconds())
    second = other.get()
    assert second.root != first.root
    assert mine.get().root == mine.find().root == second.root


@pytest.mark.parametrize("name", ["authority.pem", "authority.key"])
def test_what_cannot_be_read_is_put_aside_and_followed(keep, name, caplog):
    kept = keep()
    first = kept.get()
    file = kept.directory / name
    file.write_bytes(b"garbage")
    second = keep().get()
    assert second.root != first.root
    assert (kept.directory / f"{name}.garbage").read_bytes() == b"garbage"
    assert kept.roots() == [second.root, first.root]
    assert any("unreadable" in said for _, said in events(caplog))


def test_a_key_that_is_gone_costs_the_authority(keep):
    kept = keep()
    first = kept.get()
    (kept.directory / "authority.key").unlink()
    assert keep().find() is None
    assert keep().get().root != first.root


def test_the_certificate_for_clients_is_put_back(keep):
    kept = keep()
    made = kept.get()
    kept.public.unlink()
    kept.get()
    assert kept.public.read_bytes() == made.root_pem
    kept.public.write_bytes(make_authority("x", permitted(), lifetime=YEAR, now=kept.now()).root_pem)
    kept.get()
    assert kept.public.read_bytes() == made.root_pem


RACE = """
import sys
from pathlib import Path
from authproxy.app.local_authority import LocalAuthority
sys.stdin.readline()
print(LocalAuthority(Path(sys.argv[1]), keyring=lambda: None).get().fingerprint)
"""


def test_many_processes_that_start_at_once_end_with_one(tmp_path):
    place = tmp_path / "authority"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for each in racers:
        each.stdin.write("go\n")
        each.stdin.flush()
    found = {each.communicate(timeout=60)[0].strip() for each in racers}
    assert len(found) == 1
    assert re.fullmatch(r"[0-9a-f]{64}", found.pop())
    assert not (place / "former.pem").exists()


def test_who_has_waited_for_the_lock_takes_what_another_has_made_meanwhile(keep, monkeypatch):
    kept, made = keep(), []
    exclusive = local_authority.disk.exclusive

    @contextmanager
    def after_another(*args, **options):
        monkeypatch.setattr(local_authority.disk, "exclusive", exclusive)
        made.append(keep().get())
        with exclusive(*args, **options):
            yield

    monkeypatch.setattr(local_authority.disk, "exclusive", after_another)
    assert [kept.get().root] == [each.root for each in made]
    assert not (kept.directory / "former.pem").exists()


# ── where there can be none ──────────────────────────────────────────────────────────────────────


def test_without_a_home_it_is_said_what_to_set(monkeypatch):
    monkeypatch.setattr(local_authority, "state_directory", lambda: None)
    with pytest.raises(StoreError) as caught:
        default_directory()
    assert "the local authority has no place to be kept: there is no home directory" in caught.value.detail
    assert caught.value.hint == f"set HOME; or {HINT}"
    assert public_file() is None


def test_where_nothing_can_be_written_it_is_said_what_to_set(keep, tmp_path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StoreError) as caught:
        keep(directory=tmp_path / "file" / "authority").get()
    assert caught.value.detail.startswith("the local authority: ")
    assert caught.value.hint == HINT


@needs_owners
def test_a_file_that_others_can_read_is_refused_with_the_way_to_mend_it(keep):
    kept = keep()
    kept.get()
    file = kept.directory / "authority.pem"
    file.chmod(0o644)
    with pytest.raises(StoreError) as caught:
        keep().get()
    assert (caught.value.detail, caught.value.hint) == (f"{file} is open to others", f"chmod 600 {file}")


def test_its_certificate_may_be_read_by_everybody(keep):
    kept = keep()
    made = kept.get()
    kept.public.chmod(0o644)
    assert kept.get().root == made.root
    kept.public.chmod(0o666)
    with pytest.raises(StoreError, match="is open to others"):
        kept.get()


def test_one_that_was_made_while_the_clock_was_ahead_is_followed(keep, clock):
    clock.advance(30 * 86_400)
    made = keep().get()
    clock.advance(-30 * 86_400)
    assert keep().get().root != made.root


def test_without_locks_there_is_none(keep, monkeypatch):
    monkeypatch.setattr(local_authority, "FILE_LOCKS", Capability(present=False, lack="there are none"))
    with pytest.raises(StoreError, match="cannot be kept: there are none"):
        keep().get()


def test_the_file_for_clients_is_known_once_it_is_there(monkeypatch, tmp_path):
    monkeypatch.setattr(local_authority, "state_directory", lambda: tmp_path)
    assert public_file() is None
    LocalAuthority(default_directory(), keyring=lambda: None).get()
    assert public_file() == tmp_path / "authority" / "ca.pem"
