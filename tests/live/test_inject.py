"""Tokens that do not go into one header: several headers, Basic, the query, cookies.

And those that do not come in a JSON document, and upstreams that say no by a redirect.
"""

import base64
import re

import pytest

from tests.support.command import authproxy, running_proxy
from tests.support.wire import Message, Upstream, get, json_reply, reply


def client(**keys):
    return {"grant": "client_credentials", "token_url": "{tokens}/token", "client_id": "c", **keys}


def places(*listed, **keys):
    """Return an `auth` whose token goes where `listed` says."""
    return client(client_secret="s3cr3t-of-inject", inject=list(listed), **keys)


def lets_in(place, has_token):
    """Have the API answer 401 unless `has_token` finds a good token in the request."""

    def answer(came: Message, _wire):
        return reply(body=b"in") if has_token(came) in place.tokens.issued.good else reply(401)

    place.api.answer = answer


API_KEY = {"query": "api_key", "value": "{token}"}
SESSION = {"cookie": "JSESSIONID", "value": "{token}"}


# ── headers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.route(
    auth=places(
        {"header": "X-Auth", "value": "Key {token}!"},
        {"header": "X-Tenant", "value": "{response:/tenant/id}"},
    )
)
def test_several_headers_take_the_token_and_a_field_of_its_reply(place):
    place.tokens.more = {"tenant": {"id": 42}}
    assert place.get("/a", "X-Auth: mine?", "X_Tenant: 7").status == 200
    assert place.api.last.all("X-Auth") == ["mine?"]  # incoming: keep
    assert place.get("/a", "X_Tenant: 7").status == 200
    came = place.api.last
    assert came.one("X-Auth") == f"Key {place.token}!"
    assert came.one("X-Tenant") == "42"
    assert "x_tenant" not in came.names
    assert "authorization" not in came.names


TENANT = {"header": "X-Tenant", "value": "{response:/tenant}"}


@pytest.mark.route(auth=places(TENANT, scope="none"))
def test_a_field_that_is_not_there_is_an_error_that_names_those_that_are(place):
    answer = place.get()
    assert answer.status == 502
    assert "without /tenant; the fields there are: /access_token" in answer.json["detail"]
    assert place.api.requests == []


@pytest.mark.route(auth=places(TENANT, scope="broken"))
def test_a_field_with_a_line_break_is_sent_nowhere(place):
    place.tokens.more = {"tenant": "a\r\nX-Admin: yes"}
    answer = place.get()
    assert answer.status == 502
    assert "the field /tenant" in answer.json["detail"]
    assert "X-Admin" not in answer.json["detail"]
    assert place.api.requests == []


@pytest.mark.route(auth=places({"basic": {"username": "oauth2", "password": "{token}"}}))
def test_basic_takes_the_token_for_a_password_and_a_new_one_after_a_401(place):
    lets_in(place, lambda came: came.basic.partition(":")[2])
    assert place.get().status == 200
    place.tokens.issued.good.clear()
    assert place.get().status == 200
    assert place.api.last.basic == f"oauth2:{place.token}"
    assert len(place.tokens.issued.every) == 2


# ── the query ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.route(auth=places(API_KEY, incoming="replace"))
@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/a", "/a?{}"),
        ("/a?", "/a?{}"),
        ("/a?b=%2f+c&&d", "/a?b=%2f+c&&d&{}"),
        ("/a?api_key=mine", "/a?{}"),
        ("/a?x=1&api%5Fkey=mine&y=2&api_key", "/a?x=1&y=2&{}"),
        ("/a?API_KEY=another", "/a?API_KEY=another&{}"),
        ("/a?x=api_key=1", "/a?x=api_key=1&{}"),
    ],
)
def test_the_query_stays_but_for_the_parameter(place, asked, sent):
    for _ in range(3):  # by the parser, remembered, and from memory
        assert place.get(asked).status == 200
        assert place.api.last.target == sent.format(f"api_key={place.token}")
        assert "authorization" not in place.api.last.names


@pytest.mark.route(auth=places({"query": "key", "value": "a b&{token}"}))
def test_what_goes_into_the_query_is_escaped_and_replaced_on_the_repeat(place):
    lets_in(place, lambda came: came.target.partition("a%20b%26")[2])
    assert place.post("/x?y", body=b"body").status == 200
    place.tokens.issued.good.clear()
    assert place.post("/x?y", body=b"body").status == 200
    assert place.api.last.target == f"/x?y&key=a%20b%26{place.token}"
    assert [came.body for came in place.api.requests] == [b"body"] * 3


