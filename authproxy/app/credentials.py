"""Where tokens come from: the stack of sources that each credential gets.

    CachedSource ─▶ SharedSource (only with a store) ─▶ BackoffSource ─▶ LoginHintSource ─▶ GrantSource

Routes with an equal `auth` share a stack. In a worker `CachedSource` wraps a `BrokerSource` instead: the
broker's process has the rest. `WatchedSource` is around it where the token comes from a file.

When another configuration is loaded, a credential that it has too keeps its stack, and with that its token,
even if its routes have other names now. One whose tokens are to be kept elsewhere gets a new stack, and its
token goes there.
"""

import asyncio
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from authproxy.config.credential import credential_identity, credential_key
from authproxy.config.model import Config, FileStoreSettings, MemoryStoreSettings, RedisStoreSettings
from authproxy.config.route import RouteConfig
from authproxy.errors import ConfigError, LoginRequired, StoreError
from authproxy.grants.grant import Grant
from authproxy.grants.runner import FlowRunner
from authproxy.grants.source import GrantSource, WatchedSource
from authproxy.observe.counters import Counters
from authproxy.places import is_file
from authproxy.tokens.backoff import BackoffSource
from authproxy.tokens.cache import CachedSource, token_cache
from authproxy.tokens.rejection import RejectionStore, RememberedRejection
from authproxy.tokens.shared import SharedSource
from authproxy.tokens.source import CachingSource, Layer, TokenSource
from authproxy.tokens.stores import TokenStore
from authproxy.tokens.token import Token

if TYPE_CHECKING:
    from authproxy.tokens.stores.file import FileStore

InnerSource = Callable[[RouteConfig], TokenSource]
StoreSettings = FileStoreSettings | RedisStoreSettings
StoreOf = Callable[[RouteConfig], StoreSettings | None]
Place = tuple[str, StoreSettings | None]
"""A credential's key, and where its token is kept besides memory."""


def _in_memory(_route: RouteConfig) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Stack:
    """One credential's sources: the layer that has its token, and the outermost one, which is asked."""

    cached: CachedSource
    outer: CachingSource


