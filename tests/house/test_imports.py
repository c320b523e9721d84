"""What a start has no use for is not loaded: an import takes longer than all that is done with most of them.

Each verb runs in a process of its own, which says at its end what it has loaded.
"""

import itertools
import subprocess
import sys

import pytest

from authproxy.app import serving

SERVER = {
    "aiohttp.web", "authproxy.proxy.downstream", "authproxy.admin.application", "authproxy.workers", "uvloop",
}  # fmt: skip
HEAVY = {"aiohttp", "cryptography", "joserfc", "keyring", "prometheus_client", "pyotp", "redis"}
TABLES = {"rich"}
BODIES = {
    "authproxy.app.body_targets",
    "authproxy.proxy.body_rewriting",
    "authproxy.proxy.json_scanner",
    "authproxy.proxy.url_prefixes",
}
FAULTS = {"difflib", "authproxy.config.meant", "authproxy.config.faults"}
CONFIGURATION = {"pydantic", "yaml", "authproxy.config"}

STATIC = """
listen: 127.0.0.1:0
admin: false
routes: [{name: a, upstream: "http://127.0.0.1:9", auth: {grant: static, token: t0k3n}}]
"""
PRESET = """
routes: [{name: a, upstream: "http://127.0.0.1:9", auth: {preset: password-login, username: a, password: b}}]
"""
LOGIN = """
listen: 127.0.0.1:0
token_store: {type: file, path: tokens, key: some passphrase}
routes:
  - name: a
    upstream: https://api.example
    auth: {grant: authorization_code, client_id: c, issuer: "https://id.example"}
"""
RUN = """
import sys
from authproxy.cli import main

sys.argv[0] = "authproxy"
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""
LISTENING = (
    """
import sys
from authproxy.app import serving

def announce(*_args, **_settings):
    raise SystemExit

from authproxy.cli import serve
serve.announce = announce
"""
    + RUN
)

TWO_THREADS = """
import sys
import threading
from importlib import import_module

import authproxy.app.serving

PACKAGE, *NAMES = sys.argv[1:]
faults = []

def load(name):
    try:
        import_module(name)
    except Exception as error:
        faults.append(f"{name}: {error!r}")

here, there = (threading.Thread(target=load, args=[name]) for name in NAMES)

class Pause:
    def find_spec(self, name, *_):
        if name == PACKAGE and threading.current_thread() is here:
            there.start()
            there.join(0.3)  # so far it comes while the package is being imported here

sys.meta_path.insert(0, Pause())
here.start()
here.join(10)
there.join(10)
print(*faults, sep="\\n")
"""


def loaded(source, *args, directory, exits=0):
    """Return the modules that `source` has loaded by its end."""
    done = subprocess.run(
        [sys.executable, "-c", source, *args], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == exits, done.stderr
    return set(done.stderr.splitlines())


@pytest.mark.parametrize(
    ("args", "text", "unwanted"),
    [
        (["--help"], STATIC, SERVER | HEAVY | TABLES | CONFIGURATION | {"asyncio", "ssl"}),
        (["--version"], STATIC, SERVER | HEAVY | TABLES | CONFIGURATION | {"asyncio", "ssl"}),
        (["check"], STATIC, SERVER | HEAVY | TABLES),
        (["check"], LOGIN, SERVER | HEAVY | TABLES),
        (["check"], PRESET, SERVER | HEAVY | TABLES | FAULTS),
        (["routes"], STATIC, SERVER | HEAVY | {"authproxy.app", "authproxy.proxy"}),
        (["routes", "--json"], STATIC, SERVER | HEAVY | TABLES | {"authproxy.app", "authproxy.proxy"}),
        (["schema"], STATIC, SERVER | HEAVY | TABLES | {"authproxy.app", "authproxy.proxy"}),
        (["presets"], STATIC, SERVER | HEAVY | {"authproxy.app", "authproxy.proxy"}),
        (["env"], PRESET, SERVER | HEAVY | TABLES),
        (["token", "a"], STATIC, SERVER | HEAVY | TABLES),
        (["login", "a"], STATIC, SERVER | HEAVY | TABLES),
        (["logout", "a"], STATIC, SERVER | HEAVY | TABLES),
        (["logout", "a"], LOGIN, SERVER | (HEAVY - {"cryptography"}) | TABLES),
        (["healthcheck", "--help"], STATIC, SERVER | (HEAVY - {"aiohttp"}) | TABLES),
    ],
)  # fmt: skip
def test_a_verb_that_does_not_serve_loads_no_server(tmp_path, args, text, unwanted):
    (tmp_path / "authproxy.yaml").write_text(text)
    assert not unwanted & loaded(RUN, *args, directory=tmp_path)


@pytest.mark.parametrize("admin", ["false", "{listen: '127.0.0.1:0'}"])
def test_when_it_listens_nothing_is_loaded_that_the_first_plain_request_does_not_need(tmp_path, admin):
    path = tmp_path / "authproxy.yaml"
    path.write_text(STATIC.replace("admin: false", f"admin: {admin}"))
    unwanted = (
        HEAVY | TABLES | BODIES | {"platformdirs", "authproxy.config.presets", "authproxy.tokens.stores.file"}
    )
    found = loaded(LISTENING, "run", "-c", str(path), directory=tmp_path)
    assert "authproxy.proxy.downstream.server" in found
    assert not unwanted & found


def test_of_the_grants_only_those_are_loaded_that_are_named(tmp_path):
    (tmp_path / "authproxy.yaml").write_text(LOGIN)
    found = {
        name for name in loaded(RUN, "check", directory=tmp_path) if name.startswith("authproxy.grants.")
    }
    assert "authproxy.grants.authorization_code" in found
    assert not found & {f"authproxy.grants.{name}" for name in ("jwt_bearer", "password", "command", "http")}


PARSER, TOKENS = "authproxy.proxy.downstream.parser", "authproxy.grants.http"
ADMIN = "authproxy.app.admin"


@pytest.mark.parametrize(
    ("package", "here", "there"),
    [
        *[("aiohttp", *pair) for pair in itertools.permutations([PARSER, TOKENS, ADMIN], 2)],
        *[("cryptography", *pair) for pair in itertools.permutations(serving.TOKENS[1:], 2)],
    ],
)
def test_a_request_may_need_what_a_thread_is_just_loading(tmp_path, package, here, there):
    """The rest is loaded beside the first requests (`app/serving.py`), and those load what they need."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_THREADS, package, here, there],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("", "")
