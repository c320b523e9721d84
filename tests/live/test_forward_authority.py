"""The authority of forward mode: what lies where, how it grows, and that nothing of it stays."""

import os
import re
import signal
import ssl
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import trustme

from tests.support.command import RunningProxy, authproxy, running_proxy, wait_until
from tests.support.descriptors import opened
from tests.support.edited import NOT_DONE, edited
from tests.support.forward import Named, forwarding, inside, route, trusting
from tests.support.launch import ANY_PORT
from tests.support.signers import CA, SIGNS, Signer
from tests.support.systems import needs_owners
from tests.support.wire import get, request
from tests.support.workers import children

PROCESSES = pytest.mark.parametrize("workers", [1, 2])
ANOTHER = "another authority, which clients that are running do not trust yet"
KEY = "a-key-for-callers"
P256_KEY = bytes.fromhex("2a8648ce3d020106082a8648ce3d030107046d306b0201010420")  # what PKCS #8 has before it
linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


FORWARD = {"forward": {"listen": ANY_PORT}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the directory for what lasts as long as the proxy."""
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def env(run: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(run)}


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Named]:
    with Named(tmp_path) as made:
        yield made


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Named]:
    """A TLS server at another host."""
    with Named(tmp_path, "127.0.0.1") as made:
        yield made


def also(upstream: Named) -> dict[str, Any]:
    return route(upstream, name="second", path="/second")


def place(run: Path) -> Path:
    """Return the one directory in `run`."""
    [found] = run.iterdir()
    return found


def answered(proxy: RunningProxy, upstream: Named, tls: ssl.SSLContext) -> int:
    with inside(proxy, upstream.host, upstream.port, tls=tls) as wire:
        return wire.send(request(host=upstream.authority)).answer().status


def trusts(file: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def roots(proxy: RunningProxy) -> bytes:
    with urlopen(f"{proxy.admin_url}/forward-ca.pem", timeout=20) as answer:
        return bytes(answer.read())


def lives(pid: int) -> bool:
    """Tell whether a process is there, be it nobody's child; a dead one that nobody has waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


# ── what lies where ──────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_clients_find_its_certificate_and_a_bundle_while_it_runs_and_nothing_after(
    upstream: Named, run: Path, env: dict[str, str], tmp_path: Path, workers: int
) -> None:
    theirs = trustme.CA().cert_pem.bytes()
    (tmp_path / "theirs.pem").write_bytes(theirs)
    (tmp_path / "certs").mkdir()
    env |= {"SSL_CERT_FILE": str(tmp_path / "theirs.pem"), "SSL_CERT_DIR": str(tmp_path / "certs")}
    with running_proxy(forwarding(route(upstream), workers=workers), env=env) as proxy:
        assert {each.name for each in place(run).iterdir()} == {"ca.pem", "bundle.pem"}
        ours = (place(run) / "ca.pem").read_bytes()
        assert ours == roots(proxy)
        assert (place(run) / "bundle.pem").read_bytes() == ours + theirs
        assert answered(proxy, upstream, trusts(place(run) / "ca.pem")) == 200
        assert answered(proxy, upstream, trusts(place(run) / "bundle.pem")) == 200
        told = proxy.wait_for_log(f"bundle={place(run) / 'bundle.pem'}")
        assert told.count("trust this CA bundle") == 1
        assert proxy.stop() == 0
    assert list(run.iterdir()) == []


@needs_owners
def test_they_are_their_owners_alone(upstream: Named, run: Path, env: dict[str, str]) -> None:
    open_to_all = ("sh", "-c", 'umask 0 && exec "$@"', "sh")
    with running_proxy(forwarding(route(upstream)), env=env, before=open_to_all):
        assert stat.S_IMODE(place(run).stat().st_mode) == 0o700
        assert {stat.S_IMODE(each.stat().st_mode) for each in place(run).iterdir()} == {0o600}


