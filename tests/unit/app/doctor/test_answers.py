"""What an upstream's answer means."""

from dataclasses import replace

import pytest

from authproxy.app.doctor.answers import Answered, Asked, judge, judge_missing, variants

ASKED = Asked("GET", "https://api.example/v2/x", "https://api.example", "/x", scheme="Bearer")
UNNAMED = Asked("GET", "https://api.example/v2/", "https://api.example", None, scheme="Bearer")
LOGIN = b"<form><input type='password'></form>"


def answer(status, *headers, body=b""):
    return Answered(status, [(name.encode(), value.encode()) for name, value in headers], body)


INSUFFICIENT = 'Bearer error="insufficient_scope"'
HTML = ("Content-Type", "text/html")


@pytest.mark.parametrize(
    ("answered", "ok", "cause", "what_next"),
    [
        (answer(200), True, None, None),
        (answer(200, HTML), True, None, None),
        (answer(200, HTML, body=LOGIN), False, "a login page", "check `upstream`"),
        (answer(302, ("Location", "/docs")), True, None, None),
        (answer(302), True, None, None),
        (answer(302, ("Location", "/users/sign_in")), False, "a redirect to a login page", "site for people"),
        (answer(301, ("Location", "https://b.example/?t=1")), False, "https://b.example/", "`upstream: https://b."),
        (answer(301, ("Location", "http://[")), False, "an invalid URL", "check"),
        (answer(401, ("WWW-Authenticate", "Token")), False, "it asks for Token", "`scheme: Token`"),
        (answer(401, ("WWW-Authenticate", 'Basic realm="x"')), False, "asks for Basic", "grant: basic"),
        (answer(401, ("WWW-Authenticate", "bearer")), False, "to a Bearer credential", "`audience`"),
        (answer(401), False, "to a Bearer credential", "is `scheme` right"),
        (answer(403), False, "may not do this", "is the account allowed"),
        (answer(403, ("WWW-Authenticate", INSUFFICIENT)), False, "little scope", "`scope`"),
        (answer(405), False, "takes no GET", "--method"),
        (answer(422), False, "does not take this request", "--path"),
        (answer(429, ("Retry-After", "7")), False, "too many requests", "wait 7 s"),
        (answer(502), False, "in trouble", "wait"),
    ],
)  # fmt: skip
def test_an_answer_is_judged(answered, ok, cause, what_next):
    verdict = judge(ASKED, answered)
    assert verdict.ok is ok
    if cause is not None:
        assert cause in verdict.cause
        assert what_next in verdict.next


@pytest.mark.parametrize("status", [203, 302, 404, 405, 429, 503])
def test_what_the_route_takes_for_a_no_is_one_whatever_its_status(status):
    verdict = judge(replace(ASKED, refused=True, repeated=True), answer(status, ("Location", "/docs")))
    assert not verdict.ok
    assert f"answered {status} to a Bearer credential, and to another token as well" in verdict.cause


@pytest.mark.parametrize("status", [405, 422])
def test_where_nobody_named_a_path_not_to_find_one_is_no_failure(status):
    verdict = judge(UNNAMED, answer(status))
    assert verdict.ok
    assert "--path" in verdict.detail


@pytest.mark.parametrize("status", [401, 403])
def test_without_a_credential_one_is_proposed(status):
    verdict = judge(Asked("GET", "https://a.example/", "https://a.example"), answer(status))
    assert "give it an `auth`" in verdict.next


def test_no_query_of_a_redirect_is_told():
    assert "secret" not in str(judge(ASKED, answer(302, ("Location", "https://b.example/?code=secret"))))


def test_a_challenge_leads_to_what_can_be_set():
    wanted = judge(ASKED, answer(401, ("WWW-Authenticate", 'Token, Basic realm="x"')))
    assert "asks for Token or Basic" in wanted.cause
    assert wanted.next == "set `scheme: Token` or `grant: basic`"
    assert "no grant for that scheme" in judge(ASKED, answer(401, ("WWW-Authenticate", "Negotiate"))).next


@pytest.mark.parametrize(
    ("location", "ok", "said"),
    [
        ("/#/home", True, "a redirect to / (not followed)"),  # as applications in one page have it
        ("https://me:s3cr3t@b.example/x", False, "redirect to another host: https://b.example/x"),
        ("https://[broken", False, "redirect to an invalid URL"),
        ("https://b.example/" + "x" * 2000, False, "…"),
    ],
)
def test_a_redirect_is_told_whatever_it_holds(location, ok, said):
    verdict = judge(ASKED, answer(302, ("Location", location)))
    assert verdict.ok is ok
    told = verdict.detail if ok else verdict.cause
    assert said in told
    assert "s3cr3t" not in told + (verdict.next or "")
    assert len(told) < 500


def test_a_server_says_how_long_to_wait_in_few_digits():
    assert judge(ASKED, answer(429, ("Retry-After", "9" * 400))).next.startswith("wait")
    assert len(judge(ASKED, answer(429, ("Retry-After", "9" * 400))).next) < 60


# ── 404 ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "settings", "targets"),
    [
        ("/x", {"base": "", "prefix": "/", "strips": True}, []),
        ("/x", {"base": "/v2", "prefix": "/", "strips": True}, ["/x"]),
        ("/v2/x?q", {"base": "/v2", "prefix": "/", "strips": True}, ["/v2/x"]),
        ("/x", {"base": "/v2", "prefix": "/a", "strips": True}, ["/x", "/v2/a/x"]),
        ("/x", {"base": "", "prefix": "/a", "strips": False}, ["/x"]),
    ],
)
def test_the_other_ways_to_join_a_path(path, settings, targets):
    assert [each.target for each in variants(path, **settings)] == targets


@pytest.mark.parametrize(
    ("status", "plainly", "joined_wrongly"),
    [(401, 404, True), (200, 404, True), (401, 401, False), (404, 404, False), (500, 404, False)],
)
def test_another_way_tells_only_where_it_is_answered_otherwise(status, plainly, joined_wrongly):
    (variant,) = variants("/x", base="/v2", prefix="/", strips=True)
    verdict = judge_missing(ASKED, {variant: status}, plainly)
    assert ("joined wrongly" in verdict.cause) is joined_wrongly


def test_where_nothing_is_found_it_depends_on_who_named_the_path():
    named, unnamed = judge_missing(ASKED, {}), judge_missing(UNNAMED, {})
    assert "nothing at that path" in named.cause
    assert "--path" in named.next
    assert unnamed.ok
    assert "--path" in unnamed.detail
