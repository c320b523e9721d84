"""The first minute of somebody who has never seen this: what is said, and whether it works when pasted."""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from authproxy.capabilities import UNIX_SOCKETS, WORKERS
from authproxy.config.presets import presets
from authproxy.demo.keys import private_key
from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.installed import need
from tests.support.launch import COMMAND, GUARD, environment, write_config
from tests.support.systems import needs
from tests.support.terminal import terminal
from tests.support.wire import API, Tokens, Upstream, get, json_reply

KEY = "a-key-that-callers-have-to-send-0123456789"
ANY = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX's")


def plain(upstream: str, name: str = "api", **more: Any) -> dict[str, Any]:
    return {"name": name, "path": f"/{name}", "upstream": upstream, "auth": {"grant": "none"}, **more}


def pasted(line: str, env: dict[str, str] | None = None) -> str:
    """Run a line as a shell would, and return what it printed."""
    need("curl")
    line = line.replace("curl ", "curl -sS ", 1)
    ended = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=GUARD, check=False,
        env={"PATH": os.environ["PATH"], **(env or {})},
    )  # fmt: skip
    assert ended.returncode == 0, f"{line}: {ended.stderr}"
    return ended.stdout


# ── run ──────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def greeted(config: dict[str, Any] | None, *args: str, **options: Any) -> Iterator[tuple[RunningProxy, str]]:
    """Run the proxy with stderr on a terminal; yield it and what stands there once it has greeted."""
    with terminal() as screen:
        with running_proxy(config, *args, stderr=screen.descriptor, **options) as proxy:
            yield proxy, screen.wait_for("try   curl ")
        assert "lines dropped" not in screen.text


def line_to_try(text: str) -> str:
    (line,) = re.findall(r"^try   (curl .*)$", text, re.MULTILINE)
    return line


@on_posix
def test_on_a_terminal_run_says_the_file_each_route_the_page_and_a_line_that_works() -> None:
    with Upstream() as upstream:
        routes = [plain(upstream.url, "one"), plain(upstream.url, "other")]
        with greeted({"routes": routes}) as (proxy, text):
            assert str(proxy.config_file) in text
            for route in routes:
                assert re.search(rf"{route['name']} +{proxy.url}/{route['name']} +→ {upstream.url}", text)
            assert f"page  {proxy.admin_url}/" in text
            pasted(line_to_try(text))
            assert upstream.last.target == "/"
            assert proxy.output() == f"listening on {proxy.url}\nadmin on {proxy.admin_url}\n"


def test_on_a_pipe_it_says_none_of_it() -> None:
    with running_proxy({"routes": [plain("https://api.example.com")]}) as proxy:
        assert proxy.output() == f"listening on {proxy.url}\nadmin on {proxy.admin_url}\n"
        proxy.stop()
        assert "curl" not in proxy.log()


@on_posix
def test_no_color_takes_the_colours_away_and_nothing_else() -> None:
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        with terminal() as screen:
            config = {"routes": [plain("https://api.example.com")]}
            with running_proxy(config, stderr=screen.descriptor, env={"TERM": "xterm", **env}):
                screen.wait_for("try   curl ")
            assert ("\x1b[" in screen.raw) == coloured


