"""Which sources a credential gets, and what the next process knows of it; nobody is asked over a network."""

import asyncio
from dataclasses import replace

import pytest
from pydantic import SecretStr

from authproxy.app.credentials import GrantSources, TokenSources
from authproxy.config.model import FileStoreSettings
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

    async def run(self, flow, *, transport):
        assert transport.http_proxy is None
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
        (f"{LOGIN}, silent: true, redirect_uri: 'https://my.app/cb'", "", FileStore),
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
        (
            None,
            True,
            "token_store: {type: memory}",  # a login elsewhere would not be seen here
            "let `token_store` keep tokens in a file, and run `authproxy login api -c {file}`",
        ),
        (
            "http://127.0.0.1:8081",
            True,
            "token_store: {type: memory}",
            "open http://127.0.0.1:8081/login/api",
        ),
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


@pytest.mark.parametrize("more", ["", ", silent: true"])
async def test_where_the_browser_comes_back_to_elsewhere_its_url_is_pasted(read, tmp_path, more):
    (tmp_path / "proxy.yaml").touch()
    config = read(f"{LOGIN}, redirect_uri: 'https://my.app/cb'{more}")
    source = grants(config, Runner(LoginRequired("no"))).inner_source(config.routes[0])
    with pytest.raises(LoginRequired) as caught:
        await source.token()
    assert caught.value.hint == f"run `authproxy login api --no-browser -c {tmp_path / 'proxy.yaml'}`"


async def test_without_a_home_a_login_can_be_kept_nowhere_and_a_rejection_is_not_remembered(
    read, monkeypatch
):
    login, password = read(LOGIN, PASSWORD).routes
    made = grants(read(LOGIN, PASSWORD), Runner(Token("a")))
    monkeypatch.setattr(stores_file, "state_directory", lambda: None)
    with pytest.raises(ConfigError, match="tokens cannot be stored"):
        made.store(login)
    assert await made.inner_source(password).token() == Token("a")


# ── another configuration ────────────────────────────────────────────────────────────────────────


class Behind(OneAnswer):
    """What is behind a stack; it notes the name that it is given."""

    def rename(self, name):
        self.name = name


class Reloaded:
    """The sources of one configuration after another; `kept_in` says where tokens are kept besides memory."""

    def __init__(self):
        self.behind = []
        self.kept_in = None
        self.sources = TokenSources(self._make, store_of=lambda _route: self.kept_in)

    def _make(self, route):
        self.behind.append(made := Behind(Token(f"{route.name}'s")))
        made.name = route.name
        return made

    async def use(self, config):
        """Ask for the token of each route; return the stacks."""
        stacks = [self.sources.stack(route) for route in config.routes]
        for stack in stacks:
            await stack.outer.token()
        return stacks


@pytest.fixture
def reloaded():
    return Reloaded()


OTHER = MACHINE.replace("s3cr3t-1", "s3cr3t-2")


async def test_a_credential_keeps_its_token_and_goes_by_the_name_that_it_has_now(read, reloaded):
    before, after = read(MACHINE), read(OTHER, MACHINE)
    [stack] = await reloaded.use(before)
    _, same = await reloaded.use(after)
    reloaded.sources.keep(after.routes)
    await reloaded.sources.let_go()
    assert same is stack
    assert stack.outer.take() == Token("api's")
    assert (stack.cached.name, reloaded.behind[0].name) == ("api1", "api1")
    assert not reloaded.behind[0].closed


async def test_of_routes_that_share_a_credential_the_first_gives_the_name(read, reloaded):
    config = read(MACHINE, MACHINE)
    [stack, _] = await reloaded.use(config)
    reloaded.sources.keep(config.routes)
    assert stack.cached.name == "api"


async def test_a_credential_that_is_gone_is_closed_and_its_token_forgotten(read, reloaded):
    before, after = read(MACHINE, OTHER), read(MACHINE)
    _, gone = await reloaded.use(before)
    reloaded.sources.keep(after.routes)
    assert gone.outer.take() is not None  # a request under way may still ask
    await reloaded.sources.let_go()
    assert [behind.closed for behind in reloaded.behind] == [False, True]
    assert not gone.cached.usable
    assert reloaded.sources.stack(before.routes[1]) is not gone


