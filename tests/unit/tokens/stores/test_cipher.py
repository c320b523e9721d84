"""Who can read what is stored: those with the key, each token in its own place, unchanged."""

import json
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authproxy.tokens.stores.cipher import VERSION, Cipher, Unreadable
from authproxy.tokens.token import Token

TOKEN = Token("access", issued_at=1.5, expires_at=2.5, refresh_token="refresh", scope="read")


@pytest.fixture(scope="module")
def cipher():
    return Cipher(bytes(32))


def _sealed(cipher, document):
    nonce = bytes(12)
    return VERSION + nonce + cipher._sealing.encrypt(nonce, json.dumps(document).encode(), VERSION + b"key")


def test_what_is_sealed_can_be_unsealed(cipher):
    found = cipher.unseal("key", cipher.seal("key", TOKEN))
    assert (found.value, found.issued_at, found.expires_at, found.refresh_token) == (
        "access", 1.5, 2.5, "refresh",
    )  # fmt: skip
    assert found.scope == "read"


def test_what_an_older_version_sealed_has_no_scope(cipher):
    document = {"value": "t", "expires_at": 1, "issued_at": 1, "refresh_token": "r"}
    found = cipher.unseal("key", _sealed(cipher, document))
    assert (found.value, found.refresh_token, found.scope) == ("t", "r", None)


def test_a_passphrase_makes_the_same_cipher_everywhere():
    one, other = Cipher.from_passphrase("correct horse"), Cipher.from_passphrase("correct horse")
    assert other.unseal("key", one.seal("key", TOKEN)) == TOKEN
    assert one.name("key") == other.name("key")


def test_another_passphrase_unseals_nothing_and_names_everything_otherwise():
    one, other = Cipher.from_passphrase("correct horse"), Cipher.from_passphrase("battery staple")
    assert one.name("key") != other.name("key")
    assert one.mark != other.mark
    with pytest.raises(Unreadable):
        other.unseal("key", one.seal("key", TOKEN))


def test_a_token_cannot_be_put_in_anothers_place(cipher):
    with pytest.raises(Unreadable):
        cipher.unseal("another key", cipher.seal("key", TOKEN))


def test_any_changed_byte_is_noticed(cipher):
    sealed = cipher.seal("key", TOKEN)
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(Unreadable):
            cipher.unseal("key", bytes(changed))


@pytest.mark.parametrize("sealed", [b"", VERSION, VERSION + bytes(12), VERSION + bytes(40), os.urandom(200)])
def test_garbage_is_unreadable_not_a_crash(cipher, sealed):
    with pytest.raises(Unreadable):
        cipher.unseal("key", sealed)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"value": 3, "expires_at": 1, "issued_at": 1, "refresh_token": None},
        {"value": "t", "expires_at": "soon", "issued_at": 1, "refresh_token": None},
        {"value": "t", "expires_at": 1, "issued_at": float("nan"), "refresh_token": None},
        {"value": "t", "expires_at": 1, "issued_at": 1, "refresh_token": 7},
        {"value": "t", "expires_at": 1, "issued_at": 1, "refresh_token": "r", "scope": ["read"]},
    ],
)
def test_what_a_later_version_may_have_sealed_is_unreadable_not_a_crash(cipher, document):
    with pytest.raises(Unreadable):
        cipher.unseal("key", _sealed(cipher, document))


def test_the_same_token_is_never_sealed_the_same_way(cipher):
    assert cipher.seal("key", TOKEN) != cipher.seal("key", TOKEN)


def test_a_name_tells_nothing_of_its_key(cipher):
    assert "key" not in cipher.name("key")
    assert cipher.name("key") != Cipher(b"1" * 32).name("key")


def test_the_sealing_key_is_not_the_secret_itself(cipher):
    sealed = cipher.seal("key", TOKEN)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it says, it must not open
        AESGCM(bytes(32)).decrypt(sealed[1:13], sealed[13:], VERSION + b"key")


def test_a_secret_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Cipher(b"short")
