"""What the admin API is told: by this process of tokens, by all that serve of requests."""

import threading
from datetime import timedelta

import pytest

from authproxy.admin import metrics
from authproxy.app import local_authority
from authproxy.app.admin import make_backend
from authproxy.app.application import App
from authproxy.app.local_authority import LocalAuthority
from authproxy.app.tls import tls_contexts
from authproxy.config.read import parse
from authproxy.errors import CredentialRejected, Fault, NoRoute, NoSuchRequest, NotReplayable
from authproxy.observe.feed import MAX_RATE
from authproxy.observe.recent import Filter
from authproxy.observe.standing import Refusal
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.support.records import record
from tests.support.token_sources import OneAnswer

CONFIG = """
admin: {listen: "127.0.0.1:0", keep: 3}
routes:
- {name: api, upstream: "https://up.example", auth: {grant: client_credentials, token_url: "https://id.invalid/t",
    client_id: a, client_secret: s3cr3t}}
- {name: basic, path: /b, upstream: "https://up.example", auth: {grant: basic, username: a, password: s3cr3t}}
- {name: plain, path: /p, upstream: "https://up.example", auth: {grant: none}}
- {name: person, path: /l, upstream: "https://up.example", auth: {grant: authorization_code, client_id: a,
    authorization_url: "https://id.invalid/a", token_url: "https://id.invalid/t", scheme: ""}}
"""
LASTS = Refusal(401, "401", "a token renewed 2 s ago, repeated once", "mend it", 70.0, lasts=True)


class Others:
    """Two processes that serve."""

    def __init__(self):
        self.told = []
        self.answers = {}

    async def counts(self):
        return []

    async def ask_all(self, question, about):
        self.told.append((question, about))
        return self.answers.get(question, [])

    def watch(self, rate):
        self.told.append(("watch", rate))

    def replaced(self, *what):
        self.told.append(("replaced", *what))

    def forgotten(self, *what):
        self.told.append(("forgotten", *what))


@pytest.fixture
async def app(tmp_path):
    behind = {}
    config = parse(CONFIG, str(tmp_path / "proxy.yaml"), environ={})
    async with App(config, lambda route: behind.setdefault(route.name, OneAnswer(Token("a")))) as made:
        made.behind = behind
        made.others = Others()
        made.grant_sources.login_url = "http://127.0.0.1:8081"
        made.shown = dict.fromkeys(made.config.listen, "http://127.0.0.1:8080")
        yield made


@pytest.fixture
def backend(app):
    return make_backend(app)


async def test_the_status_is_that_of_now(app, backend):
    app.config_fault = Fault("proxy.yaml", 3, 5, "routes", "is required")
    app.observing.counters.request(record(route="api", status=200))
    app.observing.counters.request(record(route="api", status=502))
    app.observing.counters.retries["api", "accepted"] += 2
    app.others.answers["latencies"] = [{"api": [0.001]}, {"api": [0.003], "plain": [1.0]}]
    told = await backend.status()
    assert told["listeners"] == ["http://127.0.0.1:8080"]
    assert told["config"]["fault"] == {
        "file": "proxy.yaml", "line": 3, "column": 5, "key": "routes", "message": "is required",
    }  # fmt: skip
    api, basic, plain, person = told["routes"]
    assert (api["requests"], api["errors"], api["retries"]) == (2, 1, 2)
    assert api["latency_ms"] == {"p50": 1.0, "p90": 3.0, "p99": 3.0}
    assert [each["grant"] for each in told["routes"]] == [
        "client_credentials",
        "basic",
        "none",
        "authorization_code",
    ]
    assert basic["injects"] == [{"header": "Authorization", "value": "Basic {token}"}]
    assert (plain["injects"], plain["state"]) == ([], "no_token_needed")
    assert person["injects"] == [{"header": "Authorization", "value": "{token}"}]
    assert [each["login_url"] for each in (api, person)] == [None, "http://127.0.0.1:8081/login/person"]
    assert "s3cr3t" not in str(told)


async def test_the_counts_of_all_processes_and_the_ends_of_tokens_are_told(app, backend, monkeypatch):
    app.observing.counters.request(record(route="api"))
    snapshot = app.observing.snapshot()
    assert ["api", "idle", 0] in snapshot["connections"]

    async def counts():
        return [snapshot | {"connections": [["api", "idle", 2]]}]

    monkeypatch.setattr(app.others, "counts", counts)
    app.behind["api"].answer = Token("t0k3n", expires_at=4e9)
    await app.token(app.config.routes[0])
    told = (await backend.metrics()).decode()
    assert 'authproxy_requests_total{method="GET",route="api",status="200"} 2.0' in told
    assert 'route="api",state="idle"} 2.0' in told
    assert "4e+09" in told
    assert 'authproxy_route_state{route="api",state="valid"} 1.0' in told
    assert "authproxy_config_reload_failed 0.0" in told
    assert "t0k3n" not in told