@on_posix
@needs(UNIX_SOCKETS)
def test_a_unix_socket_is_tried_by_curls_option(tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    with Upstream() as upstream, running_on(f"unix:{path}", upstream.url) as (_, text):
        assert "page  " not in text  # no browser opens a socket
        pasted(line_to_try(text))
        assert upstream.last.target == "/"


@contextmanager
def running_on(listen: str, upstream: str) -> Iterator[tuple[RunningProxy, str]]:
    config = {"listen": listen, "admin": {"keep": 500}, "routes": [plain(upstream)]}
    with greeted(config) as found:
        yield found


@on_posix
def test_with_tls_the_line_names_the_certificate_and_a_name_that_it_is_for(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    tls = {"cert_file": str(chain), "key_file": str(key)}
    with Upstream() as upstream, greeted({"tls": tls, "routes": [plain(upstream.url)]}) as (_, text):
        assert "https://localhost:" in line_to_try(text)
        pasted(line_to_try(text))
        assert upstream.last.target == "/"


@on_posix
def test_with_access_the_line_has_a_place_for_the_key_and_never_the_key() -> None:
    config = {"access": {"tokens": [KEY]}}
    with Upstream() as upstream, greeted({**config, "routes": [plain(upstream.url)]}) as (_, text):
        assert KEY not in text
        assert '"X-Authproxy-Key: $KEY"' in line_to_try(text)
        pasted(line_to_try(text), {"KEY": KEY})
        assert upstream.last.target == "/"


@on_posix
@pytest.mark.parametrize("host", ["api.localhost", "api.example.internal"])
def test_a_host_of_its_own_is_found_by_the_line(host: str) -> None:
    with Upstream() as upstream:
        route = {"name": "a", "host": host, "upstream": upstream.url, "auth": {"grant": "none"}}
        with greeted({"routes": [route]}) as (_, text):
            assert f"http://{host}:" in text
            pasted(line_to_try(text))
            assert upstream.last.target == "/"


@on_posix
@needs(WORKERS)
def test_workers_greet_once() -> None:
    with Upstream() as upstream, greeted({"workers": 2, "routes": [plain(upstream.url)]}) as (_, text):
        assert text.count("try   curl ") == 1
        pasted(line_to_try(text))


@on_posix
def test_without_an_admin_listener_there_is_no_page() -> None:
    with greeted({"routes": [plain("https://api.example.com")]}, "--no-admin") as (_, text):
        assert "page  " not in text


@on_posix
def test_the_line_asks_for_what_the_route_allows() -> None:
    allow = {"methods": ["GET"], "paths": ["!/v2/private/**", "/v2/**"]}
    with Upstream() as upstream, greeted({"routes": [plain(upstream.url, allow=allow)]}) as (_, text):
        pasted(line_to_try(text))
        assert upstream.last.target == "/v2/"


@on_posix
def test_a_route_that_wants_a_login_says_where_and_is_not_what_is_tried() -> None:
    auth = {"grant": "authorization_code", "issuer": "https://id.example.com", "client_id": "me"}
    routes = [plain("https://a.example.com", "person", auth=auth), plain("https://b.example.com", "other")]
    with greeted({"routes": routes, "token_store": {"type": "memory"}}) as (proxy, text):
        assert f"{proxy.admin_url}/login/person" in text
        assert "/other/" in line_to_try(text)


# ── init ─────────────────────────────────────────────────────────────────────────────────────────

FITTING = {
    "upstream": "api.example.com",
    "server": "https://id.example.com",
    "redirect_uri": "http://127.0.0.1:8081/callback",
}


def values_for(text: str) -> dict[str, str]:
    """Return a value for each variable in `text`, of a kind that its key takes."""
    names = re.findall(r"^(?! *#).*\$\{([A-Z0-9_]+)\}", text, re.MULTILINE)
    return {
        name: next((value for key, value in FITTING.items() if name.endswith(key.upper())), "api.example.com")
        for name in names
    }


@pytest.mark.parametrize("preset", [*presets(), None])
def test_what_init_writes_is_good_once_its_variables_are_set_and_says_so_before(
    preset: str | None, tmp_path: Path
) -> None:
    for key in presets()[preset].keys.values() if preset else ():
        if key.reference is not None:  # a file of the vendor's, with a key
            (tmp_path / key.reference.removeprefix("${file:").removesuffix("}")).write_text(private_key())
    assert authproxy("init", *([preset] if preset else []), cwd=tmp_path).returncode == 0
    text = (tmp_path / "authproxy.yaml").read_text("utf-8")
    variables = values_for(text)
    assert variables
    unset = authproxy("check", cwd=tmp_path)
    assert unset.returncode == 2
    assert all(f"{name} is not set" in unset.stdout for name in variables), unset.stdout
    ended = authproxy("check", cwd=tmp_path, env=variables)
    assert ended.returncode == 0, ended.stdout
    assert "ok, 1 route" in ended.stdout


def test_init_says_where_each_value_is_found_and_what_to_do_next(tmp_path: Path) -> None:
    ended = authproxy("init", "up42", "code42-user", cwd=tmp_path)
    assert ended.stdout == "wrote authproxy.yaml\n"
    for name in ("UP42_USERNAME", "CODE42_PASSWORD", "CODE42_HOST", "authproxy check && authproxy run"):
        assert name in ended.stderr
    text = (tmp_path / "authproxy.yaml").read_text("utf-8")
    for preset in ("up42", "code42-user"):
        assert all(sentence in text for sentence in presets()[preset].where.values())
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "authproxy.yaml").stat().st_mode) == 0o600


