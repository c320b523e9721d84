"""`authproxy exec`: programs of every kind beside the proxy, which are as if it was not there."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from authproxy.proxy.placeholders import placeholder
from tests.support.beside import beside, children, python, run_beside
from tests.support.command import authproxy, wait_until
from tests.support.descriptors import opened
from tests.support.launch import GUARD
from tests.support.wire import API, Tokens, Upstream, get

posix = pytest.mark.skipif(sys.platform == "win32", reason="it is about signals of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

SECRET = "a-real-secret-of-24-chars"
ENVIRON = "import json, os; print(json.dumps(dict(os.environ)))"
ASK = """
import os, urllib.request
with urllib.request.urlopen(os.environ[NAME] + "/v1/items?a=1") as answer:
    print(answer.read().decode(), flush=True)
"""


def static(upstream: str = "http://127.0.0.1:9", **keys: Any) -> dict[str, Any]:
    """Return a route with a token from the variable API_SECRET."""
    auth = {"grant": "static", "token": "${API_SECRET}"}
    return {"name": "api", "path": "/api", "upstream": upstream, "auth": auth, **keys}


CONFIG = {"routes": [static()]}
ENV = {"API_SECRET": SECRET}


def asking(name: str) -> list[str]:
    return python(ASK.replace("NAME", repr(name)))


def environment_of(config: dict[str, Any], *args: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment that a program gets."""
    ended = run_beside(config, python(ENVIRON), *args, env={**ENV, **(env or {})})
    assert ended.returncode == 0, ended.stderr
    found: dict[str, str] = json.loads(ended.stdout)
    return found


# ── what comes of it ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [0, 1, 2, 42, 125, 126, 127, 128, 255])
def test_the_exit_code_is_the_programs(code: int) -> None:
    ended = run_beside(CONFIG, python(f"raise SystemExit({code})"), env=ENV)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_a_program_that_a_signal_ends_is_128_and_the_signal(number: int) -> None:
    ended = run_beside(CONFIG, ["sh", "-c", f"ulimit -c 0; kill -{int(number)} $$"], env=ENV)
    assert ended.returncode == 128 + number


def test_a_program_that_is_not_there_is_127() -> None:
    ended = run_beside(CONFIG, ["no-such-program", "--flag"], env=ENV)
    assert ended.returncode == 127
    assert ended.stderr == "authproxy: cannot run no-such-program: command not found\n"
    assert ended.stdout == ""


