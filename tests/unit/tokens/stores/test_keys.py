"""Where the file store's key is made, kept and found again."""

import base64
import stat
import threading

import pytest

from authproxy.errors import StoreError
from authproxy.tokens.stores import keys
from authproxy.tokens.stores.keys import find_secret, installed_keyring


class Keyring:
    """A keyring that works, until it is told not to."""

    priority = 5

    def __init__(self):
        self.kept = {}
        self.broken = False

    def get_password(self, service, username):
        if self.broken:
            raise OSError("locked")
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        if self.broken:
            raise OSError("locked")
        self.kept[service, username] = password


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.key"


def none():
    return None


def test_without_a_keyring_the_key_is_in_a_file_of_its_owners(path):
    secret = find_secret(path, none)
    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert base64.b64decode(path.read_text()) == secret
    assert find_secret(path, none) == secret


def test_every_store_gets_a_key_of_its_own(tmp_path):
    assert find_secret(tmp_path / "one", none) != find_secret(tmp_path / "other", none)


def test_with_a_keyring_the_key_is_there_and_not_in_the_file(path):
    keyring = Keyring()
    secret = find_secret(path, lambda: keyring)
    assert [base64.b64decode(each) for each in keyring.kept.values()] == [secret]
    assert path.read_text().startswith("keyring token store ")
    assert find_secret(path, lambda: keyring) == secret


def test_a_keyring_that_fails_is_done_without(path):
    keyring = Keyring()
    keyring.broken = True
    secret = find_secret(path, lambda: keyring)
    keyring.broken = False
    assert find_secret(path, lambda: keyring) == secret
    assert keyring.kept == {}


def test_a_key_in_the_keyring_is_not_replaced_because_the_keyring_is_away(path):
    keyring = Keyring()
    secret = find_secret(path, lambda: keyring)
    before = path.read_text()
    for lookup in (none, Keyring):
        with pytest.raises(StoreError, match="keyring"):
            find_secret(path, lookup)
    assert path.read_text() == before
    assert find_secret(path, lambda: keyring) == secret


def test_a_keyring_that_waits_for_its_user_is_not_waited_for_for_ever(path, monkeypatch):
    monkeypatch.setattr(keys, "KEYRING_SECONDS", 0.05)
    unlocked = threading.Event()

    class Asking(Keyring):
        def set_password(self, *args):
            unlocked.wait()
            super().set_password(*args)

    secret = find_secret(path, Asking)
    assert base64.b64decode(path.read_text()) == secret
    unlocked.set()


@pytest.mark.parametrize("content", [b"", b"\n", b"not a key", b"\xff\xfe", base64.b64encode(b"short")])
def test_a_damaged_key_is_set_aside(path, content, caplog):
    path.write_bytes(content)
    path.chmod(0o600)
    secret = find_secret(path, none)
    assert find_secret(path, none) == secret
    assert path.with_name("tokens.key.garbage").read_bytes() == content
    assert "token store key unreadable" in caplog.text


def test_a_key_that_others_can_read_is_refused(path):
    find_secret(path, none)
    path.chmod(0o640)
    with pytest.raises(StoreError, match="open to others"):
        find_secret(path, none)


def test_a_link_in_the_keys_place_is_refused(path, tmp_path):
    find_secret(tmp_path / "elsewhere", none)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        find_secret(path, none)


def test_a_backend_that_only_looks_like_a_keyring_is_not_trusted(monkeypatch):
    keyring = pytest.importorskip("keyring")
    backend = Keyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    assert installed_keyring() is backend
    backend.priority = 0.5
    assert installed_keyring() is None


def test_a_machine_without_a_keyring_has_none(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    assert installed_keyring() is None


def test_what_it_is_the_key_of_is_said(path):
    keyring = Keyring()
    find_secret(path, lambda: keyring, of="local authority")
    assert path.read_text().startswith("keyring local authority ")
    keyring.broken = True
    with pytest.raises(StoreError, match="the local authority's key is in the keyring") as raised:
        find_secret(path, lambda: keyring, of="local authority")
    assert raised.value.hint.endswith("to start over with a new key")
