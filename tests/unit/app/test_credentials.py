"""Which sources a credential gets, and what the next process knows of it; nobody is asked over a network."""

import asyncio
from dataclasses import replace

import pytest
from pydantic import SecretStr

from authproxy.app.credentials import GrantSources, TokenSources
from authproxy.config.read import parse
from authproxy.errors import ConfigError, CredentialRejected, LoginRequired, TokenUnavailable
from authproxy.grants.source import WatchedSource
from authproxy.observe.counters import Counters
from authproxy.tokens.backoff import BackoffSource
from authproxy.tokens.cache import CachedSource
from authproxy.tokens.shared import SharedSource
from authproxy.tokens.stores import file as stores_file
from authproxy.tokens.stores.file import FileStore
from authproxy.tokens.stores.redis import RedisStore
from authproxy.tokens.token import Token
from tests.support.clock import settle
from tests.support.token_sources import OneAnswer

ISSUER = "https://id.invalid"
PASSWORD = f"grant: password, token_url: {ISSUER}/token, client_id: id, username: joe, password: {'p' * 9}"
LOGIN = f"grant: authorization_code, authorization_url: {ISSUER}/a, token_url: {ISSUER}/token, client_id: id"
MACHINE = f"grant: client_credentials, token_url: {ISSUER}/token, client_id: id, client_secret: s3cr3t-1"


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return a reader of a configuration with one route, `api`, for each `auth` it is given."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def read(*auths, top=""):
        routes = [
            f"- {{name: api{number or ''}, path: /{number}, upstream: https://up.invalid, auth: {{{auth}}}}}"
            for number, auth in enumerate(auths)
        ]
        text = "\n".join([top, "routes:", *routes])
        return parse(text, str(tmp_path / "proxy.yaml"), environ={})

    return read