@linux
@PROCESSES
def test_no_key_is_in_any_file_nor_told(
    upstream: Named, run: Path, env: dict[str, str], workers: int
) -> None:
    config = forwarding(route(upstream), workers=workers, log={"level": "debug"})
    with running_proxy(config, env=env) as proxy:
        for _ in range(4):
            assert answered(proxy, upstream, trusting(proxy)) == 200
        processes = [proxy.pid, *children(proxy.pid)]
        names = {each for pid in processes for each in opened(pid)}
        assert not [name for name in names if "memfd" in name], "in which keys are handed over"
        maps = [Path(f"/proc/{pid}/maps").read_text().splitlines() for pid in processes]
        fields = [line.split(maxsplit=5) for lines in maps for line in lines]
        mapped = {Path(each[5]) for each in fields if len(each) == 6 and each[1] == "rw-s"}
        files = [*run.rglob("*"), *proxy.directory.rglob("*"), *mapped, *map(Path, names)]
        texts = [each.read_bytes() for each in set(files) if each.is_file()]
        assert len(texts) > 3
        assert not [text for text in texts if P256_KEY in text or b"PRIVATE KEY" in text]
        with urlopen(f"{proxy.admin_url}/api/status", timeout=20) as answer:
            assert b"PRIVATE" not in answer.read() + roots(proxy)


def test_its_certificate_is_had_without_the_key_and_is_no_page_where_there_is_none(
    upstream: Named, env: dict[str, str]
) -> None:
    config = forwarding(route(upstream), access={"tokens": [KEY]})
    with running_proxy(config, env=env) as proxy:
        answer = get(proxy.admin_url, "/forward-ca.pem")
        assert (answer.status, answer.one("Content-Type")) == (200, "application/x-pem-file")
        assert answer.body.count(b"BEGIN CERTIFICATE") == 1
        assert get(proxy.admin_url, "/ca.pem").status == 404
        assert get(proxy.admin_url, "/metrics").status == 401
        assert get(proxy.admin_url, "/forward-ca.pem", host="evil.example").status == 403
    for routes, more in (
        ([route(upstream)], {}),
        ([{"name": "plain", "upstream": "http://127.0.0.1:9", "auth": {"grant": "none"}}], FORWARD),
    ):
        with running_proxy({"routes": routes, **more}, env=env) as proxy:
            answer = get(proxy.admin_url, "/forward-ca.pem")
            log = proxy.log()
        assert "CA bundle" not in log
        assert (answer.status, answer.one("Content-Type")) == (404, "application/problem+json")


def test_it_and_that_of_auto_are_two(upstream: Named, env: dict[str, str]) -> None:
    with running_proxy(forwarding(route(upstream), tls="auto"), env=env) as proxy:
        auto = get(proxy.admin_url, "/ca.pem").body
        assert auto
        assert auto not in roots(proxy)
        own = ssl.create_default_context(cadata=auto.decode())
        with pytest.raises(ssl.SSLCertVerificationError):
            answered(proxy, upstream, own)


@needs_owners
@PROCESSES
def test_where_no_file_can_be_written_it_serves_all_the_same_and_says_so(
    upstream: Named, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "everybodys").mkdir()
    (tmp_path / "everybodys").chmod(0o777)
    env = {"TMPDIR": str(tmp_path / "everybodys"), "XDG_RUNTIME_DIR": ""}
    with edited(forwarding(route(upstream), workers=workers), env=env) as it:
        said = it.proxy.wait_for_log("GET /forward-ca.pem has it")
        assert "anyone may replace files in" in said
        assert "set XDG_RUNTIME_DIR or TMPDIR to a directory of your own" in said
        assert answered(it.proxy, upstream, trusting(it.proxy)) == 200
        it.must_reload(log={"level": "debug", "access": False})
        assert answered(it.proxy, upstream, trusting(it.proxy)) == 200
    assert list((tmp_path / "everybodys").iterdir()) == []


# ── processes ────────────────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_what_one_that_was_killed_has_left_the_next_one_removes_and_nothing_of_the_living(
    upstream: Named, run: Path, env: dict[str, str], workers: int
) -> None:
    config = forwarding(route(upstream), workers=workers)
    with running_proxy(config, env=env) as living, running_proxy(config, env=env) as dead:
        assert len(list(run.iterdir())) == 2
        assert roots(living) != roots(dead)
        below = children(dead.pid) if sys.platform == "linux" else []
        dead.signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        dead.wait()
        # Its workers hold on to the directory until they have seen that it is gone.
        wait_until(lambda: not any(map(lives, below)))
        assert len(list(run.iterdir())) == 2
        with running_proxy(config, env=env) as successor:
            found = {(each / "ca.pem").read_bytes() for each in run.iterdir()}
            assert found == {roots(living), roots(successor)}
            assert "removed what a process that was killed has left" in successor.log()
            assert answered(living, upstream, trusting(living)) == 200
    assert list(run.iterdir()) == []


