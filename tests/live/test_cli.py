"""The other verbs, as a user types them."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import authproxy, running_proxy, wait_until
from tests.support.launch import write_config
from tests.support.wire import API, Tokens, Upstream, get, json_reply

from .test_presets import CASES, OF_ANOTHER_KIND

SECRET = "never-to-be-shown"
CONFIG: dict[str, Any] = {
    "defaults": {"timeouts": {"connect": "3s"}},
    "routes": [
        {
            "name": "plain",
            "path": "/plain",
            "upstream": "https://www.example.com",
            "auth": {"grant": "none"},
        },
        {
            "name": "code42",
            "path": "/code42",
            "upstream": "https://console.example.com",
            "auth": {"preset": "code42-api-client", "client_id": "key-42", "client_secret": SECRET},
            "headers": {"set": {"X-Key": SECRET}},
        },
        {
            "name": "own",
            "host": "own.localhost",
            "upstream": "https://api.example.com",
            "auth": {
                "grant": "token_request",
                "url": "https://api.example.com/",
                "json": {"password": SECRET},
            },
        },
    ],
}


def test_the_installed_script_is_the_same_command() -> None:
    script = Path(sys.executable).with_name("authproxy")
    if not script.exists():
        pytest.skip("not installed")
    ended = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"authproxy \d+\.\d+\S*\n", ended.stdout)


@pytest.mark.parametrize("args", [["no-such-verb"], ["run", "--preset", "up42"], ["token"]])
def test_bad_usage_ends_with_2_and_says_so_on_stderr(args: list[str]) -> None:
    ended = authproxy(*args)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr


def test_without_any_configuration_the_places_that_were_searched_are_named() -> None:
    ended = authproxy("check")
    assert ended.returncode == 2
    for place in ("AUTHPROXY_CONFIG", "authproxy.yaml", "/etc/authproxy/config.yaml", "-c"):
        assert place in ended.stderr


def test_the_environment_may_name_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    assert authproxy("check", env={"AUTHPROXY_CONFIG": str(file)}).returncode == 0


def test_check_is_content_with_a_good_file() -> None:
    ended = authproxy("check", config=CONFIG)
    assert ended.returncode == 0
    assert "3 routes" in ended.stdout


def test_check_names_every_fault_in_a_line_of_its_own_and_never_a_value() -> None:
    config = f"""\
routes:
  - name: One
    upstream: https://api.example.com
    auth: {{grant: static, token: {SECRET}, tokn: {SECRET}}}
  - name: two
    path: /two
    upstream: ftp://api.example.com
    auth: {{grant: basic, username: me, password: [{SECRET}]}}