async def test_its_renewal_under_way_ends_first_and_holds_up_nobody(read, reloaded):
    before, after = read(MACHINE, OTHER), read(MACHINE)
    [_, gone] = [reloaded.sources.stack(route) for route in before.routes]
    reloaded.behind[1].open.clear()
    waiter = asyncio.create_task(gone.outer.token())
    await settle()
    reloaded.sources.keep(after.routes)
    letting_go = asyncio.create_task(reloaded.sources.let_go())
    await settle()
    assert not letting_go.done()
    assert not reloaded.behind[1].closed
    reloaded.behind[1].open.set()
    await letting_go
    assert await waiter == Token("api1's")
    assert not gone.cached.usable


async def test_what_is_being_let_go_when_the_end_comes_is_closed_all_the_same(read, reloaded):
    before, after = read(MACHINE, OTHER), read(MACHINE)
    [_, gone] = [reloaded.sources.stack(route) for route in before.routes]
    reloaded.behind[1].open.clear()
    waiter = asyncio.create_task(gone.outer.token())
    await settle()
    reloaded.sources.keep(after.routes)
    letting_go = asyncio.create_task(reloaded.sources.let_go())
    await settle()
    letting_go.cancel()
    closing = asyncio.create_task(reloaded.sources.close())
    await settle()
    assert not closing.done()
    reloaded.behind[1].open.set()
    await closing
    await waiter
    assert [behind.closed for behind in reloaded.behind] == [True, True]


ELSEWHERE = FileStoreSettings(type="file", path="elsewhere")


async def test_a_token_that_is_kept_elsewhere_from_now_on_goes_there(read, reloaded):
    config = read(MACHINE)
    [old] = await reloaded.use(config)
    reloaded.kept_in = ELSEWHERE
    new = reloaded.sources.stack(config.routes[0])
    assert new is not old
    reloaded.sources.keep(config.routes)
    assert reloaded.sources.stores == {ELSEWHERE}
    await reloaded.sources.let_go()
    assert [behind.closed for behind in reloaded.behind] == [True, False]
    assert reloaded.behind[1].adopted == [Token("api's")]
    assert new.outer.take() == Token("api's")


async def test_what_was_made_for_a_configuration_that_does_not_come_is_closed_and_writes_nothing(
    read, reloaded
):
    before, after = read(MACHINE), read(MACHINE, OTHER)
    [stack] = await reloaded.use(before)
    reloaded.kept_in = ELSEWHERE
    for route in after.routes:
        reloaded.sources.stack(route)
    reloaded.kept_in = None
    reloaded.sources.keep(before.routes, hand_over=False)
    assert reloaded.sources.stores == {ELSEWHERE}  # until they are let go
    await reloaded.sources.let_go()
    assert reloaded.sources.stores == set()
    assert [behind.closed for behind in reloaded.behind] == [False, True, True]
    assert [behind.adopted for behind in reloaded.behind] == [[], [], []]
    assert stack.outer.take() == Token("api's")


async def test_one_that_comes_back_before_the_old_one_is_closed_keeps_its_token(read, reloaded):
    before, between = read(MACHINE, OTHER), read(MACHINE)
    await reloaded.use(before)
    reloaded.sources.keep(between.routes)
    [_, back] = [reloaded.sources.stack(route) for route in before.routes]
    await reloaded.sources.let_go()
    assert back.outer.take() == Token("api1's")


async def test_the_grants_go_by_the_configuration_in_use(read):
    counters = Counters()
    before = read(MACHINE)
    after = replace(before, routes=(replace(before.routes[0], name="renamed"),))
    made = GrantSources(before, Runner(Token("a"), Token("b"), Token("c")), counters)
    source = made.inner_source(before.routes[0])
    await source.token()
    made.use(after)
    await source.token()
    made.use(replace(before, routes=()))
    await source.token()  # of a request that began before
    assert counters.token_requests == {("api", "success"): 1, ("renamed", "success"): 1}


async def test_a_login_that_has_gone_is_still_told_how_to_go_on(read):
    config = read(LOGIN)
    made = grants(config, Runner(LoginRequired("nobody has logged in")))
    source = made.inner_source(config.routes[0])
    made.use(replace(config, routes=()))
    with pytest.raises(LoginRequired) as caught:
        await source.token()
    assert caught.value.hint == "log in"


async def test_stores_that_nothing_is_kept_in_any_more_are_closed(read, tmp_path):
    config = read(MACHINE, LOGIN, top=FILE)
    made = grants(config)
    store = made.store(config.routes[0])
    closed = []

    async def close():
        closed.append(store)

    store.close = close
    await made.close_unused({config.token_store})
    assert closed == []
    await made.close_unused(set())
    assert closed == [store]
    assert made.store(config.routes[0]) is not store
