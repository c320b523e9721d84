"""Calendar42's API with tokens that were handed out by hand."""

import time
from math import inf

from aiohttp import web

from authproxy.demo.accounts import ACTION_TOKEN, USER_TOKEN
from authproxy.demo.standin import DemoRoute, Issued, Received, StandIn
from authproxy.tokens.source import Clock


class Calendar42(StandIn):
    """Tokens for a user, and tokens for one action."""

    name = "calendar42"
    token_lifetime = inf

    def __init__(self, *, lifetime: float | None = None, clock: Clock = time.time) -> None:  # noqa: ARG002
        super().__init__(clock=clock)  # what is handed out by hand does not expire
        self._actions = Issued(clock)
        self._user_token = self.tokens.hand_out(self.lifetime, USER_TOKEN)
        self._action_token = self._actions.hand_out(self.lifetime, ACTION_TOKEN)

    def routes(self, base_url: str) -> list[DemoRoute]:  # noqa: ARG002
        user = {"preset": "calendar42-user-token", "token": self._user_token}
        action = {"preset": "calendar42-action-token", "token": self._action_token}
        return [
            DemoRoute("calendar42", user, "/app/django/api/v2/events/"),
            DemoRoute("calendar42-action", action, "/app/django/api/v2/events/"),
        ]

    def refusal(self, received: Received) -> web.Response | None:
        scheme, token = received.credential or ("", "")
        issued = {"token": self.tokens, "actiontoken": self._actions}.get(scheme)
        if issued is None:  # to Django REST framework another scheme is no credential at all
            document = {"detail": "Authentication credentials were not provided."}
            return web.json_response(document, status=401, headers={"WWW-Authenticate": "Token"})
        if not issued.knows(token):
            return web.json_response({"detail": "Invalid token."}, status=403)
        return None

    def revoke(self) -> None:
        super().revoke()
        self._actions.forget()
