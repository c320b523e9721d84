"""`authproxy env`: what it prints is what a shell that reads it has afterwards."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from authproxy.proxy.placeholders import placeholder
from tests.support.command import authproxy, running_proxy
from tests.support.systems import needs_unix_sockets
from tests.support.wire import Upstream, get

STRANGE = {
    "SPACES": "  two words  ",
    "SINGLE": "it's",
    "DOUBLE": 'say "hello"',
    "COLOUR": "\x1b[31mred\x1b[0m",
    "BOTH": "'\"'\"",
    "DOLLARS": "$HOME ${{HOME}} $(id) `id` $$",
    "BACKSLASHES": "a\\b\\\\c\\'\\n\\",
    "BREAKS": "one\ntwo\n\n",
    "TABS": "\tx\t",
    "ACCENTS": "naïve — 日本 🙂 ‘quoted’",  # noqa: RUF001 - quotes to PowerShell
    "SIGNS": "!*?[]{{}}()<>|&;#~%^=+@,:/-",
    "EMPTY": "",
    "PERCENT": "%PATH%",
    "URL": "{url}/v1?a=1&b=2",
}
PLAIN = {name: value.replace("{{", "{").replace("}}", "}") for name, value in STRANGE.items()}
PYTHON = "import json, os, sys; sys.stdout.write(json.dumps(dict(os.environ)))"


def route(**keys: Any) -> dict[str, Any]:
    """Return a route; a key that is None is left out."""
    usual = {"name": "api", "path": "/api", "upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}}
    return {name: value for name, value in {**usual, **keys}.items() if value is not None}


def config_with(env: dict[str, str], **more: Any) -> dict[str, Any]:
    written = {name: value.replace("$", "$$") for name, value in env.items()}
    return {"admin": False, "listen": "127.0.0.1:9123", "routes": [route(env=written)], **more}


def printed(config: Any, *args: str, env: dict[str, str] | None = None) -> str:
    ended = authproxy("env", *args, config=config, env=env)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def as_json(config: Any, *args: str, env: dict[str, str] | None = None) -> dict[str, str]:
    found: dict[str, str] = json.loads(printed(config, "--shell", "json", *args, env=env))
    return found


@pytest.mark.parametrize(
    ("program", "shell", "script"),
    [
        ("sh", "sh", 'eval "$(cat "$1")"; exec python3 -c "$2"'),
        ("dash", "sh", '. "$1"; exec python3 -c "$2"'),
        ("bash", "sh", 'eval "$(cat "$1")"; exec python3 -c "$2"'),
        ("zsh", "sh", 'eval "$(cat "$1")"; exec python3 -c "$2"'),
        ("fish", "fish", "source $argv[1]; exec python3 -c $argv[2]"),
    ],
)
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_shell_has_each_value_to_the_byte(
    tmp_path: Path, program: str, shell: str, script: str, locale: str
) -> None:
    if (found := shutil.which(program)) is None:
        pytest.skip(f"there is no {program}")
    text = printed(config_with(STRANGE), "--shell", shell, env={"LC_ALL": locale, "PYTHONUTF8": "0"})
    file = tmp_path / "variables"
    file.write_text(text, encoding="utf-8", newline="")
    name = [] if program == "fish" else ["sh"]
    ended = subprocess.run(
        [found, "-c", script, *name, str(file), PYTHON],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True, check=True,
    )  # fmt: skip
    got = json.loads(ended.stdout)
    wanted = {**PLAIN, "URL": "http://127.0.0.1:9123/api/v1?a=1&b=2"}
    assert {name: got.get(name) for name in wanted} == wanted
    assert got["API_URL"] == "http://127.0.0.1:9123/api"
    assert got["AUTHPROXY_URL"] == "http://127.0.0.1:9123"


def test_a_file_of_variables_is_read_alike_by_who_reads_such_files(tmp_path: Path) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("there is no node")
    fit = {
        name: value
        for name, value in STRANGE.items()
        if name not in {"BOTH", "BACKSLASHES", "BREAKS", "DOLLARS"}
    }
    file = tmp_path / ".env"
    file.write_text(
        printed(config_with({**fit, "TWO_LINES": "one\ntwo", "DOLLAR": "$HOME `id` $$"}), "--shell", "dotenv")
    )
    script = (
        "const text = require('fs').readFileSync(process.argv[1], 'utf8');"
        "process.stdout.write(JSON.stringify(require('util').parseEnv(text)))"
    )
    ended = subprocess.run([node, "-e", script, str(file)], capture_output=True, text=True, check=False)
    if "parseEnv is not a function" in ended.stderr:
        pytest.skip("this node reads no such files")
    got = json.loads(ended.stdout)
    wanted = {name: PLAIN[name] for name in fit if name != "URL"}
    assert {name: got.get(name) for name in wanted} == wanted
    assert (got["TWO_LINES"], got["DOLLAR"]) == ("one\ntwo", "$HOME `id` $$")


def test_what_no_such_file_can_hold_is_refused() -> None:
    ended = authproxy("env", "--shell", "dotenv", config=config_with({"BOTH": STRANGE["BOTH"]}))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the value of BOTH cannot be written" in ended.stderr
    assert "--shell json" in ended.stderr


def test_a_name_that_a_shell_cannot_have_is_left_out_and_told() -> None:
    config = config_with({})
    config["routes"][0]["name"] = "42-api"
    ended = authproxy("env", config=config)
    assert ended.returncode == 0
    assert "42_API_URL" not in ended.stdout
    assert "sh can have no variable 42_API_URL" in ended.stderr
    assert as_json(config)["42_API_URL"] == "http://127.0.0.1:9123/api"


def test_json_is_one_flat_object() -> None:
    found = as_json(
        config_with({"KEY": "{placeholder}", "AT": "{host}:{port}"}), env={"no_proxy": "a.example"}
    )
    assert found == {
        "AUTHPROXY_URL": "http://127.0.0.1:9123",
        "API_URL": "http://127.0.0.1:9123/api",
        "KEY": placeholder("api"),
        "AT": "127.0.0.1:9123",
        "NO_PROXY": "a.example,localhost,127.0.0.1,::1",
        "no_proxy": "a.example,localhost,127.0.0.1,::1",
    }


def test_a_route_with_a_listener_of_its_own_is_there_and_one_with_a_host_has_its_name() -> None:
    routes = [
        route(listen="127.0.0.1:9124"),
        route(name="alone", path=None, listen="127.0.0.1:9125"),
        route(name="named", path=None, host="named.localhost"),
    ]
    found = as_json({"admin": False, "listen": "127.0.0.1:9123", "routes": routes})
    assert found["API_URL"] == "http://127.0.0.1:9124"
    assert found["ALONE_URL"] == "http://127.0.0.1:9125"
    assert found["NAMED_URL"] == "http://named.localhost:9123"
    assert found["AUTHPROXY_URL"] == "http://127.0.0.1:9123"
    assert set(as_json({"admin": False, "listen": "127.0.0.1:9123", "routes": routes}, "alone")) == {
        "AUTHPROXY_URL", "ALONE_URL", "NO_PROXY", "no_proxy",
    }  # fmt: skip


def test_the_proxy_that_runs_is_asked_for_its_ports() -> None:
    with Upstream() as api:
        own = route(name="own", path=None, listen="127.0.0.1:0", upstream=api.url)
        config = {"routes": [route(upstream=api.url), own]}
        with running_proxy(config) as proxy:
            config["admin"] = {"listen": proxy.admin_url.removeprefix("http://")}
            config["listen"] = "127.0.0.1:0"
            found = as_json(config)
            assert found["AUTHPROXY_URL"] == proxy.url
            assert get(found["OWN_URL"], "/x").status == 200
            assert found["API_URL"] == f"{proxy.url}/api"
        ended = authproxy("env", config=config)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "whichever port is free" in ended.stderr


@needs_unix_sockets
def test_a_unix_socket_has_no_url(tmp_path: Path) -> None:
    config = config_with({}, listen=f"unix:{tmp_path}/proxy.sock")
    ended = authproxy("env", config=config)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Unix socket" in ended.stderr
    assert "authproxy exec" in ended.stderr
    both = config_with({}, listen=[f"unix:{tmp_path}/proxy.sock", "127.0.0.1:9123"])
    assert as_json(both)["API_URL"] == "http://127.0.0.1:9123/api"


def test_an_unknown_route_is_told_with_those_there_are() -> None:
    ended = authproxy("env", "apy", config=config_with({}))
    assert ended.returncode == 2
    assert "api" in ended.stderr
