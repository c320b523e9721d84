"""A credential that was rejected is left alone: by this process, by the next one, and by those beside it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import authproxy, running_proxy
from tests.support.launch import COMMAND, GUARD, environment, write_config
from tests.support.wire import Message, Tokens, Upstream, Wire, ask, connect, json_reply, reply, request

PASSWORD = "wrong-password-of-a-person"
NO_TOKEN = reply("200 OK", "Content-Type: application/json", body=b'{"message": "who are you?"}')
LOGIN_PAGE = reply("200 OK", "Content-Type: text/html", body=b"<html>wrong name or password</html>")
LOCKED = json_reply({"message": "the account is locked"}, 423)
WRONG = json_reply({"error": "invalid_grant", "error_description": "wrong name or password"}, 400)


@contextmanager
def system(*, grant: str = "password", store: str | None = None) -> Iterator[tuple[Tokens, dict[str, Any]]]:
    """Yield a token endpoint and a configuration with a route `api` that wants a token from there."""
    with Tokens() as tokens, Upstream(lambda _request, _wire: reply(body=b"fine")) as api:
        auth: dict[str, Any] = {"grant": grant, "username": "a", "password": PASSWORD}
        auth |= {"token_url": f"{tokens.url}/token", "client_id": "a"}
        if grant == "client_credentials":
            auth = {
                "grant": grant,
                "token_url": f"{tokens.url}/token",
                "client_id": "a",
                "client_secret": PASSWORD,
            }
        if grant == "token_request":
            form = {"username": "a", "password": PASSWORD}
            auth = {"grant": grant, "url": f"{tokens.url}/login", "form": form}
        config: dict[str, Any] = {"routes": [{"name": "api", "upstream": api.url, "auth": auth}]}
        if store is not None:
            config["token_store"] = {"type": store}
        yield tokens, config


def get(url: str) -> Any:
    return ask(url, request("GET"))


@pytest.mark.parametrize(
    ("grant", "refusal", "status"),
    [
        ("token_request", NO_TOKEN, 502),
        ("token_request", LOGIN_PAGE, 502),
        ("token_request", reply("404 Not Found"), 502),
        ("token_request", LOCKED, 502),
        ("password", LOCKED, 502),
        ("password", WRONG, 502),
        ("password", NO_TOKEN, 502),
    ],
    ids=[
        "no-token",
        "login-page",
        "404",
        "423-at-a-login",
        "423",
        "invalid_grant",
        "no-token-twice",
    ],
)
def test_a_rejected_credential_is_tried_once_whatever_the_server_calls_it(
    grant: str, refusal: bytes, status: int
) -> None:
    with system(grant=grant) as (tokens, config), running_proxy(config) as proxy:
        tokens.says(refusal)
        first = get(proxy.url)
        assert first.status == status
        assert int(first.one("Retry-After") or "") >= 30
        later = [get(proxy.url) for _ in range(5)]
        assert [answer.status for answer in later] == [503] * 5
        for answer in later:
            for word in ("title", "detail", "hint"):
                assert answer.json.get(word) == first.json.get(word)
        assert len(tokens.requests) == 1


def test_a_token_endpoint_whose_reply_holds_no_token_is_asked_again_soon() -> None:
    with system(grant="client_credentials") as (tokens, config), running_proxy(config) as proxy:
        tokens.says(NO_TOKEN)
        assert int(get(proxy.url).one("Retry-After") or "") < 5


@pytest.mark.parametrize("store", [None, "memory", "file"])
def test_authproxy_token_four_times_in_a_row_tries_a_wrong_password_once(
    store: str | None, tmp_path: Path
) -> None:
    home = {"HOME": str(tmp_path)}
    with system(store=store) as (tokens, config):
        tokens.says(WRONG)
        ended = [authproxy("token", "api", config=config, env=home) for _ in range(4)]
        assert [each.returncode for each in ended] == [1] * 4
        assert len(tokens.requests) == 1
        for each in ended:
            assert "invalid_grant: wrong name or password" in each.stderr
        assert "--retry-rejected" in ended[1].stderr
        assert PASSWORD not in "".join(each.stderr + each.stdout for each in ended)

        tokens.answer = tokens.first_answer
        tried = authproxy("token", "api", "--retry-rejected", config=config, env=home)
        assert (tried.returncode, len(tokens.requests)) == (0, 2)
        again = authproxy("token", "api", config=config, env=home)
        assert again.returncode == 0, "a success is the end of it"


def test_a_restart_does_not_try_a_rejected_credential_again_until_its_time(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    with system() as (tokens, config):
        tokens.says(WRONG)
        for number in range(3):
            with running_proxy(config, env=home) as proxy:
                answer = get(proxy.url)
                assert answer.status == (503 if number else 502)
                assert answer.json["title"] == "Credential rejected"
        assert len(tokens.requests) == 1
        with running_proxy(config, "--retry-rejected", env=home) as proxy:
            assert get(proxy.url).status == 502
            assert get(proxy.url).status == 503
        assert len(tokens.requests) == 2


def test_processes_that_start_at_the_same_time_try_a_wrong_password_once(tmp_path: Path) -> None:
    another = threading.Event()

    def slowly(_request: Message, _wire: Wire) -> bytes:
        """Say no only when a second process has asked too, or none has for a while."""
        if len(tokens.requests) > 1:
            another.set()
        another.wait(1)  # less than a turn lasts
        return WRONG

    with system() as (tokens, config):
        tokens.answer = slowly
        file = write_config(tmp_path, config)
        command = [*COMMAND, "token", "api", "-c", str(file)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        env = environment(tmp_path)
        started = [subprocess.Popen(command, env=env, cwd=tmp_path, **quiet) for _ in range(6)]
        assert [each.wait(GUARD) for each in started] == [1] * 6
        assert len(tokens.requests) == 1


def test_a_new_password_is_tried_at_once_by_the_next_process(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    with system() as (tokens, config):
        tokens.says(WRONG)
        authproxy("token", "api", config=config, env=home)
        tokens.answer = tokens.first_answer
        config["routes"][0]["auth"]["password"] = "another-one"
        assert authproxy("token", "api", config=config, env=home).returncode == 0


def test_what_is_remembered_of_a_rejection_does_not_hold_the_secret(tmp_path: Path) -> None:
    with system() as (tokens, config):
        tokens.says(WRONG)
        authproxy("token", "api", config=config, env={"HOME": str(tmp_path)})
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert any(path.name == "rejections" for path in kept)
        for path in kept:
            assert PASSWORD.encode() not in path.read_bytes()
            assert path.stat().st_mode & 0o077 == 0


def test_where_nothing_can_be_remembered_the_proxy_goes_on_without(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where a directory should be")
    with system() as (tokens, config):
        env = {"XDG_STATE_HOME": str(blocked)}
        assert authproxy("token", "api", config=config, env=env).returncode == 0
        tokens.says(WRONG)
        ended = authproxy("token", "api", config=config, env=env)
        assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)


def test_a_command_in_a_rejected_secret_is_run_again_every_few_seconds_only(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    program = tmp_path / "secret.py"
    program.write_text(f"open({str(runs)!r}, 'a').write('x')\nprint('secret')\n")
    with system() as (tokens, config):
        config["routes"][0]["auth"]["password"] = f"${{command:{sys.executable} {program}}}"
        tokens.says(WRONG)
        with running_proxy(config) as proxy:
            assert [get(proxy.url).status for _ in range(20)] == [502] + [503] * 19
        assert len(runs.read_text()) <= 3, "at the start, once it was rejected, and never once a request"
        assert len(tokens.requests) == 1


def test_a_file_with_a_new_secret_is_noticed_at_the_next_request(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("old")
    with system() as (tokens, config):
        config["routes"][0]["auth"]["password"] = f"${{file:{secret}}}"
        tokens.says(WRONG)
        with running_proxy(config) as proxy:
            assert [get(proxy.url).status for _ in range(3)] == [502, 503, 503]
            tokens.answer = tokens.first_answer
            secret.write_text("new")
            assert get(proxy.url).status == 200
        assert tokens.requests[-1].form["password"] == "new"


def test_a_store_that_cannot_be_used_does_not_make_a_rejection_forgotten(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    with system() as (tokens, config):
        blocked = tmp_path / "blocked"
        blocked.write_text("a file where a directory should be")
        config["token_store"] = {"type": "file", "path": str(blocked / "tokens")}
        tokens.says(WRONG)
        for _ in range(3):
            assert authproxy("token", "api", config=config, env=home).returncode == 1
        assert len(tokens.requests) == 1


def test_a_process_that_was_stopped_in_its_token_request_does_not_hold_up_another_one_for_long(
    tmp_path: Path,
) -> None:
    home = {"HOME": str(tmp_path)}
    with system(grant="client_credentials") as (tokens, config), running_proxy(config, env=home) as stopped:
        tokens.held.clear()
        with connect(stopped.url).send(request("GET")):
            tokens.wait_for(1)
            os.kill(stopped.pid, signal.SIGSTOP)
            tokens.held.set()
            try:
                with running_proxy(config, env=home) as proxy:
                    assert get(proxy.url).status == 200  # within the suite's guard, and not after 45 s
            finally:
                os.kill(stopped.pid, signal.SIGCONT)