async def test_the_counts_are_put_into_words_beside_the_loop_which_serves_meanwhile(backend, monkeypatch):
    made_by = []
    monkeypatch.setattr(metrics, "exposition", lambda *_, **__: made_by.append(threading.current_thread()))
    await backend.metrics()
    assert made_by != [threading.current_thread()]
    assert len(made_by) == 1


async def test_a_route_is_renewed_and_everybody_goes_on_with_the_new_token(app, backend):
    [route] = [each for each in app.config.routes if each.name == "api"]
    await app.token(route)
    app.behind["api"].answer = Token("b")
    told = await backend.refresh("api")
    assert (told["name"], told["state"]) == ("api", "valid")
    assert ("replaced", route.key, Token("a"), Token("b")) in app.others.told
    with pytest.raises(NoRoute):
        await backend.refresh("nobody")


async def test_a_first_token_replaces_none(app, backend):
    await backend.refresh("api")
    await backend.refresh("plain")
    assert not [each for each in app.others.told if each[0] == "replaced"]


async def test_a_renewal_that_fails_is_told(app, backend):
    app.behind["api"].answer = CredentialRejected("no")
    with pytest.raises(CredentialRejected):
        await backend.refresh("api")
    assert (await backend.route_status("api"))["state"] == "rejected"


async def test_what_is_forgotten_is_forgotten_by_everybody(app, backend):
    await backend.refresh("api")
    await backend.forget("api")
    await backend.forget("plain")
    assert (await backend.route_status("api"))["state"] == "idle"
    [(_, key)] = [each for each in app.others.told if each[0] == "forgotten"]
    assert key == app.config.routes[0].key


async def test_a_reload_is_the_applications(app, backend):
    assert await backend.reload() == []
    fault = Fault("proxy.yaml", 1, 1, "routes", "is required")

    async def reload():
        return [fault]

    app.reload_hook = reload
    assert await backend.reload() == [fault]


# ── requests ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_requests_of_all_processes_are_merged_newest_first_and_no_more_than_are_kept(app, backend):
    app.others.answers["requests"] = [[{"id": "5"}, {"id": "2"}], [{"id": "4"}, {"id": "3"}, {"id": "1"}]]
    assert [each["id"] for each in await backend.requests(Filter())] == ["5", "4", "3"]
    assert [each["id"] for each in await backend.requests(Filter(limit=2))] == ["5", "4"]
    with pytest.raises(NoRoute):
        await backend.requests(Filter(route="nobody"))


async def test_one_request_is_told_by_who_has_it(app, backend):
    app.others.answers["request"] = [None, {"id": "5"}]
    assert await backend.request("5") == {"id": "5"}
    app.others.answers["request"] = [None]
    with pytest.raises(NoSuchRequest):
        await backend.request("5")


async def test_one_is_sent_again_by_who_has_it_or_it_is_said_why_not(app, backend):
    app.others.answers["replay"] = [None, {"id": "6"}]
    assert await backend.replay("5") == "6"
    app.others.answers["replay"] = [{"error": ["NotReplayable", "no", None, None]}]
    with pytest.raises(NotReplayable):
        await backend.replay("5")
    app.others.answers["replay"] = []
    with pytest.raises(NoSuchRequest):
        await backend.replay("5")


# ── the live stream ──────────────────────────────────────────────────────────────────────────────


class Told(list):
    def publish(self, name, data):
        self.append((name, data))


async def test_requests_are_told_to_who_watches(app, backend, monkeypatch):
    told = Told()
    told.lose = lambda count: told.append(("lost", count))
    monkeypatch.setattr(backend, "streams", told)
    app.observing.seen([{"id": "1"}, {"id": "2"}], 0)
    app.observing.seen([], 3)
    assert told == [("request", {"id": "1"}), ("request", {"id": "2"}), ("lost", 3)]


async def test_who_serves_is_told_how_much_watchers_want_to_hear(app, backend):
    with backend.streams.open(50):
        looking = backend._looking
        with backend.streams.open():
            assert backend._looking is looking, "one look at the states does for all"
    assert [each[1] for each in app.others.told if each[0] == "watch"] == [50, MAX_RATE, 50, 0]


