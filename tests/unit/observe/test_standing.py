"""How a route stands with its upstream: what is told, how often, and when it is well again."""

from dataclasses import replace

import pytest

from authproxy.observe.standing import MAX_CAUSES, Refusal, Standings

LASTS = Refusal(401, "401 renewed", "a token renewed 2 s ago, repeated once", "mend it", 70.0, lasts=True)
ONCE = Refusal(403, "403 held", "a token obtained 9 s ago", "ask for more", 71.0)


@pytest.fixture
def standings(caplog):
    caplog.set_level("INFO", "authproxy")
    made = Standings()
    made.changes = []
    made.changed = lambda: made.changes.append(sorted(made.refused()))
    return made


def said(caplog):
    return [(record.getMessage(), record.levelname) for record in caplog.records]


def test_a_refusal_is_told_once_a_cause(standings, caplog):
    standing = standings.of("up42", "key")
    for _ in range(3):
        standing.note(ONCE)
        standing.note(replace(ONCE, at=99.0, sent="a token obtained 10 s ago"))
    assert said(caplog) == [("refused by the upstream", "WARNING")]
    assert caplog.records[0].facts == {
        "route": "up42",
        "status": 403,
        "sent": "a token obtained 9 s ago",
        "hint": "ask for more",
    }
    assert standings.refused() == {}
    assert not standing.watching


def test_one_that_lasts_makes_the_route_refused_until_it_recovers(standings, caplog):
    standing = standings.of("up42", "key")
    standing.note(LASTS)
    standing.note(LASTS)
    assert standings.refused() == {"up42": LASTS}
    assert standing.watching
    standing.recover()
    standing.recover()
    assert standings.refused() == {}
    assert said(caplog) == [
        ("refused by the upstream", "WARNING"),
        ("the upstream accepts the route's credential again", "INFO"),
    ]
    assert standings.changes == [["up42"], []]


def test_after_it_was_well_it_is_told_anew(standings, caplog):
    standing = standings.of("up42", "key")
    for _ in range(2):
        standing.note(LASTS)
        standing.recover()
    assert len(said(caplog)) == 4


def test_what_began_harmlessly_and_lasts_is_told_again(standings, caplog):
    standing = standings.of("up42", "key")
    standing.note(replace(LASTS, lasts=False))
    standing.note(LASTS)
    assert len(said(caplog)) == 2
    assert standings.refused() == {"up42": LASTS}


def test_the_first_refusal_of_several_is_the_one_that_is_shown(standings):
    standing = standings.of("up42", "key")
    standing.note(LASTS)
    standing.note(replace(LASTS, cause="other", at=99.0))
    assert standings.refused()["up42"].at == 70.0


def test_causes_that_are_remembered_are_few(standings):
    standing = standings.of("up42", "key")
    for number in range(2 * MAX_CAUSES):
        standing.note(replace(ONCE, cause=str(number)))
    assert len(standing._told) == MAX_CAUSES


def test_a_route_with_another_credential_begins_anew(standings):
    standing = standings.of("up42", "key")
    standing.note(LASTS)
    assert standings.of("up42", "key") is standing
    assert standings.of("up42", "another key").refused is None
    assert standings.refused() == {}


def test_in_a_worker_the_broker_is_told_instead_of_the_log(standings, caplog):
    told = []
    standings.remote = lambda *what: told.append(what)
    standing = standings.of("up42", "key")
    standing.note(LASTS)
    standing.note(LASTS)
    standing.recover()
    assert told == [("up42", LASTS), ("up42", None)]
    assert said(caplog) == []


def test_what_another_process_tells_is_gone_by_and_not_told_again(standings, caplog):
    standing = standings.of("up42", "key")
    for _ in range(2):
        standings.take("up42", LASTS)
    standings.take("unknown", LASTS)
    assert standings.refused() == {"up42": LASTS}
    assert standing.watching
    standing.note(LASTS)
    standings.take("up42", None)
    assert standings.refused() == {}
    assert said(caplog) == []
    assert standings.changes == [["up42"], []]


def test_what_several_workers_report_is_news_once(standings, caplog):
    standings.of("up42", "key")
    for _ in range(2):
        standings.hear("up42", LASTS)
    for _ in range(2):
        standings.hear("up42", None)
    standings.hear("unknown", LASTS)
    assert len(said(caplog)) == 2


def test_a_refusal_says_what_the_upstream_answered():
    assert LASTS.detail == "the upstream answered 401 to a token renewed 2 s ago, repeated once"
