"""Each preset through the command, against a stand-in that refuses what its vendor refuses.

The stand-ins were written from the vendors' documents: `tests/unit/demo/systems` holds them to those.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from joserfc.jwk import RSAKey

from authproxy.demo import Demo
from authproxy.demo.accounts import USERNAME
from authproxy.demo.keys import private_key
from tests.support.command import RunningProxy, authproxy, running_proxy
from tests.support.stand_ins import serving_stand_ins
from tests.support.wire import Message, get

ROOT = Path(__file__).parents[2]
AGENT = "User-Agent: a-test/1"
REQUESTS = 3
FOREIGN_KEY = RSAKey.generate_key(2048).as_pem(private=True).decode()

EARNED = {  # each route whose tokens are earned; a key of its `auth` that may be wrong, and what it is then
    "code42": ("client_secret", "wrong"),
    "code42-user": ("password", "wrong"),
    "incydr": ("client_secret", "wrong"),
    "up42": ("password", "wrong"),
    "login": ("password", "wrong"),
    "copernicus": ("password", "wrong"),
    "sentinel-hub": ("client_secret", "wrong"),
    "keycloak": ("client_secret", "wrong"),
    "auth0": ("audience", "https://other.example/"),
    "okta": ("scope", "other"),
    "entra": ("client_secret", "wrong"),
    "google": ("private_key", FOREIGN_KEY),
    "github-app": ("private_key", FOREIGN_KEY),
    "salesforce": ("private_key", FOREIGN_KEY),
    "spotify": ("client_secret", "wrong"),
    "zoom": ("account_id", "other"),
}
GIVEN = {  # each route whose credential is in the configuration
    "code42-basic": "password",
    "calendar42": "token",
    "calendar42-action": "token",
    "planet": "api_key",
    "github": "token",
    "gitlab": "token",
    "atlassian": "token",
}
WITH_A_LOGIN = {"calendar42-oauth", "calendar42-silent"}  # test_presets.py and test_login_links.py have them
REFUSALS = {401, 403}


@dataclass
class Place:
    """The stand-ins, and a proxy with a route to each; and to each once more, with something wrong."""

    demo: Demo
    proxy: RunningProxy
    examples: dict[str, str]
    systems: dict[str, str]

    def get(self, route: str, *, wrong: bool = False) -> Message:
        prefix = f"/{route}-wrong" if wrong else f"/{route}"
        return get(self.proxy.url, f"{prefix}{self.examples[route]}", AGENT)

    def token_requests(self, route: str) -> int:
        return self.demo.token_requests[self.systems[route]]

    def api_requests(self, route: str) -> int:
        return self.demo.api_requests[self.systems[route]]


def examples_of(demo: Demo) -> dict[str, str]:
    """Return a path worth asking for, of each route."""
    lines = demo.curl_lines("")
    return {name: re.split(f"/{name}(?=/)", line.strip("'"), maxsplit=1)[1] for name, line in lines}


def spoiled(route: dict[str, Any]) -> dict[str, Any]:
    key, value = EARNED[route["name"]] if route["name"] in EARNED else (GIVEN[route["name"]], "wrong")
    name = f"{route['name']}-wrong"
    return route | {"name": name, "path": f"/{name}", "auth": route["auth"] | {key: value}}


def without_second_factor(route: dict[str, Any]) -> dict[str, Any]:
    """Return the route as a user without one has it: each code is good for one token in half a minute."""
    if "totp" not in route["auth"]:
        return route
    auth = {key: value for key, value in route["auth"].items() if key != "totp"}
    return route | {"auth": auth | {"username": USERNAME}}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with serving_stand_ins() as demo:
        routes = [without_second_factor(route) for route in demo.config()["routes"]]
        systems = {url: name for name, url in demo.systems.items()}
        wrong = [spoiled(route) for route in routes if route["name"] not in WITH_A_LOGIN]
        config = {"log": {"level": "debug"}, "limits": {"drain": "1s"}, "routes": routes + wrong}
        with running_proxy(config) as proxy:
            yield Place(
                demo,
                proxy,
                examples_of(demo),
                {route["name"]: systems[route["upstream"]] for route in routes},
            )
            assert proxy.stop() == 0
            log = proxy.log() + proxy.output()
            assert "Traceback" not in log
            assert "PRIVATE KEY" not in log
            assert "eyJ" not in log, "no signed JWT either"


def test_every_preset_has_a_stand_in_and_is_proved_here(place: Place) -> None:
    presets = {route["auth"]["preset"] for route in place.demo.config()["routes"]}
    assert presets == {each["name"] for each in json.loads(authproxy("presets", "--json").stdout)}
    assert place.systems.keys() == EARNED.keys() | GIVEN.keys() | WITH_A_LOGIN


@pytest.mark.parametrize("route", EARNED)
def test_a_token_is_earned_once_and_again_when_it_is_refused(place: Place, route: str) -> None:
    before = place.token_requests(route)
    for _ in range(REQUESTS):
        answer = place.get(route)
        assert answer.status == 200, answer.body.decode()
        assert answer.json["path"] == place.examples[route]
    earned = place.token_requests(route) - before
    assert earned <= 1

    tokens = place.demo._served[place.systems[route]][0].tokens
    handed_out = dict(tokens._good_until)
    tokens.forget()
    try:
        answer = place.get(route)
        assert answer.status == 200, answer.body.decode()
        assert place.token_requests(route) > before + earned
    finally:
        tokens._good_until |= handed_out  # those of the system's other routes


@pytest.mark.parametrize("route", EARNED)
def test_what_is_wrong_is_tried_once_and_named(place: Place, route: str) -> None:
    key, _ = EARNED[route]
    tokens, calls = place.token_requests(route), place.api_requests(route)
    first = place.get(route, wrong=True)
    assert first.status == 502, first.body.decode()
    assert first.one("Content-Type") == "application/problem+json"
    assert first.proxy_error == "proxy_configuration_error"
    problem = first.json
    assert problem["title"]
    assert "answered 4" in problem["detail"]
    assert re.search(rf"check .*\b{key}\b", problem["hint"])
    assert "PRIVATE KEY" not in first.body.decode()

    later = place.get(route, wrong=True)
    assert (later.status, later.json["hint"]) == (503, problem["hint"])
    assert int(later.one("Retry-After") or 0) > 0
    assert place.token_requests(route) == tokens + 1, "another try could lock the account"
    assert place.api_requests(route) == calls, "nothing is sent to the API without its token"


@pytest.mark.parametrize("route", GIVEN)
def test_a_credential_of_the_configuration_is_taken_and_a_wrong_one_refused_by_the_api(
    place: Place, route: str
) -> None:
    assert place.get(route).status == 200
    calls = place.api_requests(route)
    answer = place.get(route, wrong=True)
    assert answer.status in REFUSALS
    assert answer.proxy_error is None, "it is the API's own answer"
    assert place.api_requests(route) == calls + 1, "there is no other one to repeat it with"


def test_github_wants_to_know_which_program_asks(place: Place) -> None:
    answer = get(place.proxy.url, "/github/user")
    assert answer.status == 403
    assert b"User-Agent" in answer.body


# ── the first minute ─────────────────────────────────────────────────────────────────────────────

SECTIONS = (ROOT / "docs/presets.md").read_text()


def example_of(preset: str) -> dict[str, Any]:
    """Return the route that docs/presets.md shows."""
    section = SECTIONS.partition(f"\n## `{preset}`\n")[2].partition("\n## ")[0]
    (text,) = re.findall(r"```yaml\n(- name:.*?)```", section, re.DOTALL)
    (route,) = yaml.safe_load(text)
    return dict(route)


def put(example: dict[str, Any], demo_route: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the example with the stand-in in the vendor's place, and the variables that it names."""
    variables, auth = {}, dict(demo_route["auth"])
    for key, written in example["auth"].items():
        if named := re.fullmatch(r"\$\{(\w+)\}", str(written)):
            variables[named[1]] = auth[key]
            auth[key] = written
    return example | {"upstream": demo_route["upstream"], "auth": auth}, variables


@pytest.mark.parametrize("route", [*EARNED, *GIVEN])
def test_the_example_of_the_docs_brings_the_first_authenticated_answer(
    place: Place, route: str, tmp_path: Path
) -> None:
    demo_route = next(each for each in place.demo.config()["routes"] if each["name"] == route)
    example = example_of(demo_route["auth"]["preset"])
    # Where it stands is all that a vendor's own place has to be told apart from its stand-in by.
    assert demo_route["auth"].keys() - {"token_url"} == example["auth"].keys() | (
        {"scope"} & demo_route["auth"].keys()
    )
    config, variables = put(example, demo_route)
    file = tmp_path / "authproxy.yaml"
    file.write_text(yaml.safe_dump({"routes": [config]}))
    args = ("-c", str(file), "--listen", "127.0.0.1:0", "--no-admin")
    with running_proxy(None, *args, env=variables) as proxy:
        prefix = config.get("path", "")
        answer = get(proxy.url, f"{prefix}{place.examples[route]}", AGENT)
        assert answer.status == 200, answer.body.decode()
        assert private_key() not in proxy.log()