class TokenSources:
    """The stacks of sources, one a credential; routes with an equal `auth` get the same one.

    `inner_source` makes what `CachedSource` wraps; `credentials` is how many there will be. `store_of` says
    where else a route's tokens are kept.
    """

    def __init__(
        self, inner_source: InnerSource, *, credentials: int = 0, store_of: StoreOf = _in_memory
    ) -> None:
        self._inner_source = inner_source
        self._cache = token_cache(credentials)
        self._store_of = store_of
        self._stacks: dict[Place, Stack] = {}
        # Those that nobody will ask any more, and whether their tokens go on.
        self._gone: list[tuple[Place, Stack, bool]] = []
        self._letting_go = asyncio.Lock()
        self.changed: Callable[[], None] = lambda: None  # called whenever the state of a token changes
        self.in_a_hurry = False
        self.published: dict[str, tuple[str, ...]] = {}  # by issuer: token endpoints that it was seen to have

    def stack(self, route: RouteConfig) -> Stack | None:
        """Return the stack of the route's credential; None for plain forwarding."""
        if not route.grant.needs_token:
            return None
        key = route.key, self._store_of(route)
        if key not in self._stacks:
            self._stacks[key] = self._build(route)
        return self._stacks[key]

    async def adopt(self, route: RouteConfig, token: Token) -> None:
        """Cache, and store, a token that a person's login brought."""
        if (stack := self.stack(route)) is not None:
            await stack.outer.adopt(token)

    def replaced(self, key: str, refused: Token, token: Token) -> None:
        """Go on with `token` where `refused` is still used: another worker was told that it will not do."""
        for (known, _), stack in self._stacks.items():
            if known == key:
                stack.cached.replaced(refused, token)

    @property
    def stores(self) -> set[StoreSettings]:
        """Where tokens are kept, those of credentials included that are not let go of yet."""
        places = [*self._stacks, *(place for place, *_ in self._gone)]
        return {settings for _, settings in places if settings is not None}

    def keep(self, routes: Iterable[RouteConfig], *, hand_over: bool = True) -> None:
        """Go on with the credentials of `routes` alone, by the names that they have now.

        `let_go` is to close the others. With `hand_over`, a token that is kept elsewhere from now on is
        brought there.
        """
        wanted = {(route.key, self._store_of(route)): route.name for route in reversed([*routes])}
        self._gone += [
            (place, stack, hand_over) for place, stack in self._stacks.items() if place not in wanted
        ]
        self._stacks = {place: stack for place, stack in self._stacks.items() if place in wanted}
        for place, stack in self._stacks.items():
            stack.outer.rename(wanted[place])

    async def let_go(self) -> None:
        """Close what is not kept, and forget its tokens; it takes as long as a renewal under way."""
        async with self._letting_go:
            while self._gone:
                (key, _), stack, hand_over = self._gone[0]
                await self._settle(stack)
                heirs = [heir for (known, _), heir in self._stacks.items() if known == key]
                token = self._cache.get(key)
                if token is not None and hand_over:
                    for heir in heirs:
                        await heir.outer.adopt(token)
                if token is not None and not heirs:
                    del self._cache[key]
                await stack.outer.close()
                del self._gone[0]  # only now: who breaks this off lets it be done again

    def _changed(self) -> None:
        self.changed()

    def forgotten(self, key: str) -> None:
        """Have no token for `key`: it was forgotten where tokens are obtained."""
        for (known, _), stack in self._stacks.items():
            if known == key:
                stack.cached.drop()

    async def close(self) -> None:
        """Let renewals end: one that is broken off may lose a refresh token."""
        await self.let_go()
        for stack in self._stacks.values():
            await self._settle(stack)
            await stack.outer.close()

    async def _settle(self, stack: Stack) -> None:
        if not self.in_a_hurry:
            await stack.cached.settle()

    def _build(self, route: RouteConfig) -> Stack:
        grant = route.grant
        before = grant.refresh_before
        source = self._inner_source(route)
        cached = CachedSource(
            source,
            self._cache,
            route.key,
            name=route.name,
            refresh_before=None if before == "auto" else before,
        )
        cached.changed = self._changed
        watched = grant.watched_file
        return Stack(cached, WatchedSource(cached, watched) if watched is not None else cached)


class LoginHintSource(Layer):
    """Completes the hint of a missing login: who runs the proxy knows where one logs in."""

    def __init__(self, inner: TokenSource, hint: Callable[[], str]) -> None:
        super().__init__(inner)
        self._hint = hint

    async def token(self, *, instead_of: Token | None = None) -> Token:
        try:
            return await super().token(instead_of=instead_of)
        except LoginRequired as error:
            raise LoginRequired(error.detail, hint=self._hint(), error=error.error) from error


