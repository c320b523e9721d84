"""The keys of `rewrite`, and what is wrong with them."""

import pytest

from authproxy.config.effective import effective
from authproxy.config.rewrite import Rewrite

KEYS = "auth: {grant: none}\nupstream: https://x\n"


@pytest.mark.parametrize(
    ("written", "comes_to"),
    [
        ("true", Rewrite()),
        ("false", None),
        ("{}", Rewrite(headers=True, bodies=(), max=4 << 20)),
        ("{headers: false}", Rewrite(headers=False)),
        ("{bodies: false}", Rewrite()),
        ("{bodies: []}", Rewrite()),
        ("{bodies: null}", Rewrite()),
        (
            "{bodies: [Application/JSON, 'application/*+json'], max: 1KiB}",
            Rewrite(bodies=("application/json", "application/*+json"), max=1024),
        ),
    ],
)
def test_what_is_written_comes_to_this(reader, written, comes_to):
    assert reader.route(KEYS + f"rewrite: {written}").rewrite == comes_to
    assert reader.route(KEYS, f"defaults: {{rewrite: {written}}}").rewrite == comes_to


def test_a_route_takes_from_the_defaults_what_it_does_not_say(reader):
    top = "defaults: {rewrite: {bodies: [application/json], max: 1KiB}}"
    made = reader.route(KEYS + "rewrite: {max: 2KiB}", top).rewrite
    assert made == Rewrite(bodies=("application/json",), max=2048)
    assert reader.route(KEYS + "rewrite: false", top).rewrite is None


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("1", "rewrite: should be true, false or a mapping with keys such as headers, bodies, max"),
        ("'yes'", "rewrite: should be true, false or a mapping with keys such as headers, bodies, max"),
        ("[a]", "rewrite: should be true, false or a mapping"),
        ("{body: []}", "rewrite.body: unknown"),
        ("{headers: some}", "rewrite.headers: should be"),
        ("{bodies: true}", "rewrite.bodies: should be a list"),
        ("{bodies: application/json}", "rewrite.bodies: should be a list"),
        ("{bodies: [json]}", "rewrite.bodies[0]: should be a media type"),
        ("{bodies: ['application/json; charset=utf-8']}", "rewrite.bodies[0]: should be a media type"),
        ("{bodies: ['application /json']}", "rewrite.bodies[0]: should be a media type"),
        ("{bodies: ['multipart/*']}", "rewrite.bodies[0]: should be no type of multipart: its parts are"),
        ("{bodies: [Multipart/Mixed]}", "rewrite.bodies[0]: should be no type of multipart"),
        ("{max: none}", "rewrite.max: should be"),
    ],
)
def test_a_fault_says_where_it_is(reader, written, fault):
    assert reader.route_fault(KEYS + f"rewrite: {written}").startswith(fault)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("true", True),
        ("{bodies: []}", True),
        ("false", False),
        ("{headers: false}", {"headers": False, "max": 4 << 20}),
        ("{bodies: [a/B]}", {"headers": True, "bodies": ["a/b"], "max": 4 << 20}),
    ],
)
def test_what_it_came_to_is_shown(reader, written, shown):
    (route,) = effective(reader.config(reader.with_route(KEYS + f"rewrite: {written}")))
    assert route["rewrite"] == shown
