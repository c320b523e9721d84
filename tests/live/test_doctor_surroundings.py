"""`authproxy doctor` beside faulty configurations, rejections, a proxy that runs, and a terminal."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import authproxy, running_proxy
from tests.support.doctor import (
    LISTENERS,
    SECRET,
    TOKEN,
    Servers,
    carries_credential,
    examined,
    running_servers,
    steps_of,
)
from tests.support.launch import COMMAND, environment, write_config
from tests.support.ports import free_port
from tests.support.wire import Message, Wire, json_reply


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with running_servers(tmp_path) as servers:
        yield servers


# ── configurations ───────────────────────────────────────────────────────────────────────────────

TWO = """\
listen: 127.0.0.1:0
admin: false
routes:
  - name: broken
    path: /broken
    upstream: https://api.example
    auth: {{grant: static, token: "{secret}
  - name: api
    upstream: {api}
    auth: {{grant: static, token: {token}}}
"""


def test_where_one_route_is_no_yaml_the_others_are_examined(servers: Servers) -> None:
    config = TWO.format(secret=SECRET, api=servers.api.url, token=TOKEN)
    document, text, code = examined(servers, config)
    assert code == 2
    step = steps_of(document, "broken")["config"]
    assert re.search(r"authproxy-test\.yaml:\d+:\d+: is not YAML", step["cause"])
    assert "quotes or brackets" in step["next"]
    assert step["cause"] in text
    assert all(each["ok"] for each in steps_of(document).values())
    assert servers.api.last.one("Authorization") == f"Bearer {TOKEN}"


def test_a_tab_is_told_where_it_stands(servers: Servers) -> None:
    config = TWO.format(secret=SECRET, api=servers.api.url, token=TOKEN).replace(
        "    path: /broken", "\tpath: /b"
    )
    document, _, code = examined(servers, config.replace(f'"{SECRET}', "x}"))
    assert code == 2
    assert "authproxy-test.yaml:5:1: is not YAML" in steps_of(document, "broken")["config"]["cause"]
    assert steps_of(document)["upstream"]["ok"] is True


@pytest.mark.parametrize(
    ("token", "cause", "what_next"),
    [
        ("${NO_SUCH_TOKEN}", "NO_SUCH_TOKEN is not set", "set NO_SUCH_TOKEN"),
        ("${EMPTY_TOKEN}", "is empty", "give ${EMPTY_TOKEN} a value"),
        ("${file:missing}", "cannot be read", "correct the path"),
        ("${file:marked}", "byte order mark", "save the file"),
        ("${file:blank}", "should not be empty", "give it a value"),
        ("${command:false}", "exit code 1", "run it by hand"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told(
    servers: Servers, token: str, cause: str, what_next: str
) -> None:
    (servers.directory / "marked").write_bytes(b"\xef\xbb\xbf" + TOKEN.encode())
    (servers.directory / "blank").write_bytes(b" \n \n")
    token = token.replace("file:", f"file:{servers.directory}/")
    servers.env = {"EMPTY_TOKEN": ""}
    route = servers.route(name="bad", path="/bad", auth={"grant": "static", "token": token})
    sound = servers.route(auth={"grant": "static", "token": TOKEN})
    config = json.dumps({**LISTENERS, "routes": [route, sound]})
    document, text, code = examined(servers, config)
    step = steps_of(document, "bad")["secrets"]
    assert (code, step["ok"]) == (2, False)
    assert cause in step["cause"]
    assert "routes[0].auth.token" in step["cause"]
    assert what_next in step["next"]
    assert step["next"] in text
    assert steps_of(document)["upstream"]["ok"] is True


def test_with_a_faulty_setting_that_concerns_callers_alone_routes_are_examined(servers: Servers) -> None:
    config = json.dumps({**LISTENERS, "workers": "many", "routes": [servers.route()]})
    document, _, code = examined(servers, config)
    assert code == 2
    assert re.search(r":\d+:\d+: workers: ", document["proxy"]["steps"][0]["cause"])
    assert steps_of(document)["upstream"]["ok"] is True


def test_with_a_faulty_setting_that_may_concern_tokens_none_is_asked_for(servers: Servers) -> None:
    config = json.dumps({**LISTENERS, "token_stor": {"type": "memory"}, "routes": [servers.route()]})
    document, _, code = examined(servers, config)
    assert code == 2
    assert "did you mean `token_store`" in document["proxy"]["steps"][0]["cause"]
    assert steps_of(document)["token"]["ok"] is None
    assert steps_of(document)["tcp"]["ok"] is True
    assert not servers.tokens.requests
    assert not servers.api.requests


def test_a_faulty_default_may_concern_every_route(servers: Servers) -> None:
    config = json.dumps({**LISTENERS, "defaults": {"http_proxi": "http://p:1"}, "routes": [servers.route()]})
    _, _, code = examined(servers, config)
    assert code == 2
    assert servers.tokens.connections == servers.api.connections == 0


@pytest.mark.parametrize("text", ["", "routes: [", "routes: []", "[]", "routes:\n"])
def test_a_file_that_holds_no_route_is_told(servers: Servers, text: str) -> None:
    document, _, code = examined(servers, text)
    assert code == 2
    (step,) = document["proxy"]["steps"]
    assert re.search(r"authproxy-test\.yaml:1:\d+: ", step["cause"])
    assert step["next"]


def test_a_file_that_is_not_there_is_told(servers: Servers) -> None:
    ended = authproxy("doctor", "--json", "-c", "no-such.yaml")
    assert ended.returncode == 2
    assert "no-such.yaml" in json.loads(ended.stdout)["proxy"]["steps"][0]["cause"]


def test_a_route_that_is_not_there_is_bad_usage(servers: Servers) -> None:
    ended = authproxy("doctor", "ap", config={**LISTENERS, "routes": [servers.route()]})
    assert ended.returncode == 2
    assert "there is no route 'ap'" in ended.stderr
    assert "did you mean api?" in ended.stderr


def test_only_the_route_that_is_named_is_examined(servers: Servers) -> None:
    others = servers.route(name="other", path="/other", upstream=servers.other.url)
    config = json.dumps({**LISTENERS, "routes": [servers.route(), others]})
    document, _, code = examined(servers, config, "api")
    assert code == 0
    assert [each["name"] for each in document["routes"]] == ["api"]
    assert not servers.other.connections


# ── the credential is handled as the proxy handles it ────────────────────────────────────────────


def test_a_rejected_credential_is_left_alone_until_its_time(servers: Servers, tmp_path: Path) -> None:
    servers.tokens.says(json_reply({"error": "invalid_client"}, 401))
    servers.env = {"XDG_STATE_HOME": str(tmp_path)}
    config = {**LISTENERS, "routes": [servers.route()]}
    first = authproxy("doctor", config=config, env=servers.env)
    again = authproxy("doctor", config=config, env=servers.env)
    assert (first.returncode, again.returncode) == (1, 1)
    assert len(servers.tokens.requests) == 1
    assert "answered 401 invalid_client" in again.stdout
    assert "--retry-rejected" in again.stdout
    authproxy("doctor", "--retry-rejected", config=config, env=servers.env)
    assert len(servers.tokens.requests) == 2


def test_a_refresh_token_that_rotates_is_stored(servers: Servers, tmp_path: Path) -> None:
    def rotate(request: Message, _wire: Wire) -> bytes:
        number = len(servers.tokens.requests)
        used.append(request.form["refresh_token"])
        return json_reply({"access_token": TOKEN, "expires_in": 1, "refresh_token": f"refresh-{number}"})

    used: list[str] = []
    servers.tokens.answer = rotate
    auth = servers.auth | {"grant": "refresh_token", "refresh_token": "refresh-0"}
    store = {"type": "file", "path": str(tmp_path / "tokens"), "key": "a passphrase of ours"}
    config = json.dumps({**LISTENERS, "token_store": store, "routes": [servers.route(auth=auth)]})
    assert examined(servers, config)[2] == 0
    authproxy("doctor", config=config)
    assert used[:2] == ["refresh-0", "refresh-1"]


def test_a_token_that_is_refused_is_renewed_once(servers: Servers) -> None:
    tokens = iter(["old", TOKEN, "old", TOKEN])
    servers.tokens.answer = lambda _request, _wire: json_reply({"access_token": next(tokens)})
    document, _, code = examined(servers, servers.route())
    assert code == 0
    assert "answered 200" in steps_of(document)["upstream"]["detail"]


# ── the proxy of this configuration ──────────────────────────────────────────────────────────────


def test_a_proxy_that_runs_is_recognised(servers: Servers) -> None:
    listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = {"listen": listen, "admin": {"listen": admin}, "routes": [servers.route()]}
    with running_proxy(config):
        document, _, code = examined(servers, json.dumps(config))
    assert code == 0
    steps = {step["name"]: step for step in document["proxy"]["steps"]}
    assert f"runs, and listens on {listen}" in steps["proxy"]["detail"]
    assert "healthy and ready" in steps["admin"]["detail"]


def test_a_port_that_somebody_else_has_is_told(servers: Servers) -> None:
    admin = f"127.0.0.1:{free_port()}"
    listen = f"127.0.0.1:{servers.other.port}"
    config = {"listen": listen, "admin": {"listen": admin}, "routes": [servers.route()]}
    document, _, code = examined(servers, json.dumps(config))
    steps = {step["name"]: step for step in document["proxy"]["steps"]}
    assert code == 1
    assert f"{listen} is taken by something that is not authproxy" in steps["proxy"]["cause"]
    assert "run --listen" in steps["proxy"]["next"]
    assert steps["admin"]["ok"] is None
    assert not any(map(carries_credential, servers.other.requests))


def test_a_proxy_that_does_not_run_is_no_failure(servers: Servers) -> None:
    config = {"listen": f"127.0.0.1:{free_port()}", "admin": False, "routes": [servers.route()]}
    document, _, code = examined(servers, json.dumps(config))
    assert code == 0
    assert document["proxy"]["steps"][1]["ok"] is None


# ── at the terminal ──────────────────────────────────────────────────────────────────────────────


def test_where_stdout_is_ascii_marks_are_words(servers: Servers) -> None:
    servers.env = {"PYTHONIOENCODING": "ascii"}
    ended = authproxy("doctor", config={**LISTENERS, "routes": [servers.route()]}, env=servers.env)
    assert ended.stdout.isascii()
    assert "  ok     upstream" in ended.stdout


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo terminals")
def test_ctrl_c_ends_it_and_a_terminal_shows_what_is_waited_for(servers: Servers, tmp_path: Path) -> None:
    held = threading.Event()

    def hold(_request: Message, _wire: Wire) -> None:
        held.wait(20)

    servers.api.answer = hold
    file = write_config(tmp_path, {**LISTENERS, "routes": [servers.route()]})
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "doctor", "-c", str(file)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    try:
        while "upstream …".encode() not in shown:
            shown += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        held.set()
        process.kill()
        os.close(leader)
        process.communicate()
    assert b"Traceback" not in shown