@posix
@pytest.mark.parametrize("kind", ["directory", "not executable", "no format that anybody knows"])
def test_a_program_that_cannot_be_run_is_126(kind: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    if kind == "directory":
        program.mkdir()
    else:
        program.write_bytes(b"\x00\x01\x02 no program")
        program.chmod(0o700 if kind.startswith("no format") else 0o600)
    ended = run_beside(CONFIG, [str(program)], env=ENV)
    assert ended.returncode == 126
    assert ended.stderr.startswith(f"authproxy: cannot run {program}: ")


def test_a_faulty_configuration_is_2_and_the_program_does_not_run() -> None:
    ended = run_beside({"routes": [static(upstreem="x")]}, python("print('ran')"), env=ENV)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "did you mean" in ended.stderr


@pytest.mark.parametrize("args", [(), ("api",), ("sh", "x")])
def test_without_a_command_the_usage_is_told(args: tuple[str, ...]) -> None:
    ended = authproxy("exec", *args, config=CONFIG, env=ENV)
    assert ended.returncode == 2
    assert "authproxy exec [ROUTE]... -- COMMAND [ARG]..." in ended.stderr


def test_what_stands_behind_the_dashes_is_the_programs_alone() -> None:
    words = ["-c", "--help", "--", "-x", "", "a b", "$HOME"]
    ended = run_beside(CONFIG, python("import sys; print(sys.argv[1:])", *words), env=ENV)
    assert ended.stdout == f"{words}\n"


# ── the proxy ────────────────────────────────────────────────────────────────────────────────────


def test_a_program_asks_through_the_proxy_and_its_token_is_renewed() -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        auth = {"grant": "client_credentials", "token_url": f"{tokens.url}/token", "client_id": "a"}
        route = static(api.url, auth={**auth, "client_secret": "${API_SECRET}"})
        code = f"{ASK}\ninput()\n{ASK}".replace("NAME", "'API_URL'")
        with beside({"routes": [route]}, python(code), env=ENV) as program:
            assert program.stdout is not None
            assert program.stdin is not None
            assert program.stdout.readline() == "fine\n"
            tokens.revoke()
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "fine\n"
        assert program.returncode == 0
        assert [each.target for each in api.requests] == ["/v1/items?a=1"] * 3  # one of them was repeated
        assert len(tokens.issued.every) == 2


def test_who_sends_its_placeholder_has_the_token_put_in_its_place() -> None:
    with Upstream() as api:
        code = (
            "import os, urllib.request as r\n"
            "key = {'Authorization': 'Bearer ' + os.environ['API_KEY']}\n"
            "r.urlopen(r.Request(os.environ['API_URL'], headers=key)).close()"
        )
        route = static(api.url, env={"API_KEY": "{placeholder}"})
        assert run_beside({"routes": [route]}, python(code), env=ENV).returncode == 0
        assert api.last.all("Authorization") == [f"Bearer {SECRET}"]


def test_an_upstream_with_tls_of_its_own_is_reached(tmp_path: Path) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Upstream(tls=context) as api:
        url = api.url.replace("http://", "https://")
        route = static(url, tls={"ca_file": str(tmp_path / "ca.pem")})
        assert run_beside({"routes": [route]}, asking("API_URL"), env=ENV).stdout == "fine\n"


def test_each_route_has_a_port_of_its_own_and_all_have_one_in_common() -> None:
    with Upstream() as one, Upstream() as other:
        routes = [static(one.url), static(f"{other.url}/base", name="other-1", path="/o")]
        found = environment_of({"routes": routes})
        assert found["API_URL"] != found["OTHER_1_URL"] != found["AUTHPROXY_URL"]
        assert all(
            re.fullmatch(r"http://127\.0\.0\.1:\d+", found[name]) for name in ("API_URL", "OTHER_1_URL")
        )
        assert run_beside({"routes": routes}, asking("API_URL"), env=ENV).stdout == "fine\n"
        assert run_beside({"routes": routes}, asking("OTHER_1_URL"), env=ENV).stdout == "fine\n"
        code = asking("AUTHPROXY_URL")
        code[3] = code[3].replace("/v1", "/o/v1")
        assert run_beside({"routes": routes}, code, env=ENV).stdout == "fine\n"
        assert [each.target for each in one.requests] == ["/v1/items?a=1"]
        assert [each.target for each in other.requests] == ["/base/v1/items?a=1"] * 2
        assert {each.one("Authorization") for each in other.requests} == {f"Bearer {SECRET}"}


def test_only_the_routes_that_are_named_are_set_up_and_others_need_not_be_whole() -> None:
    lost = static(name="lost", path="/lost", auth={"grant": "static", "token": "${NOT_SET}"})
    config = {"routes": [static(), lost, static(name="third", path="/third")]}
    found = environment_of(config, "api")
    assert "API_URL" in found
    assert not {"LOST_URL", "THIRD_URL"} & set(found)
    ended = run_beside(config, python("print('ran')"), "lost", env=ENV)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "NOT_SET is not set" in ended.stderr


def test_access_does_not_hold_and_there_is_no_admin_listener_but_pages_are_refused() -> None:
    with Upstream() as api:
        config = {
            "routes": [static(api.url)], "access": {"tokens": ["${KEY}"]}, "workers": 2,
            "listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"},
        }  # fmt: skip
        code = "import os; print(os.environ['API_URL'], flush=True); input()"
        with beside(config, python(code), env={**ENV, "KEY": "k" * 24}) as program:
            assert program.stdout is not None
            assert program.stdin is not None
            url = program.stdout.readline().strip()
            assert get(url).status == 200
            assert get(url, "/", "Origin: https://evil.example").status == 403
            assert get(url, host="evil.example").status == 403
            assert get(url, "/api/status").body == b"fine"  # the upstream's
            if sys.platform == "linux":
                assert len(listening(program.pid)) == 2  # the route's, and that of all
            program.stdin.write("\n")
        assert program.returncode == 0


