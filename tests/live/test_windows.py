"""Everything, where it is Windows, as far as that can be made up; see `tests.support.windows`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fcntl", reason="on Windows nothing has to be made up")

ROOT = Path(__file__).parents[2]


def on_windows(script, directory):
    """Run `script` in a process that lacks what Windows lacks; return what it prints."""
    head = "from tests.support.windows import become_windows\nloop = become_windows()\n"
    ended = subprocess.run(
        [sys.executable, "-c", head + script],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_every_module_can_be_imported_where_there_is_no_posix(tmp_path):
    script = """
from math import inf
from authproxy import capabilities as can
print(bool(can.WORKERS), bool(can.UNIX_SOCKETS), bool(can.FILE_OWNERS))
print(can.open_file_limits() == (inf, inf), can.loop_factory(), can.cpu_count() > 0)
with can.signals_blocked():
    can.after_fork(print)
"""
    assert on_windows(script, tmp_path) == ["False False False", "True None True"]


def test_what_cannot_be_had_there_is_a_fault_with_its_key_and_the_way_out(tmp_path):
    script = """
from authproxy.app.credentials import check_stores
from authproxy.config.read import parse
from authproxy.errors import ConfigError
ROUTE = "routes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]"
for keys in ("workers: 4", "workers: auto", "listen: unix:/run/a", "token_store: {type: redis, key: k, url: unix:///a}"):
    try:
        parse(keys + "\\n" + ROUTE, "proxy.yaml")
        print("fine")
    except ConfigError as error:
        print(error)
"""
    workers, auto, listen, redis = on_windows(script, tmp_path)
    assert workers == (
        "proxy.yaml:1:10: workers: should be 1 or auto: this system cannot fork processes that share a "
        "listener; start it several times on ports of their own instead"
    )
    assert auto == "fine"
    assert listen == "proxy.yaml:1:9: listen: should be HOST:PORT: Python has no Unix sockets on this system"
    assert "token_store.url: should begin with redis:// or rediss://: Python has no Unix sockets" in redis


def test_a_store_of_tokens_works_there_with_a_lock_of_its_own(tmp_path):
    script = """
import os
from pathlib import Path
from authproxy.errors import StoreBusy
from authproxy.tokens.stores.file import FileStore
from authproxy.tokens.token import Token

async def two_processes():
    def store():
        return FileStore(Path("tokens"), "a passphrase", lock_seconds=0.05)

    one, other = store(), store()
    await one.save("a", Token("first", 2e9))
    print((await other.load("a")).value)
    async with one.lock("a"):
        try:
            async with other.lock("a"):
                print("two hold it")
        except StoreBusy as busy:
            print("busy")
    async with other.lock("a"):
        await other.save("a", Token("second", 2e9))
    print((await one.load("a")).value)
    os.symlink("tokens", "link")
    try:
        await FileStore(Path("link"), "a passphrase").load("a")
    except Exception as error:
        print(error)

loop.run_until_complete(two_processes())
"""
    assert on_windows(script, tmp_path) == ["first", "busy", "second", "link is a symbolic link"]


def test_a_file_that_somebody_reads_there_is_replaced_when_he_has_done(tmp_path):
    script = """
from pathlib import Path
from authproxy import capabilities
naps, rename = [], Path.replace
def replace(new, old):
    if len(naps) < 3:
        raise PermissionError
    return rename(new, old)
Path.replace = replace
capabilities.time = type("Time", (), {"sleep": naps.append})
Path("new").write_bytes(b"new")
Path("old").write_bytes(b"old")
capabilities.replace_file(Path("new"), Path("old"))
print(Path("old").read_text(), len(naps))
naps = []
capabilities.REPLACE_TRIES = 2
Path("new").write_bytes(b"newer")
try:
    capabilities.replace_file(Path("new"), Path("old"))
except PermissionError:
    print(Path("old").read_text())
"""
    assert on_windows(script, tmp_path) == ["new 3", "new"]
