"""The views of the admin listener, before a backend that is a fake."""

from urllib.parse import quote

import pytest

from authproxy.admin.application import admin_application
from authproxy.admin.events import Streams
from authproxy.admin.status import RouteStatus, Trouble
from authproxy.errors import LoginRequired, TokenUnavailable
from authproxy.grants.steps import Show
from authproxy.proxy.guard import Guard

from .talk import Client

KEY = "an-access-key"
LOGIN_URL = "https://id.example/authorize?state=s&x=%22"


class Backend:
    """Two routes, and a login that shows what it is told to."""

    def __init__(self):
        self.guard = Guard()
        self.serves_api = True
        self.streams = Streams()
        self.routes = [
            RouteStatus("fine", "valid"),
            RouteStatus("bad", "rejected", Trouble("wrong password", "mend it")),
        ]
        self.shows = Show(LOGIN_URL)
        self.ends = ("fine", None)
        self.trouble = None
        self.certificate = self.forward_certificates = None
        self.begun = []
        self.ended = []

    def states(self):
        return self.routes

    async def status(self):
        return {"routes": []}

    async def metrics(self):
        return b"authproxy_requests_total 1.0\n"

    async def authority(self):
        return self.certificate

    async def forward_authority(self):
        return self.forward_certificates

    async def begin_login(self, route, callback_url):
        self.begun.append((route, callback_url))
        if self.trouble is not None:
            raise self.trouble
        return self.shows

    async def end_login(self, query):
        self.ended.append(query)
        if self.trouble is not None:
            raise self.trouble
        return self.ends


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
async def client(backend):
    async with Client(admin_application(backend, form_seconds=10)) as client:
        yield client


@pytest.fixture
async def locked(backend):
    """The same where callers need a key."""
    backend.guard = Guard(access_header="X-Key", access_keys=[KEY])
    async with Client(admin_application(backend, form_seconds=10)) as client:
        yield client


# ── health and counts ────────────────────────────────────────────────────────────────────────────


async def test_who_lives_says_so_whatever_state_the_routes_are_in(client):
    reply = await client.ask("/healthz")
    assert (reply.status, reply.json()) == (200, {"alive": True})


async def test_readiness_names_the_routes_in_trouble_and_no_other(client, backend):
    reply = await client.ask("/readyz")
    trouble = {"state": "rejected", "cause": "wrong password", "hint": "mend it"}
    assert (reply.status, reply.json()) == (503, {"ready": False, "routes": {"bad": trouble}})
    backend.routes.pop()
    reply = await client.ask("/readyz")
    assert (reply.status, reply.json()) == (200, {"ready": True})


@pytest.mark.parametrize(("route", "status"), [("fine", 200), ("bad", 503), ("nowhere", 404), ("", 404)])
async def test_one_route_can_be_asked_for(client, route, status):
    assert (await client.ask(f"/readyz?route={route}")).status == status


async def test_no_more_than_one_route_can_be_asked_for(client):
    reply = await client.ask("/readyz?route=fine&route=bad")
    assert (reply.status, reply.json()["detail"].partition(";")[0]) == (400, "route: is given more than once")


async def test_the_counts_come_in_the_format_of_prometheus(client):
    reply = await client.ask("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.body == b"authproxy_requests_total 1.0\n"


# ── who may ask ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "page",
    ["/", "/page/main.js", "/healthz", "/readyz", "/metrics", "/login/fine", "/callback?state=s", "/no"],
)
async def test_a_host_that_is_not_ours_is_answered_nothing(client, backend, page):
    assert (await client.ask(page, host="evil.example")).status == 403
    assert not backend.begun
    assert not backend.ended


@pytest.mark.parametrize(
    ("method", "page", "status"),
    [
        ("GET", "/", 403),
        ("GET", "/page/main.js", 403),
        ("GET", "/metrics", 403),
        ("GET", "/login/fine", 403),
        ("POST", "/login/fine", 403),
        ("GET", "/callback?state=s", 200),  # the login's server is another site
        ("HEAD", "/callback?state=s", 403),
        ("POST", "/callback?state=s", 403),
    ],
)
async def test_only_the_callback_may_be_asked_for_by_another_sites_page(client, method, page, status):
    headers = {"Sec_Fetch_Site": "cross-site", "Origin": "https://id.example"}
    assert (await client.ask(page, method=method, **headers)).status == status


