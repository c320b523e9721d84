"""A proxy whose admin API is asked over the wire, and the servers around it."""

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.command import RunningProxy, running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.wire import API, BrokenOff, Message, Tokens, Upstream, Wire, ask, connect, get, request

SECRET = "s3cr3t-of-the-client"  # of the credential
EVENT_END = b"\n\n"


@dataclass
class Here:
    """The proxy, its token endpoint and its upstreams: `api` lets good tokens in, `other` everybody."""

    proxy: RunningProxy
    tokens: Tokens
    api: API
    other: Upstream
    key: tuple[str, ...] = ()
    """The header line of an access key, where one is needed."""

    def get(self, target: str, *lines: str) -> Message:
        return get(self.proxy.admin_url, target, *self.key, *lines)

    def post(self, target: str, *lines: str, body: bytes = b"") -> Message:
        return ask(self.proxy.admin_url, request("POST", target, *self.key, *lines, body=body))

    def call(
        self, target: str = "/x", *lines: str, method: str = "GET", body: bytes | None = None
    ) -> Message:
        """Send a request through the proxy."""
        return ask(self.proxy.url, request(method, target, *self.key, *lines, body=body))

    def route(self, name: str = "api") -> dict[str, Any]:
        """Return a route's part of the status."""
        routes = self.get("/api/status").json["routes"]
        [found] = [each for each in routes if each["name"] == name]
        return dict(found)

    def requests(self, query: str = "") -> list[dict[str, Any]]:
        answer = self.get(f"/api/requests{query}")
        assert answer.status == 200, answer.body
        return list(answer.json["requests"])

    def request(self, known: str) -> dict[str, Any]:
        """Return one request, with its headers, once it has ended."""
        wait_until(lambda: self.get(f"/api/requests/{known}").status == 200)
        return dict(self.get(f"/api/requests/{known}").json)

    def watching(self) -> AbstractContextManager["Watcher"]:
        return watching(self.proxy.admin_url, *self.key)


@dataclass
class Watcher:
    """Reads the live stream in a thread of its own."""

    wire: Wire
    events: list[tuple[str, Any]] = field(default_factory=list)
    comments: int = 0
    ended: bool = False

    def start(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        wait_until(lambda: self.comments, "the stream says nothing")

    def _read(self) -> None:
        came = b""
        try:
            while piece := self.wire.chunk():
                came += piece
                while EVENT_END in came:
                    event, _, came = came.partition(EVENT_END)
                    self._take(event.decode())
        except (BrokenOff, OSError):
            pass
        self.ended = True

    def _take(self, event: str) -> None:
        if event.startswith(":"):
            self.comments += 1
            return
        name, data = event.split("\n")
        self.events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))

    def of(self, kind: str) -> list[Any]:
        return [data for name, data in self.events if name == kind]

    def wait_for(self, kind: str, count: int = 1) -> list[Any]:
        wait_until(lambda: len(self.of(kind)) >= count, lambda: f"of {count} {kind}: {self.events}")
        return self.of(kind)


@contextmanager
def watching(url: str, *lines: str) -> Iterator[Watcher]:
    """Watch the live stream of the admin listener at `url`; `lines` are headers."""
    with connect(url) as wire:
        wire.send(request("GET", "/api/requests/stream", *lines))
        head = wire.head()
        assert head.status == 200
        assert head.one("Content-Type") == "text/event-stream"
        watcher = Watcher(wire)
        watcher.start()
        yield watcher


@contextmanager
def admin_api(*, workers: int = 1, auth: dict[str, Any] | None = None, **config: Any) -> Iterator[Here]:
    """Run a proxy with three routes: `api` with a credential, `other` with none, `kept`, whose bodies are."""
    with Tokens() as tokens, API(tokens.issued) as api, Upstream() as other:
        auth = auth or {
            "grant": "client_credentials",
            "token_url": f"{tokens.url}/token",
            "client_id": "a",
            "client_secret": SECRET,
        }
        routes = [
            {"name": "api", "upstream": api.url, "auth": auth},
            {"name": "other", "path": "/other", "upstream": other.url, "auth": {"grant": "none"}},
            {
                "name": "kept", "path": "/kept", "upstream": other.url, "auth": {"grant": "none"},
                "inspect": {"bodies": 1024},
            },
        ]  # fmt: skip
        settings = {
            "workers": workers,
            "limits": {"drain": "1s"},
            "log": {"format": "json"},
            "routes": routes,
        }
        with running_proxy(settings | config) as proxy:
            access = (config.get("access") or {}).get("tokens", [])
            key = tuple(f"X-Authproxy-Key: {each}" for each in access[:1])
            wait_until(lambda: get(proxy.admin_url, "/healthz").status == 200)
            yield Here(proxy, tokens, api, other, key)
            assert proxy.stop() == 0
            log = proxy.log() + proxy.output()
            assert "internal error" not in log
            assert "Traceback" not in log
            for secret in (SECRET, *tokens.issued.every):
                assert secret not in log


def everything(here: Here) -> bytes:
    """Return all that the API tells, for a look whether a secret is in it."""
    ids = [each["id"] for each in here.requests()]
    answers = [here.get(f"/api/requests/{each}") for each in ids]
    answers += [here.get("/api/status"), here.get("/api/requests"), here.get("/readyz"), here.get("/metrics")]
    return b"".join(answer.head + answer.body for answer in answers)


__all__ = ["GUARD", "Here", "admin_api", "everything", "watching"]