def test_the_schema_that_init_names_is_the_one_that_it_says_how_to_make(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    ended = authproxy("init", cwd=tmp_path)
    text = (tmp_path / "authproxy.yaml").read_text("utf-8")
    assert text.splitlines()[0] == "# yaml-language-server: $schema=authproxy.schema.json"
    assert "authproxy schema > authproxy.schema.json" in ended.stderr
    jsonschema.validate(yaml.safe_load(text), json.loads(authproxy("schema").stdout))


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "authproxy.yaml"
    file.write_text("mine")
    ended = authproxy("init", "up42", cwd=tmp_path)
    assert (ended.returncode, ended.stdout, file.read_text()) == (1, "", "mine")
    assert "already exists" in ended.stderr
    assert "-c" in ended.stderr


def test_init_writes_where_it_is_told_or_prints(tmp_path: Path) -> None:
    assert authproxy("init", "-c", "other.yaml", cwd=tmp_path).returncode == 0
    printed = authproxy("init", "-c", "-", cwd=tmp_path)
    assert printed.stdout == (tmp_path / "other.yaml").read_text("utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["other.yaml"]
    lost = authproxy("init", "-c", "nowhere/other.yaml", cwd=tmp_path)
    assert lost.returncode == 1
    assert "mkdir -p nowhere" in lost.stderr


# ── completion ───────────────────────────────────────────────────────────────────────────────────


def complete(*words: str, config: str = "", cwd: Path, env: dict[str, str] | None = None) -> list[str]:
    """Return what bash would offer for the last of `words`."""
    typed = shlex.join(["authproxy", *(word for word in words if word)]) + ("" if words[-1] else " ")
    asked = {
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words)),
        "_AUTHPROXY_COMPLETE": "bash_complete",
    }
    ended = subprocess.run(
        COMMAND, cwd=cwd, env=environment(cwd, {**asked, **(env or {})}), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=GUARD, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    return [line.partition(",")[2] for line in ended.stdout.split()]


ROUTES = """
routes:
  - {name: up42, upstream: "https://api.example.com", auth: {grant: static, token: "${command:touch ran}"}}
  - {name: upper, path: /u, upstream: "https://api.example.com", auth: {grant: static, token: "${UNSET}"}}
  - {name: "${ALSO_UNSET}", upstream: 5}
"""


def test_verbs_routes_and_presets_complete_and_no_reference_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "authproxy.yaml").write_text(ROUTES)
    assert {"routes", "run"} == set(complete("r", cwd=tmp_path))
    assert complete("token", "", cwd=tmp_path) == ["up42", "upper"]
    assert complete("routes", "upp", cwd=tmp_path) == ["upper"]
    assert complete("init", "code42-u", cwd=tmp_path) == ["code42-user"]
    assert complete("presets", "show", "up", cwd=tmp_path) == ["up42"]
    assert complete("run", "--preset", "up", cwd=tmp_path) == ["up42"]
    assert complete("completion", "", cwd=tmp_path) == ["bash", "zsh", "fish"]
    assert [each.name for each in tmp_path.iterdir()] == ["authproxy.yaml"]


@pytest.mark.parametrize("text", [None, "", "[", "routes: 7", "routes: [1, {name: {}}]", "\x00", "&a [*a]"])
def test_completion_never_fails_whatever_the_file_is(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "authproxy.yaml").write_text(text)
    assert complete("token", "", cwd=tmp_path) == []


def test_another_file_is_looked_at_if_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("routes: [{name: there}]")
    assert complete("token", "-c", "other.yaml", "t", cwd=tmp_path) == ["there"]
    assert complete("token", "", cwd=tmp_path, env={"AUTHPROXY_CONFIG": "other.yaml"}) == ["there"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_one_that_it_can_read(shell: str, tmp_path: Path) -> None:
    ended = authproxy("completion", shell)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "_AUTHPROXY_COMPLETE" in ended.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"not installed: {shell}")
    script = tmp_path / "script"
    script.write_text(ended.stdout)
    subprocess.run([shell, "-n", str(script)], check=True, timeout=GUARD)


@on_posix
def test_bash_completes_by_it(tmp_path: Path) -> None:
    need("bash")
    (tmp_path / "authproxy.yaml").write_text(ROUTES)
    ask = (
        f'eval "$({COMMAND[0]} completion bash)"; COMP_WORDS=({COMMAND[0]} token upp); COMP_CWORD=2; '
        f'_authproxy_completion {COMMAND[0]}; echo "${{COMPREPLY[@]}}"'
    )
    ended = subprocess.run(
        ["bash", "-c", ask], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True,
        timeout=GUARD, check=False,
    )  # fmt: skip
    assert ended.stdout == "upper\n", ended.stderr


