"""The pages for newcomers work as printed: what they have one write is run, and asked what they ask."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import authproxy, running_proxy
from tests.support.launch import ANY_PORT
from tests.support.wire import API, Tokens, get

DOCS = Path(__file__).parents[2] / "docs"
SECRETS = {"ORDERS_CLIENT_ID": "robot", "ORDERS_CLIENT_SECRET": "secret-of-robot", "CLIENT_ID": "robot"}
SECRETS |= {name: f"secret-of-{name.lower()}" for name in ("CLIENT_SECRET", "GIT_TOKEN", "PACKAGES_TOKEN")}


def configuration(page: str) -> dict[str, Any]:
    text = re.findall(r"```yaml\n(routes:.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)[0]
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def on_this_machine(config: dict[str, Any], api: API, tokens: Tokens) -> dict[str, Any]:
    for route in config["routes"]:
        if "listen" in route:
            route["listen"] = ANY_PORT
        route["upstream"] = api.url
        if "token_url" in route["auth"]:
            route["auth"]["token_url"] = f"{tokens.url}/oauth/token"
    return config


def test_the_quick_start_leads_to_an_answer_and_past_a_revoked_token() -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        config = on_this_machine(configuration("quick-start.md"), api, tokens)
        with running_proxy(config, env=SECRETS) as proxy:
            assert get(proxy.url, "/orders/v1/items").status == 200
            tokens.revoke()
            assert get(proxy.url, "/orders/v1/items").status == 200
            assert "retried=yes" in proxy.wait_for_log("retried=yes")
    assert [came.target for came in api.requests] == ["/v1/items"] * 3


def test_check_tells_of_the_variables_as_the_quick_start_shows() -> None:
    ended = authproxy("check", config=configuration("quick-start.md"))
    shown = (DOCS / "quick-start.md").read_text(encoding="utf-8")
    assert ended.returncode == 2
    for line in ended.stdout.splitlines():
        assert line.partition(": ")[2] in shown


@pytest.mark.parametrize(
    ("path", "scheme"), [("/api/v1", "Bearer"), ("/sdk/v1", "Bearer"), ("/git/x.git/info/refs", "Basic")]
)
def test_the_routes_of_the_clients_add_what_they_say(path: str, scheme: str) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        config = on_this_machine(configuration("clients.md"), api, tokens)
        with running_proxy(config, env=SECRETS) as proxy:
            get(proxy.url, path, *(["Authorization: Bearer not-used"] if path.startswith("/sdk") else []))
    assert {(came.one("Authorization") or "").split()[0] for came in api.requests} == {scheme}
    assert "not-used" not in api.requests[0].head.decode()