def listening(pid: int) -> set[str]:
    """Return the sockets that a process listens on."""
    inodes = {match[1] for each in opened(pid) if (match := re.match(r"socket:\[(\d+)\]", each))}
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    return {line[1] for line in lines if line[3] == "0A" and line[9] in inodes}


# ── what a program inherits ──────────────────────────────────────────────────────────────────────


def test_no_secret_of_the_configuration_is_handed_on() -> None:
    other = static(
        name="other", path="/o", auth={"grant": "basic", "username": "${WHO}", "password": "${PW}"}
    )
    env = {"PW": "password-of-somebody", "WHO": "joe", "MINE": "kept"}
    for args in ((), ("other",), ("api",)):
        found = environment_of({"routes": [static(), other]}, *args, env=env)
        assert not {"API_SECRET", "PW"} & set(found), args
        assert (found["WHO"], found["MINE"]) == ("joe", "kept")
        assert not [name for name, value in found.items() if SECRET in value or env["PW"] in value]


def test_the_secret_of_a_route_that_is_left_out_is_not_handed_on_either() -> None:
    auth = {"grant": "basic", "username": "${NOT_SET}", "password": "${PW}"}
    config = {"routes": [static(), static(name="other", path="/o", auth=auth)]}
    assert "PW" not in environment_of(config, "api", env={"PW": "password-of-somebody"})


def test_a_variable_can_be_inherited_all_the_same() -> None:
    found = environment_of(CONFIG, "--inherit", "API_SECRET", "--inherit", "NOT_THERE")
    assert found["API_SECRET"] == SECRET
    assert "NOT_THERE" not in found


def test_a_name_that_has_nothing_to_do_with_it_is_told() -> None:
    ended = run_beside(CONFIG, ["true"], "--inherit", "API_SECRETT", env=ENV)
    assert ended.returncode == 0
    assert "--inherit is of no use" in ended.stderr
    assert "variable=API_SECRETT" in ended.stderr


@linux
def test_no_secret_is_in_proc() -> None:
    code = "print('ready', flush=True); input()"
    with beside(CONFIG, python(code), env={**ENV, "KEPT": "kept"}) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "ready\n"
        (child,) = children(program.pid)
        for pid in (program.pid, child):
            for name in ("environ", "cmdline"):
                assert SECRET not in Path(f"/proc/{pid}/{name}").read_text(), (pid, name)
        assert "KEPT=kept" in Path(f"/proc/{child}/environ").read_text().split("\0")
        program.stdin.write("\n")


def test_env_of_a_route_is_set_and_a_variable_that_was_set_is_overridden() -> None:
    env = {"BASE": "{url}/v2", "WHERE": "{host}:{port}", "KEY": "{placeholder}", "PLAIN": "{{a}} ü 'b' $C\n"}
    config = {"routes": [static(env=env)]}
    found = environment_of(config, env={"BASE": "before", "AUTHPROXY_URL": "before"})
    url = found["API_URL"]
    assert found["BASE"] == f"{url}/v2"
    assert f"http://{found['WHERE']}" == url
    assert found["KEY"] == placeholder("api")
    assert found["PLAIN"] == "{a} ü 'b' $C\n"
    assert found["AUTHPROXY_URL"] != "before"


@pytest.mark.parametrize("how", ["option", "configuration"])
def test_what_is_overridden_is_named_at_info_without_its_value(how: str) -> None:
    config = {"routes": [static(env={"BASE": "{url}"})]}
    args = ("--log-level", "info") if how == "option" else ()
    log = {"log": {"level": "info"}} if how == "configuration" else {}
    env = {**ENV, "BASE": "the value before"}
    ended = run_beside({**config, **log}, python(""), *args, env=env)
    assert "variable=BASE" in ended.stderr
    assert "the value before" not in ended.stderr
    assert run_beside(config, python(""), env=env).stderr == ""


def test_no_proxy_grows_and_keeps_what_was_there() -> None:
    found = environment_of(CONFIG, env={"NO_PROXY": "10.0.0.0/8, localhost"})
    assert found["NO_PROXY"] == found["no_proxy"] == "10.0.0.0/8,localhost,127.0.0.1,::1"
    found = environment_of(CONFIG, env={"NO_PROXY": "a.example", "no_proxy": "*"})
    assert (found["NO_PROXY"], found["no_proxy"]) == ("a.example,localhost,127.0.0.1,::1", "*")