@pytest.mark.route(auth=places(API_KEY))
def test_a_callers_own_parameter_is_kept_and_its_answer_not_touched(place):
    place.api.says(reply(302, "Location: /b?api_key=mine&x=1"))
    answer = place.get("/a?api%5fkey=mine")
    assert place.api.last.target == "/a?api%5fkey=mine"
    assert answer.one("Location") == "/b?api_key=mine&x=1"


@pytest.mark.route(auth=places(API_KEY, incoming="reject"))
def test_a_callers_own_parameter_may_be_refused(place):
    answer = place.get("/a?x&api_key=1")
    assert answer.status == 403
    assert "the query parameter api_key" in answer.json["detail"]
    assert place.get("/a?x").status == 200


@pytest.mark.route(auth=places(API_KEY), rewrite=False)
def test_what_an_answer_repeats_of_the_query_does_not_reach_the_caller(place):
    def answer(came, _wire):
        key = came.target.partition("?")[2].rpartition("&")[2]
        links = f"<https://other.example/p?{key}&page=2>; rel=next, </q?a&{key}>; rel=prev"
        escaped = key.replace("=", "%3D")
        return reply(
            302,
            f"Location: /login?next=%2Fa%3Fx%26{escaped}%26y&{key}",
            f"Content-Location: /a?{key}",
            f"Link: {links}",
        )

    place.api.answer = answer
    came = place.get("/a?x")
    assert came.one("Location") == "/login?next=%2Fa%3Fx%26y"
    assert came.one("Content-Location") == "/a"
    assert came.one("Link") == "<https://other.example/p?page=2>; rel=next, </q?a>; rel=prev"
    assert place.token.encode() not in came.head


@pytest.mark.route(auth=places(API_KEY), allow={"methods": ["GET"], "paths": ["/a"]})
def test_allow_judges_the_path_alone(place):
    assert place.get("/a?api=1").status == 200
    assert place.get("/b").status == 403


def test_a_credential_in_a_query_goes_over_tls_or_loopback_only_and_is_warned_about():
    route = {
        "name": "api",
        "upstream": "http://api.example",
        "insecure": True,
        "auth": {"grant": "static", "token": "t", "inject": [API_KEY]},
    }
    checked = authproxy("check", config={"routes": [route]})
    assert checked.returncode == 2
    output = checked.stdout
    assert "routes[0].upstream: would carry the credential over plain http" in output
    assert "one in the query is never sent so" in output
    with running_proxy({"routes": [route | {"upstream": "https://api.example"}]}) as proxy:
        assert "the query parameter api_key, which servers and proxies log" in proxy.log()


# ── cookies ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.route(auth=places(SESSION, incoming="replace"))
@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ([], ["{}"]),
        (["cookie: a=1; b=2"], ["a=1; b=2; {}"]),
        (["Cookie: a=1", "X-A: 1", "Cookie: b=2"], ["a=1; b=2; {}"]),
        (["Cookie: JSESSIONID=mine"], ["{}"]),
        (["Cookie: a=1;JSESSIONID=mine;  b=2; jsessionid=3"], ["a=1;  b=2; jsessionid=3; {}"]),
    ],
)
def test_a_cookie_joins_the_callers_own(place, lines, sent):
    for _ in range(3):
        assert place.get("/a", *lines).status == 200
        assert place.api.last.all("Cookie") == [sent[0].format(f"JSESSIONID={place.token}")]


@pytest.mark.route(auth=places(SESSION))
def test_the_session_stays_ours(place):
    place.api.says(
        reply(200, "Set-Cookie: JSESSIONID=next; Path=/", "Set-Cookie: theme=dark; Path=/", "X-A: 1")
    )
    for _ in range(3):
        assert place.get().all("Set-Cookie") == ["theme=dark; Path=/"]
    own = place.get("/", "Cookie: JSESSIONID=mine")
    assert len(own.all("Set-Cookie")) == 2  # of a session that is the caller's


# ── a login that answers with a cookie or a header; an upstream that says no by a redirect ───────


LOGIN = {
    "grant": "token_request",
    "url": "{api}/login",
    "form": {"user": "u", "pass": "s3cr3t-of-login"},
    "response": {"token": {"cookie": "JSESSIONID"}},
    "inject": [SESSION],
}