# ── demo ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_demo_shows_a_repeat_when_its_lines_are_pasted_and_starts_quietly() -> None:
    with running_proxy(None, *ANY, verb="demo") as proxy:
        wait_until(lambda: "Ctrl-C" in proxy.output())
        assert proxy.log() == ""
        lines = [line.strip() for line in proxy.output().splitlines() if line.strip().startswith("curl ")]
        again = lines[-1]
        spoilers = [line for line in lines if "-X POST" in line]
        assert len(spoilers) == 2
        assert "repeated" not in json.loads(pasted(again))
        for spoiler in spoilers:
            pasted(spoiler)
            assert "401" in json.loads(pasted(again))["repeated"]
            assert "repeated" not in json.loads(pasted(again))
        found = get(proxy.admin_url, "/api/requests").json["requests"]
        assert sum(each["repeated"] for each in found) == 2
        assert proxy.stop() == 0
        assert proxy.log().count("retried=yes") == 2


def test_the_demos_configuration_is_good_and_says_that_its_secrets_are_made_up() -> None:
    printed = authproxy("demo", "--print-config", "--listen", "127.0.0.1:9")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert "made up" in printed.stdout
    assert yaml.safe_load(printed.stdout)["listen"] == "127.0.0.1:9"
    ended = authproxy("check", config=printed.stdout)
    assert ended.returncode == 0, ended.stdout


def test_another_proxy_serves_the_demos_stand_ins_with_that_configuration(tmp_path: Path) -> None:
    with running_proxy(None, *ANY, verb="demo") as demo:
        for route in ("up42", "calendar42"):
            assert get(demo.url, f"/{route}/x").status == 200
        printed = authproxy("demo", "--print-config", *ANY).stdout
        theirs = get(demo.admin_url, "/api/status").json["routes"]
        for ours, their in zip(yaml.safe_load(printed)["routes"], theirs, strict=True):
            # Where another program has one of the usual ports, that stand-in has another.
            printed = printed.replace(ours["upstream"], their["upstream"])
        with running_proxy(yaml.safe_load(printed)) as proxy:
            for route in ("up42", "calendar42"):
                assert get(proxy.url, f"/{route}/x").status == 200


# ── routes ───────────────────────────────────────────────────────────────────────────────────────


def told(config_file: Path, *args: str, env: dict[str, str] | None = None) -> str:
    ended = authproxy("routes", "-c", str(config_file), *args, env=env)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("access", [None, {"tokens": [KEY]}])
def test_routes_says_how_each_is_in_the_proxy_that_runs(access: Any) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        auth = {
            "grant": "client_credentials",
            "client_id": "me",
            "client_secret": "s",
            "token_url": tokens.url,
        }
        routes = [plain(api.url, "own", auth=auth), plain(api.url, "plain")]
        config = {"routes": routes, "access": access}
        with running_proxy(config) as proxy:
            address = proxy.admin_url.removeprefix("http://")
            file = write_config(proxy.directory, {**config, "admin": {"listen": address}})
            document = json.loads(told(file, "--json"))
            assert [each["state"] for each in document] == ["idle", "no_token_needed"]
            assert document[0]["url"] == f"{proxy.url}/own"  # where it really listens
            key = [f"X-Authproxy-Key: {KEY}"] if access else []
            assert get(proxy.url, "/own/x", *key).status == 200
            assert json.loads(told(file, "--json"))[0]["state"] == "valid"
            assert "valid" in told(file)
            one = yaml.safe_load(told(file, "own"))
            assert (one["state"], one["url"]) == ("valid", f"{proxy.url}/own")
            assert one["auth"]["client_secret"] == "••••"
            assert KEY not in told(file) + told(file, "own")
            proxy.stop()
            assert json.loads(told(file, "--json"))[0]["state"] == "not_running"
            assert "not running" in told(file)
    assert len(tokens.requests) == 1


def test_a_route_that_leads_elsewhere_now_is_not_the_one_that_runs() -> None:
    with running_proxy({"routes": [plain("https://a.example.com")]}) as proxy:
        address = proxy.admin_url.removeprefix("http://")
        config = {"admin": {"listen": address}, "routes": [plain("https://b.example.com")]}
        assert "not loaded" in told(write_config(proxy.directory, config))


def test_who_else_listens_there_is_not_believed() -> None:
    with Upstream() as other:
        route = {"name": "api", "upstream": "https://a.example", "state": "\x1b[31mvalid"}
        other.says(json_reply({"routes": [route], "listeners": []}))
        config = {
            "admin": {"listen": other.url.removeprefix("http://")},
            "routes": [plain("https://a.example")],
        }
        ended = authproxy("routes", config=config)
        assert ended.returncode == 0
        assert "not loaded" in ended.stdout
        assert "\x1b" not in ended.stdout