@pytest.mark.parametrize(
    ("page", "without", "with_key"),
    [
        ("/", 200, 200),
        ("/page/main.js", 200, 200),
        ("/page/nothing.js", 404, 404),
        ("/healthz", 200, 200),
        ("/readyz?route=fine", 200, 200),
        ("/callback?state=s", 200, 200),
        ("/metrics", 401, 200),
        ("/api/status", 401, 200),
        ("/no/such/page", 401, 404),
    ],
)
async def test_with_keys_everything_wants_one_but_health_and_the_callback(locked, page, without, with_key):
    refused = await locked.ask(page)
    assert refused.status == without
    assert refused.headers.get("www-authenticate", "").startswith("AuthproxyKey") == (without == 401)
    assert (await locked.ask(page, X_Key="wrong")).status == without
    assert (await locked.ask(page, X_Key=KEY)).status == with_key


@pytest.mark.parametrize("page", ["/", "/page/main.js"])
async def test_where_the_api_is_not_served_the_page_is_not_either(client, backend, page):
    backend.serves_api = False
    reply, api = await client.ask(page), await client.ask("/api/status")
    assert (reply.status, reply.json()["detail"]) == (404, api.json()["detail"])


async def test_the_page_says_in_which_header_the_key_goes_and_not_the_key(locked, client):
    assert 'name="key-header" content="X-Key"' in (await locked.ask("/")).text
    assert KEY not in (await locked.ask("/")).text


async def test_nothing_can_be_posted_to_the_page(client):
    reply = await client.ask("/", method="POST")
    assert (reply.status, reply.headers["allow"]) == (405, "GET,HEAD")


# ── a login begins ───────────────────────────────────────────────────────────────────────────────


async def test_a_login_sends_the_browser_on_and_names_where_it_comes_back_to(client, backend):
    reply = await client.ask("/login/fine", host="localhost:8081")
    assert (reply.status, reply.headers["location"]) == (302, LOGIN_URL)
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert backend.begun == [("fine", "http://localhost:8081/callback")]


@pytest.mark.parametrize(
    "back_to",
    [
        "http://127.0.0.1:8081/callback",
        "http://localhost:8081/callback",
        "https://[::1]:8081/callback",
    ],
)
async def test_a_login_that_comes_back_to_this_page_needs_no_click(client, backend, back_to):
    backend.shows = Show(LOGIN_URL, back_to=back_to)
    assert (await client.ask("/login/fine", host="localhost:8081")).status == 302


@pytest.mark.parametrize(
    "back_to",
    [
        "https://my.app/cb",
        "https://my.app:8081/callback",
        "http://127.0.0.1:8082/callback",
        "http://127.0.0.1:8081/cb",
    ],
)
async def test_a_login_that_comes_back_elsewhere_is_completed_by_pasting_the_url(client, backend, back_to):
    backend.shows = Show(LOGIN_URL, back_to=back_to)
    reply = await client.ask("/login/fine", host="localhost:8081")
    assert reply.status == 200
    assert 'href="https://id.example/authorize?state=s&amp;x=%22"' in reply.text
    assert "form-action 'self'" in reply.headers["content-security-policy"]
    reply = await client.ask(f"/callback?url={quote(back_to + '?code=c&state=s', safe='')}")
    assert (reply.status, backend.ended) == (200, [{"code": "c", "state": "s"}])


async def test_what_is_pasted_and_is_no_redirect_reaches_no_login(client, backend):
    reply = await client.ask("/callback?url=https%3A%2F%2Fmy.app%2Fcb%3Fcode%3Ds3cr3t")
    assert reply.status == 400
    assert "the whole URL that the browser was redirected to" in reply.text
    assert "s3cr3t" not in reply.text
    assert not backend.ended


async def test_a_login_on_another_device_shows_the_code(client, backend):
    backend.shows = Show("https://id.example/device", "WDJB-MJHT", "https://id.example/device?code=1")
    reply = await client.ask("/login/fine")
    assert reply.status == 200
    assert "WDJB-MJHT" in reply.text
    assert "location" not in reply.headers


async def test_a_route_that_nobody_can_log_in_to_says_so(client, backend):
    backend.shows = None
    reply = await client.ask("/login/%3Cb%3E")
    assert reply.status == 404
    assert "There is no route &lt;b&gt; that needs a login." in reply.text