class Site:
    """A site for people: who has no session is sent to the login."""

    def __init__(self, place) -> None:
        self.sessions = []
        self.logins = 0
        self.location = "/login?next=%2F"
        self.status = 302
        self.wrong = False
        place.api.answer = self.answer

    def answer(self, came: Message, _wire) -> bytes:
        if came.path == "/login":
            self.logins += 1
            if self.wrong:
                return reply(200, "Content-Type: text/html", "Set-Cookie: visitor=1", body=b"<html>again")
            self.sessions = [f"session-{self.logins}"]
            set_cookie = f"Set-Cookie: JSESSIONID={self.sessions[0]}; Path=/; HttpOnly; Max-Age=600"
            return reply(302, "Set-Cookie: JSESSIONID=", set_cookie, "Location: /home")
        if came.one("Cookie") not in [f"JSESSIONID={each}" for each in self.sessions]:
            return reply(self.status, *([f"Location: {self.location}"] if self.location else []))
        return reply(200, body=b"in")


@pytest.mark.route(auth=LOGIN, retry={"redirects": ["/login**", "https://sso.example/**"]})
@pytest.mark.parametrize(
    "location",
    ["/login", "/login?next=%2F", "{api}/login/again", "../login", "https://sso.example/auth?x", "/%6cogin"],
)
def test_a_redirect_to_the_login_has_the_session_renewed_and_the_request_repeated(place, location):
    site = Site(place)
    assert place.get("/a/b").status == 200
    logins, site.sessions, site.location = site.logins, [], location.replace("{api}", place.api.url)
    answer = place.get("/a/b")
    assert (answer.status, answer.body) == (200, b"in")
    assert site.logins == logins + 1


@pytest.mark.route(auth=LOGIN, retry={"redirects": ["/login**"]})
@pytest.mark.parametrize(
    "location", ["/logout", "https://sso.example/login", "/a/login", "//other.example/login", ""]
)
def test_another_redirect_is_the_answer(place, location):
    site = Site(place)
    place.get()
    logins, site.sessions, site.location = site.logins, [], location
    assert place.get().status == 302
    assert site.logins == logins


@pytest.mark.route(auth=LOGIN, retry={"redirects": ["/login**"]})
def test_what_may_have_been_applied_is_not_repeated_after_a_redirect(place):
    site = Site(place)
    assert place.get().status == 200
    site.sessions = []
    answer = place.post("/order", body=b"one")
    assert answer.status == 302
    assert "not repeated: a POST that is answered 302" in answer.one("Proxy-Status")
    assert place.get().status == 200  # by the session that was set aside for
    assert [came.method for came in place.api.requests if came.path == "/order"] == ["POST"]


@pytest.mark.route(auth=LOGIN, retry={"statuses": [203]})
def test_a_status_that_is_no_error_may_mean_no_as_well(place):
    site = Site(place)
    assert place.get().status == 200
    logins, site.sessions, site.status, site.location = site.logins, [], 203, ""
    assert place.get().status == 200
    assert site.logins == logins + 1


@pytest.mark.route(auth=LOGIN, retry={"redirects": ["/login**"], "cooldown": "1h"})
def test_a_login_page_for_ever_costs_one_login(place):
    site = Site(place)
    assert place.get().status == 200
    place.api.answer = lambda came, wire: (
        site.answer(came, wire) if came.path == "/login" else reply(302, "Location: /login")
    )
    logins = site.logins
    assert [place.get().status for _ in range(4)] == [302] * 4
    assert site.logins == logins + 1


@pytest.mark.route(auth=LOGIN | {"form": {"user": "w"}})
def test_a_login_form_that_comes_again_is_a_rejection_that_is_not_tried_twice(place):
    site = Site(place)
    site.wrong = True
    answers = [place.get(), place.get()]
    assert [each.status for each in answers] == [502, 503]
    assert "without the cookie JSESSIONID; the cookies there are: visitor" in answers[0].json["detail"]
    assert site.logins == 1


KEYSTONE = {
    "grant": "token_request",
    "url": "{api}/v3/auth/tokens",
    "json": {"user": "u", "password": "s3cr3t-of-keystone"},
    "response": {"token": {"header": "X-Subject-Token"}, "expires_at": "/token/expires_at"},
    "scheme": "",
    "header": "X-Auth-Token",
}


@pytest.mark.route(auth=KEYSTONE)
def test_a_token_may_come_in_a_header(place):
    place.api.answer = lambda came, _wire: (
        json_reply({"token": {"expires_at": "2099-01-01T00:00:00Z"}}, 201, "X-Subject-Token: gAAAA-k1")
        if came.path == "/v3/auth/tokens"
        else reply(200)
    )
    assert [place.get("/servers").status for _ in range(2)] == [200, 200]
    assert [came.one("X-Auth-Token") for came in place.api.requests] == [None, "gAAAA-k1", "gAAAA-k1"]


