"""`authproxy logout`: the tokens of one route are forgotten."""

import asyncio
from pathlib import Path

import pytest

from authproxy.config.read import load
from authproxy.tokens.stores.file import FileStore
from authproxy.tokens.token import Token


@pytest.fixture
def stored(tokens, write):
    """Return the route's key and the store that its tokens are in."""
    route = next(each for each in load(Path(write())).routes if each.name == "person")
    return route.key, FileStore(tokens, "open sesame")


def test_what_was_stored_for_a_route_is_gone_and_nothing_else(write, run, stored):
    key, store = stored
    asyncio.run(store.save(key, Token("t")))
    asyncio.run(store.save("another", Token("u")))
    assert run("logout", "person", "-c", write()).stdout == "forgot the tokens of person\n"
    assert asyncio.run(store.load(key)) is None
    assert asyncio.run(store.load("another")) == Token("u")


def test_what_cannot_be_read_is_forgotten_too(write, run, stored, tokens):
    key, store = stored
    asyncio.run(store.save(key, Token("t")))
    tokens.write_bytes(tokens.read_bytes().replace(b'"sealed": "', b'"sealed": "!'))
    run("logout", "person", "-c", write())
    assert b"sealed" not in tokens.read_bytes()


def test_where_nothing_is_stored_there_is_nothing_to_forget(write, run):
    said = "no tokens are stored for {}: there is nothing to forget\n"
    assert run("logout", "person", "-c", write()).stdout == said.format("person")
    assert run("logout", "plain", "-c", write()).stdout == said.format("plain")


def test_a_route_that_is_not_there_is_bad_usage(write, run):
    assert "there is no route 'nowhere'" in run("logout", "nowhere", "-c", write(), exits=2).stderr