async def test_while_somebody_watches_each_change_of_a_state_is_told_once(app, backend, monkeypatch):
    told = []
    with backend.streams.open():
        monkeypatch.setattr(
            backend.streams, "publish", lambda name, data: told.append((name, data["name"], data["state"]))
        )
        await settle()
        await backend.refresh("api")
        await settle()
        app.observed.standings.of("basic", app.config.routes[1].key).note(LASTS)
        await settle()
        assert told == [
            ("status", "api", "renewing"), ("status", "api", "valid"), ("status", "basic", "refused"),
        ]  # fmt: skip
    assert [each for each in app.others.told if each[0] == "watch"] == [("watch", MAX_RATE), ("watch", 0)]
    await settle()
    assert backend._looking is None
    await backend.forget("api")
    await settle()
    assert len(told) == 3


async def test_the_end_ends_the_streams(app, backend):
    app.backend = backend
    await app.drain()
    assert backend.streams._closed


# ── who may use it ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("top", "serves"),
    [
        ("", True),
        ("listen: unix:/run/a.sock", True),  # on a socket beside it
        ("listen: unix:/run/a.sock\nadmin: {listen: '127.0.0.1:0'}", False),
        ("listen: [unix:/run/a.sock, '127.0.0.1:0']", True),
        ("listen: unix:/run/a.sock\nadmin: {listen: unix:/run/b.sock}", True),
        ("listen: unix:/run/a.sock\naccess: {tokens: [a-key-of-some-length]}", True),
    ],
)
async def test_a_proxy_for_its_owner_alone_has_no_api_that_others_reach(tmp_path, top, serves):
    route = "routes: [{name: a, upstream: 'https://up.example', auth: {grant: none}}]"
    async with App(parse(f"{top}\n{route}", str(tmp_path / "proxy.yaml"), environ={})) as app:
        assert make_backend(app).serves_api is serves
        assert make_backend(app).guard is app.site.admin_guard


async def test_each_routes_own_address_is_told_as_it_really_is(tmp_path):
    routes = "".join(
        f"\n- {{name: {name}, upstream: 'https://up.example', auth: {{grant: none}}, {keys}}}"
        for name, keys in [("a", "listen: '127.0.0.1:0'"), ("b", "listen: unix:/run/b"), ("c", "path: /c")]
    )
    config = parse(f"routes:{routes}", str(tmp_path / "proxy.yaml"), environ={})
    async with App(config) as app:
        app.shown = {
            "127.0.0.1:8080": "http://127.0.0.1:8080",
            "127.0.0.1:0 for a": "http://127.0.0.1:4711",
            "unix:/run/b": "unix:/run/b",
        }
        told = await make_backend(app).status()
    assert [each["listen"] for each in told["routes"]] == ["127.0.0.1:4711", "unix:/run/b", None]
    assert told["listeners"] == ["http://127.0.0.1:8080", "http://127.0.0.1:4711", "unix:/run/b"]


async def test_the_authority_is_the_one_at_work_and_its_file_is_in_the_status(tmp_path, monkeypatch):
    monkeypatch.setattr(local_authority, "state_directory", lambda: tmp_path)
    config = parse(f"tls: auto\n{CONFIG}", str(tmp_path / "proxy.yaml"), environ={})
    async with App(config, tls=tls_contexts(config)) as made:
        backend = make_backend(made)
        file = tmp_path / "authority" / "ca.pem"
        assert await backend.authority() == file.read_bytes()
        assert (await backend.status())["ca_file"] == str(file)
        LocalAuthority(tmp_path / "authority").get(lasts=timedelta(days=400))
        assert await backend.authority() == file.read_bytes(), "though another process has made it"


async def test_without_auto_there_is_no_authority(app):
    backend = make_backend(app)
    assert await backend.authority() is None
    assert "ca_file" not in await backend.status()


async def test_the_forward_proxys_authority_is_that_of_the_configuration_at_work(tmp_path):
    config = parse(f"forward: true\n{CONFIG}", str(tmp_path / "proxy.yaml"), environ={})
    tls = tls_contexts(config)
    async with App(config, tls=tls) as made:
        assert await make_backend(made).forward_authority() == tls.forward.root_pem
        assert await make_backend(made).authority() is None


async def test_where_no_upstream_speaks_tls_there_is_an_authority_for_nobody(tmp_path):
    told = "forward: true\nroutes: [{name: api, upstream: 'http://up.example', auth: {grant: none}}]"
    config = parse(told, str(tmp_path / "proxy.yaml"), environ={})
    async with App(config, tls=tls_contexts(config)) as made:
        assert await make_backend(made).forward_authority() == b""


async def test_without_forward_there_is_no_authority_for_it(app):
    assert await make_backend(app).forward_authority() is None