# ── the rest that knows of it ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_injected_is_shown_without_a_secret_and_survives_a_store_and_workers(tmp_path, workers):
    tokens = Upstream(lambda _came, _wire: json_reply({"access_token": "t0k3n", "tenant": "geo"}))
    with tokens, Upstream() as api:
        route = {
            "name": "api",
            "upstream": api.url,
            "auth": {
                "grant": "client_credentials",
                "token_url": f"{tokens.url}/token",
                "client_id": "c",
                "client_secret": "s",
                "inject": [
                    {"header": "X-Key", "value": "s3cr3t-app-id:{token}"},
                    {"header": "X-Tenant", "value": "{response:/tenant}"},
                    {"query": "k"},
                    {"cookie": "c"},
                ],
            },
        }
        settings = {
            "routes": [route],
            "workers": workers,
            "token_store": {"type": "file", "path": str(tmp_path / "tokens")},
            "log": {"level": "debug"},
        }
        for _ in range(2):  # the second time with the token of the store
            with running_proxy(settings) as proxy:
                assert get(proxy.url).status == 200
                came = api.last
                assert came.one("X-Key") == "s3cr3t-app-id:t0k3n"
                assert came.one("X-Tenant") == "geo"
                assert came.target == "/?k=t0k3n"
                assert came.one("Cookie") == "c=t0k3n"
                status = get(proxy.admin_url, "/api/status").json["routes"][0]
                assert status["injects"] == [
                    {"header": "X-Key", "value": "••••{token}"},
                    {"header": "X-Tenant", "value": "{response:/tenant}"},
                    {"query": "k", "value": "{token}"},
                    {"cookie": "c", "value": "{token}"},
                ]
                shown = get(proxy.admin_url, "/api/requests").body.decode() + proxy.log()
                for secret in ("s3cr3t-app-id", "t0k3n"):
                    assert secret not in shown
        assert len(tokens.requests) == 1


@pytest.mark.parametrize(
    ("auth", "route", "said"),
    [
        ({"inject": []}, {}, "auth.inject: should name a place at least"),
        ({"inject": [{}]}, {}, "auth.inject[0]: should name one place: header, basic, query or cookie"),
        ({"inject": [{"header": "A", "query": "b"}]}, {}, "should name one place"),
        ({"inject": [{"header": "A", "value": "fixed"}]}, {}, "value should hold {token}"),
        ({"inject": [{"header": "A", "value": "{tokens}"}]}, {}, "should hold no braces but {token}"),
        ({"inject": [{"header": "A_B"}, {"header": "a-b"}]}, {}, "auth.inject: names A_B twice"),
        ({"inject": [API_KEY, API_KEY]}, {}, "names the query parameter api_key twice"),
        (
            {"inject": [{"basic": {"username": "a"}}, {"header": "authorization"}]},
            {},
            "names Authorization twice",
        ),
        (
            {"inject": [{"basic": {"username": "a", "password": "b"}}]},
            {},
            "should hold {token} in one of them",
        ),
        ({"inject": [{"basic": {"username": "a:b"}}]}, {}, "must not contain a colon"),
        ({"inject": [{"header": "Connection"}]}, {}, "names a header that the proxy writes itself"),
        ({"inject": [{"header": "A", "value": "{response:/x}"}]}, {}, "wants a field of a token reply"),
        ({"inject": [API_KEY], "scheme": "Token"}, {}, "auth.scheme: does not go with `inject`"),
        ({"inject": [{"cookie": "a b"}]}, {}, "should be the name of a cookie"),
        ({"inject": [SESSION]}, {"headers": {"set": {"Cookie": "x"}}}, "is already set by `auth`"),
        (
            {"inject": [{"header": "X-Team"}]},
            {"headers": {"set": {"X_Team": "x"}}},
            "is already set by `auth`",
        ),
        ({"inject": [SESSION], "token": "a;b"}, {}, "semicolon"),
        ({}, {"retry": {"redirects": ["login"]}}, "should be a pattern for a path"),
        ({}, {"retry": {"statuses": [200]}}, "should be at least 201"),
    ],
)
def test_what_cannot_be_is_a_fault_with_its_place(auth, route, said):
    made = {
        "name": "api",
        "upstream": "https://api.example",
        "auth": {"grant": "static", "token": "t0k3n", **auth},
        **route,
    }
    checked = authproxy("check", config={"routes": [made]})
    assert checked.returncode == 2, checked.stderr
    assert said in checked.stdout
    assert re.search(r"\.yaml:\d+:\d+: routes\[0\]\.", checked.stdout)
    assert "s3cr3t" not in checked.stdout


