"""The keys of `stand_in`, and what is wrong with them."""

import pytest

from authproxy.config.effective import effective
from authproxy.config.stand_in import StandIn

KEYS = "auth: {grant: static, token: x}\nupstream: https://x\n"


def test_an_entry_has_every_default(reader):
    route = reader.route(KEYS + "stand_in: [{path: /v1/oauth}]")
    assert route.stand_in == (StandIn(path="/v1/oauth", methods=("POST",), shape="auto", lifetime=3600.0),)


def test_false_and_an_empty_list_are_none(reader):
    for none in ("false", "[]"):
        assert reader.route(KEYS + f"stand_in: {none}").stand_in == ()
    assert reader.route(KEYS).stand_in == ()


def test_false_takes_away_what_defaults_bring(reader):
    top = "defaults: {stand_in: [{path: /in}]}"
    assert len(reader.route(KEYS, top).stand_in) == 1
    assert reader.route(KEYS + "stand_in: false", top).stand_in == ()


def test_what_it_came_to_is_shown_where_there_is_any(reader):
    config = reader.config(reader.with_route(KEYS + "stand_in: [{path: /in, lifetime: 2h}]"))
    (shown,) = effective(config)
    assert shown["stand_in"] == [{"path": "/in", "methods": ["POST"], "shape": "auto", "lifetime": 7200.0}]
    (shown,) = effective(reader.config(reader.with_route(KEYS)))
    assert "stand_in" not in shown


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ("true", "stand_in: should be a list"),
        ("[{}]", "stand_in[0].path: is required"),
        ("[{path: in}]", "stand_in[0].path: should be a path that begins with /"),
        ("[{path: '/in?a'}]", "stand_in[0].path: should be a path that begins with /"),
        ("[{path: /a/../in}]", "stand_in[0].path: should be the decoded path"),
        ("[{path: /a//in}]", "stand_in[0].path: should be the decoded path"),
        ("[{path: '/a%20b'}]", "stand_in[0].path: should be the decoded path"),
        ("[{path: /in, methods: []}]", "stand_in[0].methods: should contain at least 1"),
        ("[{path: /in, methods: [a b]}]", "stand_in[0].methods[0]: should be a method"),
        (
            "[{path: /in, methods: [trace]}]",
            "stand_in[0].methods[0]: should be a method that a login may have",
        ),
        ("[{path: /in, shape: round}]", "stand_in[0].shape: should be auto, opaque or jwt"),
        ("[{path: /in, lifetime: 999ms}]", "stand_in[0].lifetime: should be a second at least"),
        ("[{path: /in, lifetime: soon}]", "stand_in[0].lifetime: "),
        ("[{path: /in, say: a}]", "stand_in[0].say: unknown key"),
        (
            "[{path: /in}, {path: /in, methods: [GET, POST]}]",
            "stand_in[1].path: is answered already, for POST",
        ),
        ("[{path: /in, methods: [GET, GET]}]", "stand_in[0].path: is answered already, for GET"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(reader, entries, fault):
    assert reader.route_fault(KEYS + f"stand_in: {entries}").startswith(fault)


def test_without_a_credential_there_is_nothing_to_stand_in_for(reader):
    plain = "auth: {grant: none}\nupstream: https://x\n"
    assert "`grant` is none" in reader.route_fault(plain + "stand_in: [{path: /in}]")
    assert reader.route(plain + "stand_in: false").stand_in == ()


def test_routes_share_a_credential_whatever_they_answer_themselves(reader):
    one, other = reader.route(KEYS), reader.route(KEYS + "stand_in: [{path: /in}]")
    assert one.key == other.key
