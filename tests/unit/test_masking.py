"""What must never be printed: secrets in every spelling, queries, and what a terminal would obey."""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from time import process_time
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from pydantic import SecretStr

from authproxy.config.document import Item
from authproxy.masking import (
    MASK,
    Hiding,
    as_data,
    holds_secret_parameter,
    is_secret_header,
    is_secret_name,
    leaves,
    masked,
    scrub,
    secrets_of_header,
    secrets_of_query,
    shown_header,
    shown_query,
    sound,
    without_query,
)


@dataclass
class Inner:
    name: str = "joe"
    password: SecretStr | None = None


@dataclass
class Outer:
    url: str = "https://x"
    inner: Inner | None = None
    headers: dict[str, SecretStr] = field(default_factory=dict)
    scope: tuple[str, ...] = ()
    json: Any = field(default=None, repr=False)


SECRET = SecretStr("s3cr3t")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (SECRET, MASK),
        (Outer(), {"url": "https://x"}),
        (
            Outer(inner=Inner(password=SECRET)),
            {"url": "https://x", "inner": {"name": "joe", "password": MASK}},
        ),
        (
            Outer("y", headers={"X-A": SECRET}, scope=("a",)),
            {"url": "y", "headers": {"X-A": MASK}, "scope": ["a"]},
        ),
        (
            Outer("y", json={"a": [1, {"b": True, "c": None}]}),
            {"url": "y", "json": {"a": [MASK, {"b": MASK, "c": None}]}},
        ),
        ([{"a": None}, {"b": False, "c": 0}], [{"a": None}, {"b": False, "c": 0}]),
    ],
)
def test_settings_are_shown_without_what_is_secret(value, shown):
    assert masked(value) == shown


def test_what_is_declared_secret_is_whether_or_not_a_reference_gave_it():
    made = Outer("y", Inner(password=SECRET), scope=("a",), json="j")
    place = Item(
        {
            "url": Item("y", "f", sources=frozenset({"env"})),
            "json": Item("j", "f", sources=frozenset({"env"})),
        },
        "f",
    )
    found = {leaf.declared.name: (leaf.is_secret, leaf.is_declared_secret) for leaf in leaves(made, place)}
    assert found == {
        "url": (True, False), "name": (False, False), "password": (True, True), "scope": (False, False),
        "json": (True, True),
    }  # fmt: skip


def test_what_a_reference_gave_is_masked_whatever_was_made_of_it():
    place = Item({"url": Item("x", "f"), "scope": Item("a b", "f", sources=frozenset({"env"}))}, "f")
    assert masked(Outer("x", scope=("a", "b")), place) == {"url": "x", "scope": MASK}


def test_a_leaf_knows_its_field_its_name_and_its_place():
    place = Item({"headers": Item({"X-A": Item("s3cr3t", "f", "headers.X-A")}, "f")}, "f")
    found = leaves(Outer(headers={"X-A": SECRET}, json=[{"b": "c"}]), place)
    told = [(leaf.declared.name, leaf.name, leaf.is_secret, leaf.place and leaf.place.key) for leaf in found]
    assert told == [  # of `inner` there is nothing
        ("url", "", False, None),
        ("headers", "X-A", True, "headers.X-A"),
        ("json", "b", True, None),
    ]
    assert "s3cr3t" not in repr(found)


def test_fields_can_be_left_out():
    found = as_data(Outer(), lambda leaf: leaf.value, keep=lambda field, _: field.repr)
    assert found == {"url": "https://x", "inner": None, "headers": {}, "scope": []}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/token?password=s3cr3t", "https://a.example/token"),
        ("https://a.example/token#s3cr3t", "https://a.example/token"),
        ("https://a.example/token#x?s3cr3t", "https://a.example/token"),
        ("https://joe:s3cr3t@a.example/token", "https://a.example/token"),
        ("https://joe:s3cr3t@a.example", "https://a.example"),
        ("https://a.example?s3cr3t", "https://a.example"),
        ("https://a.example:8443/x@y", "https://a.example:8443/x@y"),
        ("/path?s3cr3t", "/path"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url, shown):
    assert without_query(url) == shown