@pytest.mark.route(auth=places(API_KEY, SESSION))
def test_a_websocket_gets_it_in_its_handshake(place):
    place.api.says(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    with place.connect() as wire:
        wire.send(place.request("GET", "/ws?a", "Connection: Upgrade", "Upgrade: websocket"))
        assert wire.head().status == 101
    came = place.api.last
    assert came.target == f"/ws?a&api_key={place.token}"
    assert came.one("Cookie") == f"JSESSIONID={place.token}"


def test_the_taps_give_it_as_it_goes():
    listed = [
        {"basic": {"username": "oauth2", "password": "{token}"}},
        {"header": "X-K", "value": "k {token}"},
        SESSION,
        API_KEY,
    ]
    route = {"name": "api", "upstream": "https://api.example"}
    route["auth"] = {"grant": "static", "token": "t0k3n", "inject": listed}
    basic = base64.b64encode(b"oauth2:t0k3n").decode()

    def printed(*options):
        return authproxy("token", "api", *options, config={"routes": [route]}).stdout

    assert printed("--header") == f"Authorization: Basic {basic}\nX-K: k t0k3n\nCookie: JSESSIONID=t0k3n\n"
    assert 'url-query = "api_key=t0k3n"' in printed("--format", "curl")
    assert printed("--format", "netrc") == "machine api.example login oauth2 password t0k3n\n"


def test_nothing_of_what_was_sent_is_shown_wherever_an_upstream_repeats_it():
    def answer(came, _wire):
        if came.path == "/token":
            return json_reply({"access_token": "t0k3n-of-some-length", "csrf": "csrf-of-some-length"})
        said = " ".join(came.one(name) or "" for name in ("Authorization", "X-CSRF")) + came.target
        return reply(401, f"X-Echo: {said}", "Content-Type: text/plain", body=said.encode())

    with Upstream(answer) as server:
        route = {
            "name": "api",
            "upstream": server.url,
            "inspect": {"bodies": "64KiB"},
            "auth": {
                "grant": "client_credentials",
                "token_url": f"{server.url}/token",
                "client_id": "c",
                "client_secret": "s3cr3t-of-a-client",
                "inject": [
                    {"basic": {"username": "${NAME}", "password": "{token}"}},
                    {"header": "X-CSRF", "value": "{response:/csrf}"},
                    {"query": "k", "value": "${WORD} {token}"},
                ],
            },
        }
        env = {"NAME": "n4m3-of-a-user", "WORD": "w0rd"}
        with running_proxy({"routes": [route], "log": {"level": "debug"}}, env=env) as proxy:
            answered = get(proxy.url, "/x")
            assert answered.status == 401
            [newest, *_] = get(proxy.admin_url, "/api/requests").json["requests"]
            shown = get(proxy.admin_url, f"/api/requests/{newest['id']}").body.decode()
            shown += get(proxy.admin_url, "/api/status").body.decode() + proxy.log()
            shown += answered.one("Proxy-Status") or ""
    basic = base64.b64encode(b"n4m3-of-a-user:t0k3n-of-some-length").decode()
    for secret in ("t0k3n-of-some-length", "csrf-of-some-length", *env.values(), basic, basic[16:-8]):
        assert secret not in shown


@pytest.mark.route(
    auth=places({"query": "api_key", "value": "a b&{token};#x"}), retry={"redirects": ["/never"]}
)
def test_a_value_of_any_characters_leaves_nothing_behind_in_a_link(place):
    def answer(came, _wire):
        query = came.target.partition("?")[2]
        return reply(302, f"Location: /next?{query}&z=1", f"Refresh: 0; url=/x?{query}")

    place.api.answer = answer
    came = place.get("/x?a=1")
    assert came.one("Location") == "/next?a=1&z=1"
    assert came.one("Refresh") == "0; url=/x?a=1"


@pytest.mark.route(
    auth=LOGIN | {"form": {"user": "host"}}, retry={"redirects": ["/login**"]}, preserve_host=True
)
def test_an_upstream_that_calls_itself_by_the_callers_host_is_understood(place):
    site = Site(place)
    assert place.get("/a").status == 200
    logins, site.sessions, site.location = site.logins, [], f"http://{place.host}/login"
    assert place.get("/a").status == 200
    assert site.logins == logins + 1