class GrantSources:
    """Makes what `CachedSource` wraps where tokens are obtained: the grant, backoff, and a store.

    With `retry_rejected` what was rejected before this process is tried once more.
    """

    def __init__(
        self, config: Config, runner: FlowRunner, counters: Counters, *, retry_rejected: bool = False
    ) -> None:
        self._retry_rejected = retry_rejected
        self._rejections: FileStore | None = None
        self._counters = counters
        self._runner = runner
        self._stores: dict[StoreSettings, TokenStore] = {}
        self.login_url: str | None = None  # of the admin listener, once it is open
        self.use(config)

    def use(self, config: Config) -> None:
        """Go by `config` from now on."""
        self._config = config
        self._routes = {route.key: route for route in reversed(config.routes)}

    def inner_source(self, route: RouteConfig) -> TokenSource:
        key = route.key
        granted = GrantSource(
            route.grant, self._runner, reread=partial(self._reread, key), transport=route.transport
        )
        with_hint = LoginHintSource(granted, partial(self._login_hint, key))
        store = self.store(route)
        backoff = BackoffSource(
            with_hint,
            name=route.name,
            count=partial(self._count, key),
            changed=granted.changed,
            memory=self._memory(route, granted, store),
            backs_off=route.grant.watched_file is None,  # a file costs nothing to read
            loads=route.grant.in_configuration or route.grant.watched_file is not None,
        )
        return SharedSource(backoff, store, key, name=route.name) if store is not None else backoff

    def store(self, route: RouteConfig) -> TokenStore | None:
        """Return where the route's tokens are kept, or None when they are not. Raises `ConfigError`."""
        keys = self.store_of(route)
        if keys is None:
            return None
        if keys not in self._stores:
            self._stores[keys] = _open_store(keys, self._config)
        return self._stores[keys]

    def store_of(self, route: RouteConfig) -> StoreSettings | None:
        """Return where the route's tokens are kept besides memory, or None."""
        return _store_settings(self._config, route)

    async def close_unused(self, used: Container[StoreSettings]) -> None:
        """Let go of the stores but those that are `used`."""
        for keys in [each for each in self._stores if each not in used]:
            await self._stores.pop(keys).close()

    async def close(self) -> None:
        """Let go of the stores."""
        for store in self._stores.values():
            await store.close()

    def _memory(
        self, route: RouteConfig, granted: GrantSource, store: TokenStore | None
    ) -> RememberedRejection | None:
        """Return where it is remembered that the credential was rejected; None where nobody can reject it."""
        grant, transport = route.grant, route.transport
        if not grant.can_be_rejected:
            return None
        from authproxy.tokens.stores.file import FileStore, rejections_path

        if self._rejections is None and (path := rejections_path()) is not None:
            # Without the keyring: that might ask its user to unlock it, and there is no token in here.
            self._rejections = FileStore(path, keyring=lambda: None)
        stores: list[RejectionStore] = [each for each in (store, self._rejections) if each is not None]
        if not stores:
            return None
        return RememberedRejection(
            stores,
            credential_identity(grant, transport),
            lambda: credential_key(granted.grant, transport),
            takes_turns=store is None,  # else there is a lock already
            retry=self._retry_rejected,
        )

    async def _reread(self, key: str) -> Grant | None:
        route = self._routes.get(key)
        return await route.reread() if route is not None and route.reread is not None else None

    def _count(self, key: str, outcome: str) -> None:
        if (route := self._routes.get(key)) is not None:
            self._counters.token_requests[route.name, outcome] += 1

    def _login_hint(self, key: str) -> str:
        if (route := self._routes.get(key)) is None:  # a request that began before it was taken away
            return "log in"
        from authproxy.grants.interactive import InteractiveGrant, leads_to_loopback

        ways = [f"open {self.login_url}/login/{route.name}"] if self.login_url is not None else []
        if is_file(Path(self._config.file)):
            grant = route.grant
            elsewhere = isinstance(grant, InteractiveGrant) and not leads_to_loopback(grant.comes_back_to)
            how = " --no-browser" if elsewhere else ""
            command = f"run `authproxy login {route.name}{how} -c {self._config.file}`"
            if self.store(route) is not None:
                ways.append(command)
            elif not ways:
                ways.append(f"let `token_store` keep tokens in a file, and {command}")
        return ", or ".join(ways) or "log in"


def check_stores(config: Config) -> None:
    """Raise `ConfigError` if a store that `config` wants cannot be had; none is contacted."""
    for route in config.routes:
        if (keys := _store_settings(config, route)) is not None:
            _open_store(keys, config)


def _store_settings(config: Config, route: RouteConfig) -> StoreSettings | None:
    keys = config.token_store
    if not route.grant.is_stored:
        return None
    if keys is None and route.grant.must_last:
        keys = FileStoreSettings(type="file")
    return None if isinstance(keys, MemoryStoreSettings) else keys


def _open_store(keys: StoreSettings, config: Config) -> TokenStore:
    key = keys.key.get_secret_value() if keys.key is not None else None
    try:
        if isinstance(keys, FileStoreSettings):
            from authproxy.tokens.stores.file import FileStore, default_path

            return FileStore(Path(keys.path) if keys.path is not None else default_path(), key)
        from authproxy.tokens.stores.redis import RedisStore

        return RedisStore(keys.url.get_secret_value(), key or "", prefix=keys.prefix)
    except StoreError as error:
        message = f"{error.detail}; {error.hint}" if error.hint else error.detail
        raise ConfigError([config.fault("token_store", message)]) from error