"""
    ended = authproxy("check", config=config)
    assert ended.returncode == 2
    assert ended.stderr == ""
    assert SECRET not in ended.stdout
    places = [line.partition("authproxy-test.yaml:")[2] for line in ended.stdout.splitlines()]
    for expected in ("2:11: routes[0].name: ", "routes[0].auth.tokn: ", "7:15: routes[1].upstream: ",
                     "routes[1].auth.password"):  # fmt: skip
        assert any(expected in place for place in places), f"{expected} in {ended.stdout}"
    assert all(re.match(r"\d+:\d+: routes\[\d\]\.", place) for place in places)


ODD = {
    "routes": [
        {
            "name": "odd",
            "upstream": "https://api.example.com",
            "auth": {"preset": "password-login", "username": "$USER_NAME", "password": "never$$shown "},
        }
    ]
}


def test_check_names_what_is_hardly_meant_and_is_content() -> None:
    ended = authproxy("check", config=ODD, env={"USER_NAME": "joe"})
    assert ended.returncode == 0
    assert ended.stderr == ""
    name, dollars, white, ok = ended.stdout.splitlines()
    assert name.endswith(":6:15: routes[0].auth.username: warning: $USER_NAME is plain text; "
                         "the variable is ${USER_NAME}")  # fmt: skip
    assert ":7:15: routes[0].auth.password: warning: " in white
    assert ":7:15: routes[0].auth.password: warning: contains $$, which" in dollars
    assert "ok, 1 route" in ok
    assert "shown" not in ended.stdout


def test_routes_tells_what_is_hardly_meant_beside_its_table_and_in_its_json() -> None:
    ended = authproxy("routes", config=ODD)
    assert (ended.returncode, ended.stderr.count("warning: ")) == (0, 3)
    assert "warning" not in ended.stdout
    ended = authproxy("routes", "--json", config=ODD)
    (route,) = json.loads(ended.stdout)
    assert [told.split(" ")[0] for told in route["warnings"]] == [
        "auth.username",
        "auth.password",
        "auth.password",
    ]
    assert "shown" not in ended.stdout + ended.stderr


def test_routes_shows_what_the_file_comes_to_with_secrets_masked() -> None:
    ended = authproxy("routes", config=CONFIG)
    assert ended.returncode == 0
    for shown in (
        "plain",
        "code42",
        "own",
        "/code42",
        "own.localhost",
        "https://console.example.com",
        "••••",
    ):
        assert shown in ended.stdout
    assert SECRET not in ended.stdout + ended.stderr


def test_routes_as_json_has_defaults_and_presets_filled_in() -> None:
    ended = authproxy("routes", "--json", config=CONFIG)
    assert ended.returncode == 0
    assert SECRET not in ended.stdout
    routes = {route["name"]: route for route in json.loads(ended.stdout)}
    code42 = routes["code42"]
    assert code42["timeouts"]["connect"] == 3
    assert code42["auth"]["client_secret"] == "••••"
    assert code42["auth"]["token_url"] == "https://console.example.com/api/v3/oauth/token"
    assert code42["headers"]["set"]["X-Key"] == "••••"


def test_presets_lists_them_and_shows_each_as_yaml() -> None:
    listed = authproxy("presets").stdout
    for name in CASES.keys() | OF_ANOTHER_KIND:
        assert name in listed
    ended = authproxy("presets", "show", "up42")
    assert ended.returncode == 0
    assert "auth.sa.up42.com" in ended.stdout
    assert isinstance(yaml.safe_load(ended.stdout), dict)
    assert authproxy("presets", "show", "no-such-preset").returncode == 2


def test_schema_is_a_json_schema_that_knows_the_keys() -> None:
    ended = authproxy("schema")
    schema = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert "json-schema.org" in schema["$schema"]
    assert {"listen", "admin", "routes", "limits", "access", "defaults"} <= schema["properties"].keys()


# ── token ────────────────────────────────────────────────────────────────────────────────────────


def token_config(tokens: Tokens, **more: Any) -> dict[str, Any]:
    auth = {
        "grant": "client_credentials",
        "client_id": "me",
        "client_secret": SECRET,
        "token_url": tokens.url,
    }
    return {"routes": [{"name": "api", "upstream": "https://api.example.com", "auth": {**auth, **more}}]}


def test_token_prints_a_usable_token_and_nothing_else() -> None:
    with Tokens() as tokens:
        ended = authproxy("token", "api", config=token_config(tokens))
        assert ended.returncode == 0
        assert ended.stdout == f"{tokens.issued.every[-1]}\n"
        assert ended.stderr == ""
        ended = authproxy(
            "token", "api", "--header", config=token_config(tokens, scheme="Token", header="X-T")
        )
        assert ended.stdout == f"X-T: Token {tokens.issued.every[-1]}\n"


def test_token_speaks_to_kubectl_and_to_credential_processes() -> None:
    with Tokens() as tokens:
        kubectl = authproxy("token", "api", "--format", "exec-credential", config=token_config(tokens))
        document = json.loads(kubectl.stdout)
        assert document["apiVersion"].startswith("client.authentication.k8s.io/")
        assert document["kind"] == "ExecCredential"
        assert document["status"]["token"] == tokens.issued.every[-1]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["status"]["expirationTimestamp"])

        process = authproxy("token", "api", "--format", "credential-process", config=token_config(tokens))
        document = json.loads(process.stdout)
        assert document["Version"] == 1
        assert tokens.issued.every[-1] in document.values()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["Expiration"])


@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1", "v1"])
def test_token_answers_kubectl_in_the_version_that_it_asks_for(version: str) -> None:
    asked = f"client.authentication.k8s.io/{version}"
    info = {"apiVersion": asked, "kind": "ExecCredential", "spec": {"interactive": True}}
    with Tokens() as tokens:
        args = ("token", "api", "--format", "exec-credential")
        env = {"KUBERNETES_EXEC_INFO": json.dumps(info)}
        kubectl = authproxy(*args, config=token_config(tokens), env=env)
        assert json.loads(kubectl.stdout)["apiVersion"] == asked


@pytest.mark.parametrize("info", ["", "{", "[]", '{"apiVersion": "client.authentication.k8s.io/v9"}'])
def test_token_answers_in_the_newest_version_when_nobody_asks_for_one_that_there_is(info: str) -> None:
    with Tokens() as tokens:
        args = ("token", "api", "--format", "exec-credential")
        kubectl = authproxy(*args, config=token_config(tokens), env={"KUBERNETES_EXEC_INFO": info})
        assert json.loads(kubectl.stdout)["apiVersion"] == "client.authentication.k8s.io/v1"


def test_a_tokens_end_is_known_from_a_reply_that_names_the_moment() -> None:
    with Tokens() as tokens:
        tokens.says(json_reply({"access_token": "a", "expires_at": 4_102_444_800_000}))
        args = ("token", "api", "--format", "exec-credential")
        document = json.loads(authproxy(*args, config=token_config(tokens)).stdout)
        tokens.says(json_reply({"access_token": "a", "expires_at": "2030-01-01T00:00:00+01:00"}))
        other = json.loads(authproxy(*args, config=token_config(tokens, scope="b")).stdout)
    assert other["status"]["expirationTimestamp"] == "2029-12-31T23:00:00Z"
    assert document["status"]["expirationTimestamp"] > other["status"]["expirationTimestamp"]


PLUGIN = """#!/bin/sh
# A credential plugin that reads a file of its own, and insists on being run as one.
case "$KUBERNETES_EXEC_INFO" in *client.authentication.k8s.io/v1*) cat secrets/token ;; *) exit 3 ;; esac
"""


def test_a_relative_program_starts_from_the_directory_of_the_configuration(tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    (directory / "secrets").mkdir(parents=True)
    (directory / "secrets" / "token").write_text('{"accessToken": "by-the-plugin"}')
    (directory / "bin").mkdir()
    (directory / "bin" / "plugin").write_text(PLUGIN)
    (directory / "bin" / "plugin").chmod(0o700)
    auth = {"grant": "command", "command": ["bin/plugin"]}
    route = {"name": "api", "upstream": "http://127.0.0.1:9", "auth": auth}
    file = write_config(directory, {"routes": [route]})
    ended = authproxy("token", "api", "-c", str(file))
    assert (ended.returncode, ended.stdout) == (0, "by-the-plugin\n"), ended.stderr
    ended = authproxy("token", "api", "-c", os.path.relpath(file, "/"), cwd=Path("/"))
    assert (ended.returncode, ended.stdout) == (0, "by-the-plugin\n"), ended.stderr


def test_token_fails_with_1_and_the_cause_and_2_for_a_route_that_is_not_there() -> None:
    with Tokens() as tokens:
        tokens.says(json_reply({"error": "invalid_client"}, 401))
        ended = authproxy("token", "api", config=token_config(tokens))
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "invalid_client" in ended.stderr
        assert SECRET not in ended.stderr
        ended = authproxy("token", "no-such-route", config=token_config(tokens))
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "api" in ended.stderr
        assert len(tokens.requests) == 1


# ── run without a file ───────────────────────────────────────────────────────────────────────────


def test_run_with_an_upstream_and_a_preset_needs_no_file() -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        with running_proxy(
            None, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", api.url,
            "--preset", "up42",
            "--set", "username=me@example.com", "--set", "password=${PASSWORD}",
            "--set", f"token_url={tokens.url}/token", "--set", "timeouts.connect=2s",
            env={"PASSWORD": SECRET},
        ) as proxy:  # fmt: skip
            assert get(proxy.url, "/v2/assets?x=%20").status == 200
            assert proxy.stop() == 0
            assert SECRET not in proxy.log()
        assert api.last.target == "/v2/assets?x=%20"
        assert tokens.last.form["password"] == SECRET
        assert tokens.last.form["client_id"] == "up42-api"


def test_run_with_an_upstream_alone_forwards_plainly() -> None:
    with Upstream() as upstream, running_proxy(
        None, "--listen", "127.0.0.1:0", "--no-admin", "--upstream", upstream.url
    ) as proxy:  # fmt: skip
        assert get(proxy.url, "/x").status == 200
        assert upstream.last.names == ["host"]


def test_run_names_a_setting_that_is_wrong() -> None:
    upstream = ["--upstream", "https://api.example.com", "--no-admin", "--listen", "127.0.0.1:0"]
    ended = authproxy(
        "run",
        *upstream,
        "--preset",
        "up42",
        "--set",
        f"pasword={SECRET}",
        "--set",
        "username=x",
        "--set",
        "password=x",
    )
    assert ended.returncode == 2
    assert "pasword" in ended.stderr
    assert SECRET not in ended.stderr


# ── demo ─────────────────────────────────────────────────────────────────────────────────────────

SCHEMES = {
    "code42": "Bearer",
    "code42-user": "Bearer",
    "code42-basic": "Basic",
    "incydr": "Bearer",
    "calendar42": "Token",
    "calendar42-action": "ActionToken",
    "up42": "Bearer",
    "login": "Bearer",
    "planet": "api-key",
    "gitlab": "",  # a header of its own
    "atlassian": "Basic",
    "github-app": "Bearer",
}


def test_every_line_that_the_demo_prints_works() -> None:
    with running_proxy(None, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", verb="demo") as proxy:
        wait_until(lambda: "Press Ctrl-C" in proxy.output())
        lines = [line.strip() for line in proxy.output().splitlines() if line.strip().startswith("curl ")]
        seen = {}
        for line in lines:
            url = shlex.split(line)[-1]
            assert url.startswith(f"{proxy.url}/")
            target = url.removeprefix(proxy.url)
            for _ in range(2):
                answer = get(proxy.url, target, "User-Agent: curl/8")  # GitHub wants one
                assert answer.status == 200, f"{line}: {answer.body.decode()}"
            seen[target.split("/")[1]] = answer.json["headers"].get("Authorization", "").partition(" ")[0]
        assert seen.items() >= SCHEMES.items()
        assert get(proxy.admin_url, "/readyz?route=up42").status == 200
        assert get(proxy.admin_url, "/readyz?route=calendar42-oauth").status == 503  # nobody has logged in
        assert proxy.stop() == 0