@linux
def test_who_takes_a_dead_ones_place_shows_the_same_authority(
    upstream: Named, run: Path, env: dict[str, str]
) -> None:
    with running_proxy(forwarding(route(upstream), workers=2), env=env) as proxy:
        before = roots(proxy)
        for times, index in enumerate((0, 1, 2), 1):  # the broker, and the workers
            os.kill(children(proxy.pid)[index], signal.SIGKILL)
            proxy.wait_for_log("process died", times=times)
            wait_until(lambda: len(children(proxy.pid)) == 3)
            assert place(run).is_dir()
        wait_until(lambda: get(proxy.admin_url, "/healthz").status == 200)
        assert roots(proxy) == before
        for _ in range(4):
            assert answered(proxy, upstream, trusts(place(run) / "ca.pem")) == 200


# ── another configuration ────────────────────────────────────────────────────────────────────────


@PROCESSES
def test_a_host_that_is_added_has_an_authority_in_the_same_bundle_and_clients_are_thought_of(
    upstream: Named, second: Named, run: Path, env: dict[str, str], workers: int
) -> None:
    with edited(forwarding(route(upstream), workers=workers), env=env) as it:
        proxy, bundle = it.proxy, place(run) / "bundle.pem"
        old, before = trusts(bundle), roots(proxy)
        it.must_reload(routes=[route(upstream), also(second)])
        assert proxy.log().count(ANOTHER) == 1
        assert roots(proxy).startswith(before)
        assert roots(proxy).count(b"BEGIN") == 2
        assert (place(run) / "ca.pem").read_bytes() == roots(proxy)
        for _ in range(4):
            assert answered(proxy, upstream, old) == 200, "who runs goes on as before"
            assert answered(proxy, second, trusts(bundle)) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            answered(proxy, second, old)
        if workers > 1 and sys.platform == "linux":
            for pid in children(proxy.pid)[1:]:
                os.kill(pid, signal.SIGKILL)
            proxy.wait_for_log("process died", times=2)
            wait_until(lambda: len(children(proxy.pid)) == 3)
            for _ in range(4):
                assert answered(proxy, second, trusts(bundle)) == 200, "whoever begins later too"
        it.must_reload(routes=[route(upstream)])
        assert proxy.log().count(ANOTHER) == 1
        assert answered(proxy, upstream, old) == 200
    assert list(run.iterdir()) == []


@PROCESSES
def test_a_reload_that_fails_changes_nothing_of_it(
    upstream: Named, second: Named, run: Path, env: dict[str, str], workers: int
) -> None:
    with edited(forwarding(route(upstream), workers=workers), env=env) as it:
        before = {each: each.read_bytes() for each in place(run).iterdir()}
        with Named(Path(it.proxy.directory)) as taken:
            it.reload(routes=[route(upstream), also(second)], listen=[ANY_PORT, f"127.0.0.1:{taken.port}"])
        assert NOT_DONE in it.proxy.log()
        assert {each: each.read_bytes() for each in place(run).iterdir()} == before
        assert ANOTHER not in it.proxy.log()
        it.must_reload(listen=ANY_PORT)
        assert len(roots(it.proxy)) > len(before[place(run) / "ca.pem"])


@PROCESSES
def test_forward_may_begin_and_end_with_a_reload(
    upstream: Named, run: Path, env: dict[str, str], workers: int
) -> None:
    with edited({"routes": [route(upstream)], "workers": workers}, env=env) as it:
        assert list(run.iterdir()) == []
        for _ in range(2):
            it.must_reload(forward={"listen": ANY_PORT})
            assert (place(run) / "ca.pem").read_bytes() == roots(it.proxy)
            it.must_reload(forward=False)
            assert list(run.iterdir()) == []
            assert get(it.proxy.admin_url, "/forward-ca.pem").status == 404
        it.must_reload(forward={"listen": ANY_PORT})
        assert it.proxy.stop() == 0
        assert list(run.iterdir()) == []


# ── one's own ────────────────────────────────────────────────────────────────────────────────────


def given(directory: Path, signer: Signer, *, key: bytes | None = None) -> dict[str, Any]:
    (directory / "ca.pem").write_bytes(signer.pem)
    (directory / "ca-key.pem").write_bytes(key if key is not None else signer.key_pem())
    (directory / "ca-key.pem").chmod(0o600)
    return {"ca": {"cert_file": str(directory / "ca.pem"), "key_file": str(directory / "ca-key.pem")}}