@pytest.mark.parametrize(
    ("text", "secrets", "shown"),
    [
        ("nothing in it", ["s3cr3t"], "nothing in it"),
        ("it is s3cr3t, s3cr3t!", ["s3cr3t"], f"it is {MASK}, {MASK}!"),
        ("s3cr3t-long", ["s3cr3t", "s3cr3t-long"], MASK),  # the longer one leaves no rest
        ("text", ["", "x"], "text"),  # an empty secret is none, a short one no part of a word
        ("me: some name parameter, me", ["me"], f"{MASK}: some name parameter, {MASK}"),
        ("unsupported_grant", ["grant"], "unsupported_grant"),
        ("pw=hunter2&x, (hunter2) 'hunter2'", ["hunter2"], f"pw={MASK}&x, ({MASK}) '{MASK}'"),
        (
            r"pw%3Dhunter2%26 \nhunter2\t \u0022hunter2\u0022",
            ["hunter2"],
            rf"pw%3D{MASK}%26 \n{MASK}\t \u0022{MASK}\u0022",
        ),
        ("code#7x, #7x7", ["#7x"], f"code{MASK}, #7x7"),
        ("\u30d1\u30b9hunter2\u304c", ["hunter2"], f"\u30d1\u30b9{MASK}\u304c"),
        ("pr\u00e4me\u00e4", ["me"], "pr\u00e4me\u00e4"),
        ("xhunter2-longx", ["hunter2-long"], f"x{MASK}x"),  # a long one is none by chance
        ("s3cr3t-one-two", ["s3cr3t-one", "one-two"], MASK),  # two that overlap leave no rest
        ("s3cr3t-one-two-three", ["s3cr3t-one", "one-two", "two-three"], MASK),
        (
            "\ud800 a\udcff s3cr3t-one\udfff",
            ["s3cr3t-one"],
            f"\ufffd a\ufffd {MASK}\ufffd",
        ),  # nothing that cannot be printed
        ("a\r\nSet-Cookie: b\x1b[0m", [], "a Set-Cookie: b [0m"),
        ("  a  ", [], "a"),
    ],
)
def test_foreign_text_is_scrubbed(text, secrets, shown):
    assert scrub(text, secrets) == shown


@pytest.mark.parametrize("secret", ["p&ss wörd/+", 'say "hi" \\o/', "<a>'b'~*!()", "short/", "p w", "ü"])
@pytest.mark.parametrize(
    "spelled",
    [
        str,
        quote,
        quote_plus,
        lambda secret: quote(secret, safe=""),
        lambda secret: quote(secret, safe="!'()*"),
        lambda secret: re.sub("%..", lambda escape: escape[0].lower(), quote_plus(secret)),
        lambda secret: quote(quote(secret, safe=""), safe=""),
        lambda secret: quote(quote(quote_plus(secret))),
        lambda secret: quote(b64encode(secret.encode()).decode().rstrip("="), safe=""),
        lambda secret: json.dumps(secret)[1:-1],
        lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1].replace("/", "\\/"),
        html.escape,
        lambda secret: b64encode(secret.encode()).decode(),
        lambda secret: urlsafe_b64encode(secret.encode()).decode().rstrip("="),
    ],
)
def test_a_secret_is_masked_in_every_spelling_in_which_it_may_be_echoed(secret, spelled):
    echoed = spelled(secret)
    padding = echoed[len(echoed.rstrip("=")) :]
    shown = scrub(f"got [{echoed}] and pw={echoed}&", [secret])
    assert shown == f"got [{MASK}{padding}] and pw={MASK}{padding}&"