class Runner:
    """Holds no conversation: each has the outcome that a test says."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.runs = 0

    async def run(self, flow, *, http_proxy):
        assert http_proxy is None
        flow.close()
        self.runs += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


REJECTED = CredentialRejected("wrong password", error="invalid_grant")


# ── one stack a credential ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def behind():
    return OneAnswer(Token("a"))


@pytest.fixture
def sources(behind):
    return TokenSources(lambda _route: behind)


async def test_routes_with_an_equal_auth_have_one_token_and_others_their_own(read):
    made = []

    def inner(route):
        made.append(route.name)
        return OneAnswer(Token(route.name))

    config = read(MACHINE, MACHINE, MACHINE.replace("s3cr3t-1", "s3cr3t-2"))
    sources = TokenSources(inner)
    tokens = [(await sources.stack(route).outer.token()).value for route in config.routes]
    assert tokens == ["api", "api", "api2"]
    assert made == ["api", "api2"]


async def test_plain_forwarding_has_no_source(read, sources):
    [route] = read("grant: none").routes
    assert sources.stack(route) is None
    await sources.adopt(route, Token("a"))  # and nowhere to put a token


async def test_a_token_in_a_file_is_looked_after_outside_of_the_cache(read, sources, tmp_path):
    (tmp_path / "token").write_text("a")
    one, other = read("grant: file, path: token", MACHINE).routes
    stack = sources.stack(one)
    assert isinstance(stack.outer, WatchedSource)
    assert isinstance(stack.cached, CachedSource)
    stack = sources.stack(other)
    assert stack.outer is stack.cached


@pytest.mark.parametrize(
    ("said", "seconds"), [("", None), (", refresh_before: auto", None), (", refresh_before: 5m", 300)]
)
async def test_each_grant_says_how_early_its_token_is_renewed(read, sources, said, seconds):
    [route] = read(MACHINE + said).routes
    assert sources.stack(route).cached._early.refresh_before == seconds


async def test_a_token_that_a_login_brought_is_cached_and_handed_down(read, sources, behind):
    [route] = read(LOGIN).routes
    await sources.adopt(route, Token("by login"))
    assert sources.stack(route).outer.take() == Token("by login")
    assert behind.adopted == [Token("by login")]
    assert behind.asked == []


async def test_what_another_worker_was_told_counts_for_its_credential_alone(read, sources):
    config = read(MACHINE, MACHINE.replace("s3cr3t-1", "s3cr3t-2"))
    one, other = config.routes
    for route in config.routes:
        await sources.stack(route).outer.token()
    sources.replaced("nobody's", Token("a"), Token("b"))
    sources.replaced(one.key, Token("a"), Token("b"))
    assert sources.stack(one).outer.take() == Token("b")
    assert sources.stack(other).outer.take() == Token("a")


@pytest.mark.parametrize("in_a_hurry", [False, True])
async def test_the_end_waits_for_a_renewal_unless_it_is_in_a_hurry(read, sources, behind, in_a_hurry):
    behind.open.clear()
    [route] = read(MACHINE).routes
    waiter = asyncio.create_task(sources.stack(route).outer.token())
    await settle()
    sources.in_a_hurry = in_a_hurry
    closing = asyncio.create_task(sources.close())
    await settle()
    assert closing.done() is behind.closed is in_a_hurry
    behind.open.set()
    await closing
    assert behind.closed
    assert await waiter == Token("a")


# ── where tokens are kept ────────────────────────────────────────────────────────────────────────

FILE = "token_store: {type: file, path: tokens, key: a passphrase}"
REDIS = "token_store: {type: redis, url: 'redis://localhost:1', key: a passphrase}"


def grants(config, runner=None, **settings):
    return GrantSources(config, runner or Runner(), Counters(), **settings)


@pytest.mark.parametrize(
    ("auth", "top", "kind"),
    [
        (MACHINE, "", None),
        (MACHINE, "token_store: {type: memory}", None),
        (MACHINE, FILE, FileStore),
        (MACHINE, REDIS, RedisStore),
        (LOGIN, "", FileStore),  # a person's login must outlast the process
        (LOGIN, "token_store: {type: memory}", None),  # unless somebody says otherwise
        ("grant: static, token: t0k3n", FILE, None),  # the configuration has it
        ("grant: none", FILE, None),
    ],
)
async def test_a_grants_tokens_are_kept_where_the_configuration_says(read, auth, top, kind):
    config = read(auth, top=top)
    made = grants(config)
    store = made.store(config.routes[0])
    assert type(store) is (kind or type(None))
    source = made.inner_source(config.routes[0])
    assert type(source) is (SharedSource if kind else BackoffSource)
    await made.close()


async def test_all_routes_share_one_store(read):
    config = read(MACHINE, LOGIN, top=FILE)
    made = grants(config)
    assert made.store(config.routes[0]) is made.store(config.routes[1])
    await made.close()


async def test_the_next_process_has_the_token_that_was_kept(read):
    config = read(MACHINE, top=FILE)
    first, second = grants(config, Runner(Token("a"))), grants(config, Runner())
    assert await first.inner_source(config.routes[0]).token() == Token("a")
    assert await second.inner_source(config.routes[0]).token() == Token("a")


# ── rejected ─────────────────────────────────────────────────────────────────────────────────────


async def rejected(config):
    """Have a first process be told that the password is wrong."""
    with pytest.raises(CredentialRejected):
        await grants(config, Runner(REJECTED)).inner_source(config.routes[0]).token()


@pytest.mark.parametrize("top", ["", FILE], ids=["memory", "store"])
async def test_the_next_process_does_not_try_a_rejected_password(read, top):
    config = read(PASSWORD, top=top)
    await rejected(config)
    runner = Runner(Token("a"))
    with pytest.raises(TokenUnavailable, match="wrong password"):
        await grants(config, runner).inner_source(config.routes[0]).token()
    assert runner.runs == 0


async def test_a_person_may_have_it_tried_once_more(read):
    config = read(PASSWORD)
    await rejected(config)
    again = grants(config, Runner(Token("a")), retry_rejected=True)
    assert await again.inner_source(config.routes[0]).token() == Token("a")


def rereading(config, reread):
    """Return `config`, the secrets of whose only route `reread` reads again."""
    return replace(config, routes=tuple(replace(route, reread=reread) for route in config.routes))


async def test_another_password_is_tried(read):
    await rejected(read(PASSWORD))
    config = read(PASSWORD.replace("p" * 9, "q" * 9))
    assert await grants(config, Runner(Token("a"))).inner_source(config.routes[0]).token() == Token("a")


async def test_a_password_that_has_changed_at_its_source_is_tried_at_once(read):
    config = read(PASSWORD)
    changed = replace(config.routes[0].grant, password=SecretStr("q" * 9))

    async def reread():
        return changed

    runner = Runner(REJECTED, Token("a"))
    source = grants(rereading(config, reread), runner).inner_source(config.routes[0])
    assert await source.token() == Token("a")
    assert runner.runs == 2


async def test_a_rejected_password_is_held_back_until_it_changes_at_its_source(read):
    config = read(PASSWORD)
    now = [None]  # what is read there: the same as before

    async def reread():
        return now[-1]

    runner = Runner(REJECTED, Token("a"))
    source = grants(rereading(config, reread), runner).inner_source(config.routes[0])
    with pytest.raises(CredentialRejected):
        await source.token()
    with pytest.raises(TokenUnavailable):
        await source.token()
    now.append(replace(config.routes[0].grant, password=SecretStr("q" * 9)))
    assert await source.token() == Token("a")


async def test_what_nobody_can_reject_is_not_remembered(read):
    config = read("grant: command, command: [no-such-program]")
    await rejected(config)
    assert await grants(config, Runner(Token("a"))).inner_source(config.routes[0]).token() == Token("a")


async def test_a_token_in_a_file_is_looked_for_with_every_request(read, tmp_path):
    (tmp_path / "token").write_text("a")
    config = read("grant: file, path: token")
    runner = Runner(TokenUnavailable("empty"), TokenUnavailable("empty"), Token("a"))
    source = grants(config, runner).inner_source(config.routes[0])
    for _ in range(2):
        with pytest.raises(TokenUnavailable):
            await source.token()
    assert await source.token() == Token("a")


async def test_the_outcome_of_each_try_is_counted_for_its_route(read):
    config = read(MACHINE, PASSWORD)
    counters = Counters()
    made = GrantSources(config, Runner(Token("a"), REJECTED), counters)
    await made.inner_source(config.routes[0]).token()
    with pytest.raises(CredentialRejected):
        await made.inner_source(config.routes[1]).token()
    assert counters.token_requests == {("api", "success"): 1, ("api1", "rejected"): 1}


# ── a login is missing ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "file", "top", "hint"),
    [
        (None, False, "", "log in"),
        ("http://127.0.0.1:8081", False, "", "open http://127.0.0.1:8081/login/api"),
        (None, True, "", "run `authproxy login api -c {file}`"),
        (None, True, "token_store: {type: memory}", "log in"),  # a login elsewhere would not be seen here
        (
            "http://127.0.0.1:8081",
            True,
            "",
            "open http://127.0.0.1:8081/login/api, or run `authproxy login api -c {file}`",
        ),
    ],
)
async def test_who_misses_a_login_hears_every_way_to_log_in(read, tmp_path, url, file, top, hint):
    path = tmp_path / "proxy.yaml"
    if file:
        path.touch()
    config = read(LOGIN, top=top)
    made = grants(config, Runner(LoginRequired("nobody has logged in", error="login_required")))
    source = made.inner_source(config.routes[0])
    made.login_url = url  # the admin listener opens later
    with pytest.raises(LoginRequired, match="nobody has logged in") as caught:
        await source.token()
    assert caught.value.hint == hint.format(file=path)
    assert caught.value.error == "login_required"


async def test_without_a_home_a_login_can_be_kept_nowhere_and_a_rejection_is_not_remembered(
    read, monkeypatch
):
    login, password = read(LOGIN, PASSWORD).routes
    made = grants(read(LOGIN, PASSWORD), Runner(Token("a")))
    monkeypatch.setattr(stores_file, "state_directory", lambda: None)
    with pytest.raises(ConfigError, match="tokens cannot be stored"):
        made.store(login)
    assert await made.inner_source(password).token() == Token("a")