def test_routes_that_want_different_values_of_a_variable_are_not_set_up_together() -> None:
    both = [static(env={"BASE": "{url}"}), static(name="other", path="/o", env={"BASE": "{url}"})]
    ended = run_beside({"routes": both}, python("print('ran')"), env=ENV)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.search(r"authproxy-test\.yaml:\d+:\d+: routes\[1\]\.env\.BASE: .*\bapi\b", ended.stderr)
    assert environment_of({"routes": both}, "other")["BASE"].startswith("http://127.0.0.1:")


def test_the_placeholder_is_the_same_in_exec_in_env_and_in_every_run() -> None:
    shared = {"auth": {"grant": "static", "token": "${API_SECRET}"}, "env": {"KEY_2": "{placeholder}"}}
    config = {"routes": [static(env={"KEY_1": "{placeholder}"}), static(name="same", path="/s", **shared)]}
    expected = placeholder("api")  # the first route with that credential
    for args in ((), ("same",), ("same", "api")):
        assert environment_of(config, *args)["KEY_2"] == expected
    printed = authproxy("env", "--shell", "json", config={**config, "listen": "127.0.0.1:8080"}, env=ENV)
    assert json.loads(printed.stdout)["KEY_2"] == json.loads(printed.stdout)["KEY_1"] == expected


@posix
def test_limits_and_descriptors_are_those_from_before() -> None:
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE)[0])"
    limited = ("sh", "-c", 'ulimit -Sn 300; ulimit -Hn 2000; ulimit -Sc 0; exec "$@"', "sh")
    assert run_beside(CONFIG, python(code), env=ENV, before=limited).stdout == "(300, 2000) 0\n"
    reader, writer = os.pipe()
    os.write(writer, b"from before")
    os.close(writer)
    code = f"import os; print(os.read({reader}, 99))"
    assert run_beside(CONFIG, python(code), env=ENV, pass_fds=(reader,)).stdout == "b'from before'\n"
    os.close(reader)


@linux
def test_no_descriptor_and_no_blocked_signal_of_ours_is_handed_on() -> None:
    code = (
        "import os; print(sorted(os.listdir('/proc/self/fd'))[:-1])\n"
        "for line in open('/proc/self/status'):\n"
        "    if line[:6] in ('SigBlk', 'SigIgn'): print(int(line[8:], 16) % 2**31)"
    )
    alone = subprocess.run(python(code), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    assert run_beside(CONFIG, python(code), env=ENV).stdout == alone.stdout


# ── streams ──────────────────────────────────────────────────────────────────────────────────────


def test_stdin_is_the_programs() -> None:
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    assert run_beside(CONFIG, python(code), env=ENV, input="abc" * 100_000).stdout == "cba" * 100_000


@posix
def test_a_closed_stdin_is_closed_for_the_program_too() -> None:
    code = "import os\ntry: os.fstat(0)\nexcept OSError as e: print(e.errno == 9)"
    closed = ("sh", "-c", 'exec "$@" <&-', "sh")
    assert run_beside(CONFIG, python(code), env=ENV, before=closed).stdout == "True\n"


def test_a_great_deal_of_output_is_passed_on_whole() -> None:
    code = "import sys; sys.stdout.write(('x' * 999 + '\\n') * 20_000); sys.stderr.write('e' * 300_000)"
    ended = run_beside(CONFIG, python(code), env=ENV)
    assert (len(ended.stdout), len(ended.stderr)) == (20_000_000, 300_000)


@posix
def test_a_pipe_to_head_ends_the_program_as_it_would_alone() -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "while True: os.write(1, b'line\\n' * 999)"
    )
    with beside(CONFIG, python(code), env=ENV) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "line\n"
        program.stdout.close()
        assert program.wait(GUARD) == 128 + signal.SIGPIPE
        program.stdout = None


def test_a_program_that_closes_its_stdout_runs_on() -> None:
    with Upstream() as api:
        code = (
            "import os, urllib.request as r; os.close(1); "
            "r.urlopen(os.environ['API_URL']).read(); os._exit(9)"
        )
        ended = run_beside({"routes": [static(api.url)]}, python(code), env=ENV)
        assert (ended.returncode, ended.stdout) == (9, "")
        assert len(api.requests) == 1