async def test_a_login_that_cannot_begin_says_why_and_what_to_do(client, backend):
    backend.trouble = TokenUnavailable("the issuer is <down>", hint="try later")
    reply = await client.ask("/login/fine")
    assert reply.status == 503
    assert "the issuer is &lt;down&gt;" in reply.text
    assert "try later" in reply.text


async def test_without_its_key_a_browser_gets_a_form_and_no_login_begins(locked, backend):
    reply = await locked.ask("/login/fine")
    assert reply.status == 200
    assert 'type="password"' in reply.text
    assert "form-action 'self'" in reply.headers["content-security-policy"]
    assert not backend.begun


async def test_a_key_in_its_header_begins_the_login_at_once(locked):
    assert (await locked.ask("/login/fine", X_Key=KEY)).status == 302


async def test_the_right_key_in_the_form_begins_the_login(locked, backend):
    reply = await locked.ask("/login/fine", method="POST", body=f"key={KEY}".encode())
    assert reply.status == 200  # no redirect: a form may lead nowhere else
    assert 'content="0; url=https://id.example/authorize?state=s&amp;x=%22"' in reply.text
    assert KEY not in reply.text
    assert len(backend.begun) == 1


@pytest.mark.parametrize(
    "body", [b"", b"key=wrong", b"key=", b"other=" + KEY.encode(), b"key=a&key=" + KEY.encode(), b"\xff\xfe"]
)
async def test_any_other_form_is_asked_for_again(locked, backend, body):
    reply = await locked.ask("/login/fine", method="POST", body=body)
    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith("AuthproxyKey")
    assert "That key is not valid." in reply.text
    assert "wrong" not in reply.text
    assert not backend.begun


async def test_a_form_that_is_too_large_is_not_read(locked, backend):
    assert (await locked.ask("/login/fine", method="POST", body=b"x" * (20 << 10))).status == 413
    assert not backend.begun


# ── a login ends ─────────────────────────────────────────────────────────────────────────────────


async def test_the_callbacks_query_reaches_the_login_it_belongs_to(client, backend):
    reply = await client.ask("/callback?state=s%20s&code=c")
    assert backend.ended == [{"state": "s s", "code": "c"}]
    assert reply.status == 200
    assert "Logged in to fine" in reply.text
    assert "c" not in reply.headers.get("location", "")


async def test_the_advice_of_a_login_is_shown(client, backend):
    backend.ends = ("fine", "no refresh token came")
    assert "no refresh token came" in (await client.ask("/callback?state=s")).text


async def test_a_callback_that_no_login_waits_for_is_a_400(client, backend):
    backend.ends = None
    reply = await client.ask("/callback?state=forged")
    assert reply.status == 400
    assert "forged" not in reply.text


async def test_a_parameter_that_is_there_twice_reaches_no_login(client, backend):
    assert (await client.ask("/callback?state=a&state=b")).status == 400
    assert not backend.ended


async def test_a_login_that_fails_says_why(client, backend):
    backend.trouble = LoginRequired("the user said <no>", hint="log in again")
    reply = await client.ask("/callback?state=s&error=access_denied")
    assert reply.status == 503
    assert "the user said &lt;no&gt;" in reply.text
    assert "log in again" in reply.text


async def test_the_authoritys_certificate_is_given_without_the_key(backend, locked):
    backend.certificate = b"-----BEGIN CERTIFICATE-----"
    answer = await locked.ask("/ca.pem")
    assert (answer.status, answer.body) == (200, backend.certificate)
    assert answer.headers["content-type"] == "application/x-pem-file"
    assert (await locked.ask("/metrics")).status == 401


async def test_where_there_is_no_authority_there_is_no_such_page(client):
    answer = await client.ask("/ca.pem")
    assert answer.status == 404
    assert "`tls: auto` is not set" in answer.json()["detail"]


async def test_the_forward_proxys_authority_is_given_without_the_key_and_is_another_one(backend, locked):
    answer = await locked.ask("/forward-ca.pem")
    assert answer.status == 404
    assert "`forward` is not set" in answer.json()["detail"]
    backend.forward_certificates = b""
    answer = await locked.ask("/forward-ca.pem")
    assert answer.status == 404
    assert "no route's upstream is https" in answer.json()["detail"]
    backend.forward_certificates = b"-----BEGIN CERTIFICATE-----" * 2
    answer = await locked.ask("/forward-ca.pem")
    assert (answer.status, answer.body) == (200, backend.forward_certificates)
    assert answer.headers["content-type"] == "application/x-pem-file"
    assert (await locked.ask("/ca.pem")).status == 404
