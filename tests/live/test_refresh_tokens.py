"""`grant: refresh_token`: what a rotating server gave last is what the next process sends."""

import time
from pathlib import Path
from typing import Any

from tests.support.command import authproxy, running_proxy
from tests.support.wire import Message, Upstream, Wire, ask, json_reply, reply, request


class Rotating(Upstream):
    """Gives a new refresh token for each one, and refuses for ever whoever sends a used one."""

    def __init__(self, first: str) -> None:
        super().__init__(self._trade)
        self.good, self.count, self.reused = first, 0, False

    def _trade(self, came: Message, _wire: Wire) -> bytes:
        if came.form["refresh_token"] != self.good:
            self.reused = True
            return json_reply({"error": "invalid_grant"}, 400)
        self.count += 1
        self.good = f"refresh-{self.count}"
        return json_reply({"access_token": f"a{self.count}", "refresh_token": self.good, "expires_in": 1})


def config_for(tokens: Upstream, api: Upstream, refresh_token: str, **more: Any) -> dict[str, Any]:
    auth = {"grant": "refresh_token", "token_url": f"{tokens.url}/token", "refresh_token": refresh_token}
    return {"routes": [{"name": "api", "upstream": api.url, "auth": auth}], **more}


def test_a_rotated_refresh_token_outlives_a_restart_without_a_store_in_the_configuration(
    tmp_path: Path,
) -> None:
    home = {"HOME": str(tmp_path)}
    with Rotating("handed-out") as tokens, Upstream(lambda _request, _wire: reply(body=b"fine")) as api:
        config = config_for(tokens, api, "handed-out")
        for _ in range(3):
            with running_proxy(config, env=home) as proxy:
                assert ask(proxy.url, request("GET")).status == 200
        assert authproxy("token", "api", config=config, env=home).returncode == 0
        assert not tokens.reused
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert tokens.good.encode() not in path.read_bytes()


def test_another_refresh_token_in_the_configuration_counts_for_more_than_what_is_stored(
    tmp_path: Path,
) -> None:
    home = {"HOME": str(tmp_path)}
    with Rotating("handed-out") as tokens, Upstream(lambda _request, _wire: reply(body=b"fine")) as api:
        assert (
            authproxy("token", "api", config=config_for(tokens, api, "handed-out"), env=home).returncode == 0
        )
        tokens.good = "another-one"
        assert (
            authproxy("token", "api", config=config_for(tokens, api, "another-one"), env=home).returncode == 0
        )
        assert not tokens.reused


def test_who_wants_tokens_in_memory_only_gets_that(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    with Rotating("handed-out") as tokens, Upstream(lambda _request, _wire: reply(body=b"fine")) as api:
        config = config_for(tokens, api, "handed-out", token_store={"type": "memory"})
        for _ in range(2):
            authproxy("token", "api", config=config, env=home)
        assert tokens.reused
        assert not list(tmp_path.rglob("tokens"))


def test_a_refused_refresh_token_leaves_the_store_and_is_sent_by_no_other_process(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    issued = json_reply({"access_token": "a", "refresh_token": "dead", "expires_in": 1})

    def trade(came: Message, _wire: Wire) -> bytes:
        if came.form["grant_type"] == "refresh_token":
            return json_reply({"error": "invalid_grant"}, 400)
        return issued if len(tokens.requests) == 1 else json_reply({"error": "server_error"}, 500)

    with Upstream(trade) as tokens:
        auth = {"grant": "password", "token_url": f"{tokens.url}/token", "client_id": "a"}
        auth |= {"username": "a", "password": "a-long-password"}
        store = {"type": "file", "path": str(tmp_path / "tokens")}
        routes = [{"name": "api", "upstream": tokens.url, "auth": auth}]
        config = {"token_store": store, "routes": routes}
        assert authproxy("token", "api", config=config, env=home).returncode == 0
        time.sleep(1)  # until that token has ended, by the server's own clock
        for _ in range(3):
            authproxy("token", "api", config=config, env=home)
        refreshes = [came for came in tokens.requests if came.form["grant_type"] == "refresh_token"]
        assert len(refreshes) == 1