@on_posix
def test_routes_fits_a_screen_of_80_columns_and_urls_stay_whole(tmp_path: Path) -> None:
    upstreams = ["https://api.sa.up42.com", "https://a-long-name.of.a-console.example.com/with/a/base/path"]
    config = {
        "admin": False,
        "routes": [plain(upstream, f"route-{index}") for index, upstream in enumerate(upstreams)],
    }
    for shown in (config, {**config, "routes": config["routes"][:1]}):
        text = on_a_terminal(tmp_path, "routes", "-c", str(write_config(tmp_path, shown)))
        assert all(len(line) <= 80 for line in text.splitlines())
        for route in shown["routes"]:
            assert f"http://127.0.0.1:8080/{route['name']}" in text
            assert route["upstream"] in text
    wide = on_a_terminal(tmp_path, "routes", "-c", str(write_config(tmp_path, config)), columns=160)
    assert wide.splitlines()[0].split() == ["NAME", "URL", "UPSTREAM", "AUTH", "STATE"]


@on_posix
@needs(UNIX_SOCKETS)
def test_a_unix_socket_is_asked_too(tmp_path: Path) -> None:
    config = {
        "listen": f"unix:{tmp_path}/s",
        "admin": {"keep": 500},
        "routes": [plain("https://a.example.com")],
    }
    with running_proxy(config) as proxy:
        assert proxy.config_file is not None
        document = json.loads(told(proxy.config_file, "--json"))
    assert document[0]["state"] == "no_token_needed"
    assert document[0]["url"] == f"http://localhost/api by unix:{tmp_path}/s"


# ── a sign of life, and names that are nearly right ──────────────────────────────────────────────


def on_a_terminal(directory: Path, *args: str, columns: int = 80) -> str:
    with terminal(columns) as screen:
        ended = subprocess.run(
            [*COMMAND, *args], cwd=directory, env=environment(directory, {"TERM": "xterm"}),
            stdin=subprocess.DEVNULL, stdout=screen.descriptor, stderr=screen.descriptor,
            timeout=GUARD, check=False,
        )  # fmt: skip
    assert ended.returncode == 0, screen.text
    return screen.text


@on_posix
def test_who_waits_for_a_token_sees_that_it_is_waited_for(tmp_path: Path) -> None:
    with Tokens() as tokens, terminal() as screen:
        tokens.held.clear()
        auth = {
            "grant": "client_credentials",
            "client_id": "me",
            "client_secret": "s",
            "token_url": tokens.url,
        }
        file = write_config(tmp_path, {"routes": [plain("https://api.example.com", auth=auth)]})
        with subprocess.Popen(
            [*COMMAND, "token", "api", "-c", str(file)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=screen.descriptor, env=environment(tmp_path, {"TERM": "xterm"}),
        ) as process:  # fmt: skip
            screen.wait_for("waiting for the token of api … 1 s")
            tokens.held.set()
            out, _ = process.communicate(timeout=GUARD)
        assert out.decode() == f"{tokens.issued.every[-1]}\n"
        assert screen.raw.endswith("\r\x1b[K")  # and it is gone


@pytest.mark.parametrize(
    ("args", "meant", "listed"),
    [
        (["rnu"], "run", "healthcheck"),
        (["token", "ap"], "api", "other"),
        (["routes", "othr"], "other", "api"),
        (["presets", "show", "up24"], "up42", "code42-user"),
        (["presets", "shwo"], "show", ""),  # there is no other
        (["init", "upp42"], "up42", "code42-user"),
    ],
)
def test_a_name_that_is_nearly_right_is_told_with_all_there_are(
    args: list[str], meant: str, listed: str, tmp_path: Path
) -> None:
    config = {"routes": [plain("https://a.example.com"), plain("https://b.example.com", "other")]}
    (tmp_path / "authproxy.yaml").write_text(yaml.safe_dump(config))
    ended = authproxy(*args, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    said = " ".join(ended.stderr.split())
    assert f"did you mean {meant}?" in said
    assert listed in said.partition("choose from ")[2]


def test_a_preset_behind_presets_is_told_how_it_is_shown() -> None:
    ended = authproxy("presets", "up42")
    assert ended.returncode == 2
    assert "authproxy presets show up42" in ended.stderr