# ── its end ──────────────────────────────────────────────────────────────────────────────────────


@posix
def test_a_program_that_daemonises_ends_it_and_what_it_leaves_lives_on(tmp_path: Path) -> None:
    left = tmp_path / "left"
    code = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(3)\n"
        "os.setsid()\n"
        f"open({str(left)!r}, 'w').write(str(os.getpid()))\n"
        "os.close(0); os.close(1); os.close(2)\n"
        "time.sleep(60)\n"
    )
    ended = run_beside(CONFIG, python(code), env=ENV)
    assert ended.returncode == 3
    wait_until(lambda: left.exists() and left.read_text())
    os.kill(int(left.read_text()), signal.SIGKILL)  # which raises if nobody is there


@posix
def test_a_request_of_somebody_who_is_left_does_not_hold_up_the_end() -> None:
    with Upstream(lambda _request, wire: wire.rest()) as api:  # never answers
        code = (
            "import os, socket, urllib.parse as p\n"
            "url = p.urlsplit(os.environ['API_URL'])\n"
            "sock = socket.create_connection((url.hostname, url.port))\n"
            "sock.sendall(b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n"
            "input()\n"
            "os.set_inheritable(sock.fileno(), True)\n"
            "if os.fork() == 0:\n"
            "    os.close(1); os.close(2)\n"
            "    while sock.recv(999): pass\n"
            "os._exit(4)\n"
        )
        config = {"routes": [static(api.url)], "limits": {"drain": "10m"}}
        with beside(config, python(code), env=ENV) as program:
            assert program.stdin is not None
            api.wait_for(1)
            program.stdin.write("\n")
        assert program.returncode == 4


# ── what was found by trying to break it ─────────────────────────────────────────────────────────


def test_a_route_that_is_run_alone_takes_the_placeholder_of_an_earlier_one_with_its_credential() -> None:
    with Upstream() as api:
        auth = {"grant": "static", "token": "${API_SECRET}"}
        names = ("first", "second")
        config = {
            "routes": [
                {
                    "name": name, "path": f"/{name}", "upstream": api.url, "auth": auth,
                    "env": {"KEY": "{placeholder}"},
                }
                for name in names
            ]
        }  # fmt: skip
        code = (
            "import os, urllib.request as u;"
            "headers = {'Authorization': 'Bearer ' + os.environ['KEY']};"
            "r = u.Request(os.environ['SECOND_URL'] + '/x', headers=headers);"
            "print(u.urlopen(r).status)"
        )
        ended = run_beside(config, python(code), "second", env=ENV)
        assert ended.stdout == "200\n", ended.stderr
        assert [came.one("Authorization") for came in api.requests] == [f"Bearer {SECRET}"]


def test_whatever_a_variable_is_called_a_secret_in_it_is_not_handed_on() -> None:
    auth = {"preset": "code42-user", "username": "me", "password": "${ONE}", "totp": "${TWO}"}
    config = {
        "routes": [
            {"name": "user", "upstream": "https://api.example", "auth": auth},
            {
                "name": "other", "path": "/o", "upstream": "https://api.example",
                "auth": {"grant": "static", "token": "${TOKEN_FOR_MY_PROXY}"},
            },
        ]
    }  # fmt: skip
    env = {"ONE": "a-password", "TWO": "JBSWY3DPEHPK3PXP", "TOKEN_FOR_MY_PROXY": "a-token-of-mine"}
    found = environment_of(config, env=env)
    assert not env.keys() & found.keys()


@pytest.mark.parametrize(
    ("set_to", "goes_on"),
    [("*", "*"), ("example.com,*", "example.com,*,localhost,127.0.0.1,::1")],
)
def test_a_star_among_other_names_means_nothing_to_anybody(set_to: str, goes_on: str) -> None:
    assert environment_of(CONFIG, env={"NO_PROXY": set_to})["NO_PROXY"] == goes_on


@posix
def test_with_too_few_files_it_says_so_and_ends() -> None:
    ended = run_beside(CONFIG, ["true"], env=ENV, before=("sh", "-c", 'ulimit -n 16; exec "$@"', "sh"))
    assert ended.returncode == 1
    assert "may have 16 files open" in ended.stderr
    assert "ulimit -n" in ended.stderr
