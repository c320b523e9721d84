"""git over http: `git http-backend` behind a door that wants a token, and a git that has none.

    git ──▶ authproxy ──▶ a few lines of CGI ──▶ git http-backend ──▶ a bare repository
             adds the token       401 without it, as Bearer or as the password of Basic

What git sends is sent on while it comes: packs in chunks, and what it has gzipped as it is.
"""

import contextlib
import os
import shutil
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pytest

from tests.support.command import RunningProxy, running_proxy
from tests.support.installed import need
from tests.support.launch import GUARD
from tests.support.wire import UNAUTHORIZED, Message, Tokens, Upstream, Wire

KIB, MIB = 1 << 10, 1 << 20
POST_BUFFER = 64 * KIB  # what git sends at a time; a longer request is chunked
MAX_BODY = 1 * MIB  # the route's `retry.max_body`
NAME = "git.localhost"  # which git finds by itself, wherever it is
HALT = b"0000"  # a flush packet: what git asks with whether it may send a pack


# ── the server ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Call:
    """A request to the backend: its head, and how much of a body came."""

    head: Message
    size: int = 0
    start: bytes = b""

    @property
    def is_push(self) -> bool:
        return self.head.method == "POST" and self.head.path.endswith("/git-receive-pack")


class Git(Upstream):
    """`git http-backend` for the repositories in `root`, for those who have a good token."""

    def __init__(self, root: Path, tokens: Tokens) -> None:
        super().__init__(self.serve)
        self.reads_bodies = False
        self.root = root
        self.tokens = tokens
        self.calls: list[Call] = []
        self.refused: list[Message] = []
        self.token_dies_before_a_pack = False

    def serve(self, head: Message, wire: Wire) -> bytes | None:
        good = (head.one("Authorization") or "").removeprefix("Bearer ") in self.tokens.issued.good
        call = Call(head)
        body = counted(body_of(head, wire), call)
        if not good:
            self.refused.append(head)
            for _ in body:
                pass
            return UNAUTHORIZED
        self.calls.append(call)
        wire.send(self._run(head, body))
        if self.token_dies_before_a_pack and call.is_push and call.start == HALT:
            self.token_dies_before_a_pack = False
            self.tokens.revoke()
        return b""

    def _run(self, head: Message, body: Iterator[bytes]) -> bytes:
        path, _, query = head.target.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": head.method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_USER": "whoever has the token",
            "CONTENT_TYPE": head.one("Content-Type") or "",
            "HTTP_CONTENT_ENCODING": head.one("Content-Encoding") or "",
            "GIT_PROTOCOL": head.one("Git-Protocol") or "",
        }
        if (length := head.one("Content-Length")) is not None:
            environment["CONTENT_LENGTH"] = length
        with subprocess.Popen(
            ["git", "http-backend"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as backend:
            assert backend.stdin is not None
            assert backend.stdout is not None
            feeding = threading.Thread(target=feed, args=(body, backend.stdin))
            feeding.start()
            said = backend.stdout.read()
            feeding.join(GUARD)
        head_lines, _, content = said.partition(b"\r\n\r\n")
        lines = head_lines.split(b"\r\n")
        status = b"200 OK"
        if lines[0].startswith(b"Status: "):
            status = lines.pop(0).removeprefix(b"Status: ")
        start = b"HTTP/1.1 " + status
        return b"\r\n".join([start, *lines, b"Content-Length: %d" % len(content), b"", content])


class BasicGit(Git):
    """The same for those who have it for a password, as GitHub and GitLab want it."""

    def serve(self, head: Message, wire: Wire) -> bytes | None:
        scheme, _, value = (head.one("Authorization") or "").partition(" ")
        username, _, password = (
            b64decode(value).decode().partition(":") if scheme == "Basic" else ("", "", "")
        )
        assert username in {"", "oauth2"}
        head.headers = [
            (name, f"Bearer {password}".encode() if name.lower() == b"authorization" else old)
            for name, old in head.headers
        ]
        answer = super().serve(head, wire)
        return answer.replace(b"Bearer realm", b"Basic realm") if answer else answer


def body_of(head: Message, wire: Wire) -> Iterator[bytes]:
    """Yield a body while it arrives."""
    if head.one("Transfer-Encoding") == "chunked":
        while piece := wire.chunk():
            yield piece
        assert wire.until(b"\r\n") == b"\r\n"
        return
    left = int(head.one("Content-Length") or 0)
    while left:
        yield wire.exactly(size := min(left, 1 << 16))
        left -= size


def counted(body: Iterator[bytes], call: Call) -> Iterator[bytes]:
    for piece in body:
        call.start = call.start or piece[:4]
        call.size += len(piece)
        yield piece


def feed(body: Iterator[bytes], into: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        for piece in body:
            into.write(piece)
        into.close()


# ── the client ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Desk:
    """A place to work at: a git that knows nothing of this machine, the proxy, and what is behind it."""

    directory: Path
    proxy: RunningProxy
    server: Git
    tokens: Tokens

    @property
    def url(self) -> str:
        return f"http://localhost:{urlsplit(self.proxy.url).port}/git/project.git"

    @property
    def bare(self) -> Path:
        return self.server.root / "project.git"

    def git(
        self, *args: str, at: str | Path = ".", check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", *args],
            cwd=self.directory / at, env=environment(self.directory) | variables, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return done

    def read(self, *args: str, at: str | Path = ".") -> str:
        return self.git(*args, at=at).stdout.strip()

    def commit(self, at: str, name: str, size: int) -> str:
        """Commit a file of random bytes, which no pack makes smaller; return the commit's id."""
        (self.directory / at / name).write_bytes(os.urandom(size))
        self.git("add", name, at=at)
        self.git("commit", "-q", "-m", f"add {name}", at=at)
        return self.read("rev-parse", "HEAD", at=at)

    def objects(self, at: str | Path) -> set[str]:
        listed = self.read("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", at=at)
        return set(listed.split())


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
        "LC_ALL": "C",
    }  # fmt: skip


DOORS = {
    "bearer": (Git, {}),
    "basic": (BasicGit, {"inject": [{"basic": {"username": "oauth2", "password": "{token}"}}]}),
}


@pytest.fixture(params=DOORS)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    door, inject = DOORS[request.param]
    need("git")
    if not (
        Path(subprocess.check_output(["git", "--exec-path"], text=True).strip()) / "git-http-backend"
    ).exists():
        need("git-http-backend")
    root, work = tmp_path / "served", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    with Tokens() as tokens, door(root, tokens) as server:
        auth = {
            "grant": "client_credentials",
            "token_url": f"{tokens.url}/token",
            "client_id": "me",
            "client_secret": "the-clients-secret",
        }
        route = {"name": "git", "path": "/git", "upstream": server.url, "auth": auth | inject}
        named = {**route, "name": "named", "path": "/", "host": NAME}
        with running_proxy({"routes": [{**route, "retry": {"max_body": MAX_BODY}}, named]}) as proxy:
            desk = Desk(work, proxy, server, tokens)
            desk.git("config", "--global", "http.postBuffer", str(POST_BUFFER))
            desk.git("config", "--global", "init.defaultBranch", "main")
            desk.git("config", "--global", "gc.auto", "0")
            desk.git("init", "-q", "--bare", str(desk.bare))
            desk.git("config", "http.receivepack", "true", at=desk.bare)
            yield desk
            assert proxy.stop() == 0
            assert "internal error" not in proxy.log()
    shutil.rmtree(root)


only_basic = pytest.mark.parametrize("desk", ["basic"], indirect=True)
only_bearer = pytest.mark.parametrize("desk", ["bearer"], indirect=True)


@pytest.fixture
def clone(desk: Desk) -> str:
    """Clone the empty repository; return where to."""
    desk.git("clone", "-q", desk.url, "mine")
    return "mine"


# ── what is promised ─────────────────────────────────────────────────────────────────────────────


def test_without_the_proxy_nobody_gets_in(desk: Desk) -> None:
    refused = desk.git("clone", "-q", f"{desk.server.url}/project.git", "mine", check=False)
    assert refused.returncode != 0
    assert desk.server.calls == []


def test_a_push_in_chunks_and_a_fetch_bring_the_same_objects_to_both_sides(desk: Desk, clone: str) -> None:
    first = desk.commit(clone, "large", 6 * MIB)
    desk.git("push", "-q", "origin", "main", at=clone)
    assert desk.read("rev-parse", "main", at=desk.bare) == first
    assert desk.objects(desk.bare) == desk.objects(clone)
    pack = desk.server.calls[-1]
    assert pack.is_push
    assert pack.head.one("Transfer-Encoding") == "chunked"
    assert pack.size > 6 * MIB

    desk.git("clone", "-q", desk.url, "yours")
    assert desk.objects("yours") == desk.objects(clone)
    assert desk.git("fsck", "--full", at="yours").returncode == 0
    second = desk.commit("yours", "more", 3 * MIB)
    desk.git("push", "-q", at="yours")
    desk.git("fetch", "-q", at=clone)
    assert desk.read("rev-parse", "origin/main", at=clone) == second
    assert desk.objects(clone) == desk.objects("yours") == desk.objects(desk.bare)
    assert desk.server.refused == []
    assert len(desk.tokens.requests) == 1


@only_bearer
def test_what_git_gzips_arrives_as_it_was_sent(desk: Desk, clone: str) -> None:
    desk.commit(clone, "a", 100)
    for number in range(60):  # many names, so that what is asked for is worth the effort
        desk.git("tag", f"v{number}", at=clone)
        desk.git("commit", "-q", "--allow-empty", "-m", f"{number}", at=clone)
    desk.git("push", "-q", "--tags", "origin", "main", at=clone)
    desk.git("config", "--global", "http.postBuffer", str(MIB))  # what is sent in chunks is not gzipped
    desk.git("clone", "-q", desk.url, "yours")
    gzipped = [call for call in desk.server.calls if call.head.one("Content-Encoding") == "gzip"]
    assert gzipped
    assert all(call.start.startswith(b"\x1f\x8b") for call in gzipped)
    assert desk.objects("yours") == desk.objects(clone)


def test_a_token_that_died_is_not_noticed(desk: Desk, clone: str) -> None:
    desk.commit(clone, "small", 100 * KIB)
    desk.tokens.revoke()
    desk.git("push", "-q", "origin", "main", at=clone)
    desk.tokens.revoke()
    desk.git("clone", "-q", desk.url, "yours")
    assert desk.objects("yours") == desk.objects(clone)
    assert len(desk.server.refused) == 2


def test_a_pack_in_chunks_whose_token_died_under_way_is_sent_again(desk: Desk, clone: str) -> None:
    """It is below `retry.max_body`, so it is still here."""
    desk.commit(clone, "middle", 700 * KIB)
    desk.server.token_dies_before_a_pack = True
    desk.git("push", "-q", "origin", "main", at=clone)
    (refused,) = desk.server.refused
    assert refused.one("Transfer-Encoding") == "chunked"
    assert desk.objects(desk.bare) == desk.objects(clone)


def test_a_pack_too_large_to_be_kept_fails_once_and_the_next_push_succeeds(desk: Desk, clone: str) -> None:
    """The 401 is git's then, which does not send a pack twice either; but the route has a new token."""
    pushed = desk.commit(clone, "large", 6 * MIB)
    desk.server.token_dies_before_a_pack = True
    failed = desk.git("push", "-q", "origin", "main", at=clone, check=False)
    assert failed.returncode != 0
    assert "the remote end hung up" in failed.stderr
    desk.proxy.wait_for_log("path=/git/project.git/git-receive-pack status=401")
    assert len(desk.server.refused) == 1
    desk.git("push", "-q", "origin", "main", at=clone)
    assert desk.read("rev-parse", "main", at=desk.bare) == pushed
    assert desk.objects(desk.bare) == desk.objects(clone)
    assert len(desk.server.refused) == 1


@only_basic
def test_what_was_cloned_from_the_server_itself_goes_by_the_proxy_instead(desk: Desk, clone: str) -> None:
    pushed = desk.commit(clone, "small", 100)
    desk.git("push", "-q", "origin", "main", at=clone)
    address = f"{desk.server.url}/project.git"
    desk.git("remote", "set-url", "origin", address, at=clone)
    assert desk.git("fetch", "-q", at=clone, check=False).returncode != 0
    through = desk.url.removesuffix("project.git")
    desk.git("config", "--global", f"url.{through}.insteadOf", f"{desk.server.url}/")
    desk.git("fetch", "-q", at=clone)
    desk.git("clone", "-q", address, "yours")
    assert desk.read("rev-parse", "HEAD", at="yours") == pushed
    assert desk.read("config", "remote.origin.url", at="yours") == address


@only_basic
def test_a_route_with_a_name_below_localhost_is_found(desk: Desk, clone: str) -> None:
    desk.commit(clone, "small", 100)
    desk.git("push", "-q", "origin", "main", at=clone)
    desk.git("clone", "-q", f"http://{NAME}:{urlsplit(desk.proxy.url).port}/project.git", "yours")
    assert desk.objects("yours") == desk.objects(clone)


@only_basic
def test_a_git_that_expects_to_be_told_to_continue_is_told(desk: Desk, clone: str) -> None:
    desk.git("config", "--global", "http.extraHeader", "Expect: 100-continue")
    desk.commit(clone, "large", 3 * MIB)
    pushed = desk.git("push", "-q", "origin", "main", at=clone, GIT_TRACE_CURL="1")
    assert "=> Send header: Expect: 100-continue" in pushed.stderr
    assert "<= Recv header: HTTP/1.1 100 Continue" in pushed.stderr
    assert all(call.head.one("Expect") is None for call in desk.server.calls)
    assert desk.objects(desk.bare) == desk.objects(clone)
