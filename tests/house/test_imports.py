"""What a start has no use for is not loaded: an import takes longer than all that is done with most of them.

Each verb runs in a process of its own, which says at its end what it has loaded.
"""

import subprocess
import sys

import pytest

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