@PROCESSES
def test_an_authority_of_ones_own_signs_and_another_one_in_its_files_does_after_a_reload(
    upstream: Named, run: Path, env: dict[str, str], tmp_path: Path, workers: int
) -> None:
    first, other = Signer("first"), Signer("other")
    config = forwarding(route(upstream), forward=given(tmp_path, first), workers=workers)
    with edited(config, env=env) as it:
        proxy = it.proxy
        assert roots(proxy) == first.pem == (place(run) / "ca.pem").read_bytes()
        (tmp_path / "first.pem").write_bytes(first.pem)
        (tmp_path / "other.pem").write_bytes(other.pem)
        assert answered(proxy, upstream, trusts(tmp_path / "first.pem")) == 200
        given(tmp_path, other, key=first.key_pem())
        assert "configuration not reloaded" in it.hang_up()
        assert "forward.ca.key_file: is not the key of the first certificate" in proxy.log()
        assert answered(proxy, upstream, trusts(tmp_path / "first.pem")) == 200
        given(tmp_path, other)
        it.must_reload()
        assert roots(proxy) == other.pem == (place(run) / "ca.pem").read_bytes()
        for _ in range(4):
            assert answered(proxy, upstream, trusts(tmp_path / "other.pem")) == 200
        assert ANOTHER in proxy.log()
        text = proxy.log() + proxy.output()
        assert not re.search("PRIVATE|MIG[a-zA-Z0-9+/]{20}", text)


def test_files_that_change_are_noticed_by_who_watches(
    upstream: Named, env: dict[str, str], tmp_path: Path
) -> None:
    config = forwarding(route(upstream), forward=given(tmp_path, Signer("first")))
    with edited(config, "--watch", env=env) as it:
        other = Signer("other")
        given(tmp_path, other)
        wait_until(lambda: roots(it.proxy) == other.pem, it.proxy.log)


def test_check_and_run_say_of_an_authority_of_ones_own_what_will_not_do_and_where(
    upstream: Named, run: Path, env: dict[str, str], tmp_path: Path
) -> None:
    def said(verb: str, signer: Signer, **more: Any) -> str:
        config = {"forward": given(tmp_path, signer, **more), "listen": ANY_PORT, "routes": [route(upstream)]}
        done = authproxy(verb, config=config, env=env)
        assert done.returncode == 2, done.stderr
        assert "PRIVATE" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    for verb in ("check", "run"):
        no_signer = said(verb, Signer("server", extensions=()))
        assert re.search(r"yaml:3:16: forward\.ca\.cert_file: .*basicConstraints has no CA:TRUE", no_signer)
        encrypted = said(verb, signer := Signer("root"), key=signer.key_pem(passphrase=b"secret"))
        assert re.search(
            r"yaml:4:15: forward\.ca\.key_file: is encrypted, and nobody can be asked", encrypted
        )
    assert list(run.iterdir()) == []


@needs_owners
def test_a_key_of_it_that_others_can_read_is_warned_about(
    upstream: Named, env: dict[str, str], tmp_path: Path
) -> None:
    forward = given(tmp_path, Signer("root", extensions=(CA, SIGNS)))
    (tmp_path / "ca-key.pem").chmod(0o644)
    warning = f"an authority's private key that others can read: chmod 600 {tmp_path / 'ca-key.pem'}"
    done = authproxy("check", config={"forward": forward, "routes": [route(upstream)]}, env=env)
    assert (done.returncode, warning in done.stdout + done.stderr) == (0, True)
    with running_proxy(forwarding(route(upstream), forward=forward), env=env) as proxy:
        assert warning in proxy.log()


def test_an_authority_that_may_sign_for_any_host_or_ends_soon_is_warned_about(
    upstream: Named, env: dict[str, str], tmp_path: Path
) -> None:
    forward = given(tmp_path, Signer("root"))
    warnings = ("may sign for any host (it has no name constraints)", "ends soon, at ")
    done = authproxy("check", config={"forward": forward, "routes": [route(upstream)]}, env=env)
    assert done.returncode == 0
    with running_proxy(forwarding(route(upstream), forward=forward), env=env) as proxy:
        for warning in warnings:
            assert f"forward.ca.cert_file: warning: {warning}" in done.stdout
            assert f"forward.ca.cert_file {warning}" in proxy.log()
        proxy.stop()
        assert proxy.log().count("ends soon") == 1
