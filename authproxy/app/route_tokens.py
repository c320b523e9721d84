"""The tokens of the routes, as a person looks at them, renews, forgets and logs in to them.

    Backend ─▶ RouteTokens ─┬─ TokenSources   the stack of each route
                            └─ Logins         those that somebody is in the middle of

What serves requests asks the sources themselves.
"""

import contextlib
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from authproxy.admin.status import RouteStatus, State, route_status
from authproxy.app.credentials import Stack
from authproxy.app.logins import Logins
from authproxy.config.route import RouteConfig
from authproxy.errors import TokenError
from authproxy.grants.steps import Show

if TYPE_CHECKING:
    from authproxy.app.application import App


class RouteTokens:
    """Looks after the tokens of the routes of `app`, by whichever configuration is at work."""

    def __init__(self, app: "App", logins: Logins) -> None:
        self._app = app
        self._logins = logins

    def states(self) -> list[RouteStatus]:
        """Return the state of every route's token."""
        refused, found = self._app.observed.standings.refused(), []
        for route in self._app.config.routes:
            stack = self._app.sources.stack(route)
            source = stack.cached if stack is not None else None
            status = route_status(
                route.name, source, refused.get(route.name), started_at=self._app.started_at
            )
            found.append(status)
        return found

    def expiries(self) -> dict[str, float]:
        """Return when the token of each route expires, where that is known."""
        found = {}
        for route in self._app.config.routes:
            stack = self._app.sources.stack(route)
            if stack is not None and (moment := stack.cached.expires_at) is not None:
                found[route.name] = moment
        return found

    # ── fetching, renewing and forgetting ────────────────────────────────────────────────────────

    def prefetch(self, routes: Iterable[RouteConfig] | None = None) -> None:
        """Fetch the tokens of `routes`, by default of all, that are wanted at the start, in the background.

        Those of a login are always looked for: whoever waits for `/readyz` should hear that one is needed.
        """
        for route in self._app.config.routes if routes is None else routes:
            wanted = route.prefetch or route.grant.needs_person
            if wanted and (stack := self._app.sources.stack(route)) is not None:
                self._fetch(route, stack)

    def _fetch(self, route: RouteConfig, stack: Stack) -> None:
        """Ask for a token in the background; how that goes is told by the source's state."""

        async def fetch() -> None:
            with contextlib.suppress(TokenError):  # logged by the source; the first request hears of it again
                await stack.outer.token()

        self._app.in_background(fetch(), name=f"fetch {route.name}")

    async def renew(self, route: RouteConfig) -> None:
        """Renew the route's token now, because a person asked. Raises `TokenError`, `TooManyTries`."""
        stack = self._app.sources.stack(route)
        if stack is None:
            return
        old = stack.cached.cached
        token = await stack.cached.renew()
        if self._app.others is not None and old is not None and old != token:
            self._app.others.replaced(route.key, old, token)

    async def forget(self, route: RouteConfig) -> None:
        """Forget the route's token, stored copies of it, and that it was rejected. Raises `StoreError`."""
        stack = self._app.sources.stack(route)
        if stack is None:
            return
        try:
            await stack.outer.forget()
        finally:
            if self._app.others is not None:
                self._app.others.forgotten(route.key)
        if route.grant.needs_person:
            self._fetch(route, stack)  # whoever looks should see that a login is needed

    # ── logins ───────────────────────────────────────────────────────────────────────────────────

    def look_for_logins(self, states: list[RouteStatus]) -> None:
        """Look whether the logins that are missing were made elsewhere meanwhile."""
        missing = {each.route for each in states if each.state == "login_required"}
        for route in self._app.config.routes:
            if route.name in missing and (stack := self._app.sources.stack(route)) is not None:
                self._fetch(route, stack)

    def login_url(self, route: RouteConfig, state: State) -> str | None:
        """Return where a person logs in to `route`; None where nobody has to, or nobody can."""
        base = self._app.grant_sources.login_url
        # A silent grant needs nobody, until its server says otherwise.
        needs_person = route.grant.needs_person or state == "login_required"
        return f"{base}/login/{route.name}" if base is not None and needs_person else None

    async def begin_login(self, route: str, callback_url: str) -> Show | None:
        """Begin a login and return what to show; None when nobody can log in to `route`."""
        from authproxy.grants.interactive import InteractiveGrant

        found = next((each for each in self._app.config.routes if each.name == route), None)
        if found is None or not isinstance(found.grant, InteractiveGrant):
            return None
        redirect_uri = found.grant.comes_back_to or callback_url
        adopt = partial(self._app.sources.adopt, found)
        return await self._logins.start(route, found.grant, redirect_uri, adopt, transport=found.transport)

    async def end_login(self, query: Mapping[str, str]) -> tuple[str, str | None] | None:
        """End the login that `query` belongs to; return its route and advice; None when there is none."""
        return await self._logins.came_back(query)