def test_a_long_text_is_scrubbed_without_a_pause():
    secrets = ["p@ss w/rd&é", "client-secret-000000000000", "me", "hunter2", "x" * 3000]
    for unit in ("a b c ", "client-secret-000000000000", "hunter2 ", "x", "%3D", "me"):
        began = process_time()
        assert len(scrub(unit * (250_000 // len(unit)), secrets)) <= 300
        assert process_time() - began < 2, "in time with the square of the length it is minutes"


def test_foreign_text_is_not_repeated_at_length():
    assert scrub("x" * 300, []) == "x" * 300
    assert scrub("x" * 301, []) == "x" * 299 + "…"


def test_a_secret_is_masked_before_the_text_is_cut():
    assert "s3c" not in scrub("x" * 295 + "s3cr3t-and-more", ["s3cr3t-and-more"])


def test_half_a_character_becomes_one_that_can_be_printed():
    assert sound("a\ud83d\ude00\udc00b \U0001f600") == "a\ufffd\ufffd\ufffdb \U0001f600"


# ── names, headers and queries ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "x_api_key",
        "apikey", "ApiKey", "X-Auth-Token", "access_token", "accessToken", "refreshToken", "id_token",
        "client_secret", "clientSecret", "password", "passwd", "PASSWORD", "X-Authproxy-Key",
        "Ocp-Apim-Subscription-Key", "X-Amz-Security-Token", "X-Amz-Signature", "sig", "totp-auth",
        "X-Session-Id", "JSESSIONID", "private_key", "client_assertion", "X-CSRF-Token", "PHPSESSID",
        "AccessKey",
    ],
)  # fmt: skip
def test_a_name_tells_that_its_value_is_a_secret(name):
    assert is_secret_name(name)
    assert shown_header(name, "s3cr3t") == MASK


@pytest.mark.parametrize(
    "name",
    [
        "Host", "Accept", "Content-Type", "User-Agent", "ETag", "If-Match", "WWW-Authenticate",
        "Idempotency-Key", "Sec-WebSocket-Key", "Cache-Control", "X-Request-Id", "page", "limit",
        "keyword", "monkey", "author", "designer", "Content-Length", "passage", "spinner",
    ],
)  # fmt: skip
def test_other_names_do_not(name):
    assert not is_secret_name(name)
    assert shown_header(name, "plain") == "plain"


def test_the_scheme_of_a_credential_may_be_seen_and_nothing_that_only_looks_like_one():
    assert shown_header("Authorization", "Bearer s3cr3t") == f"Bearer {MASK}"
    assert shown_header("Authorization", "s3cr3t with spaces") == MASK


def test_names_may_be_secrets_in_one_place_and_not_elsewhere():
    assert shown_header("X-Mine", "s3cr3t", frozenset({"x-mine"})) == MASK
    assert is_secret_header("X-Mine", "s3cr3t", frozenset({"x-mine"}))
    assert not is_secret_header("X-Mine", "s3cr3t")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("a=1&b=2", f"a={MASK}&b={MASK}"),
        ("a=&watch", "a=&watch"),
        ("a=1;b=2", f"a={MASK}"),
        ("s3cr3t-without-a-name", MASK),
        ("token", MASK),
        ("a=b=c", f"a={MASK}"),
        ("", ""),
        ("&&", "&&"),
    ],
)
def test_of_a_query_the_names_may_be_seen(query, shown):
    assert shown_query(query) == shown


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("page=2", False),
        ("access_token=x", True),
        ("a=1&%74oken=x", True),
        ("code=x", True),
        ("key=x", True),
        ("a=1;token=x", True),
        ("token", False),
    ],
)
def test_a_query_may_hold_a_secret(query, holds):
    assert holds_secret_parameter(query) is holds
    assert is_secret_header("Referer", f"https://a.example/x?{query}#y") is holds


def test_the_query_of_a_url_in_a_header_is_masked():
    location = "https://a.example/x?code=s3cr3t&state=1#top"
    assert shown_header("Location", location) == f"https://a.example/x?code={MASK}&state={MASK}#top"
    link = "<https://a.example/?key=s3cr3t>; rel=next, </?b=s3cr3t>; rel=prev"
    assert "s3cr3t" not in shown_header("Link", link)


def test_a_long_text_stays_as_long_as_it_is_without_its_secrets():
    text = "x" * 1000 + " s3cr3t-of-mine\n" + "y" * 1000
    assert Hiding(["s3cr3t-of-mine"])(text) == "x" * 1000 + f" {MASK}\n" + "y" * 1000


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("Authorization", "Bearer abc.defgh12", ["Bearer abc.defgh12", "abc.defgh12"]),
        ("Cookie", "session=s3cr3t-12; a=b", ["session=s3cr3t-12; a=b", "s3cr3t-12"]),
        ("Referer", "http://localhost/?token=s3cr3t-12&page=2", ["s3cr3t-12"]),
        ("Host", "me:s3cr3t-12@localhost", ["me:s3cr3t-12@localhost"]),
        ("Accept", "application/json", []),
        ("X-Mine", "s3cr3t-12", ["s3cr3t-12"]),
    ],
)
def test_what_is_not_shown_of_a_header_may_be_repeated_by_somebody_else(name, value, secrets):
    assert set(secrets) <= set(secrets_of_header(name, value, {"x-mine"}))
    assert bool(secrets) == bool(list(secrets_of_header(name, value, {"x-mine"})))


def test_values_of_a_query_are_masked_wherever_they_stand_if_they_are_long_enough():
    assert list(secrets_of_query("a=short&b=long+enough%21&c&=another-one")) == [
        "long enough!",
        "another-one",
    ]


def test_a_host_with_a_password_in_it_is_shown_without():
    assert shown_header("Host", "me:s3cr3t-12@localhost:80") == f"{MASK}@localhost:80"
