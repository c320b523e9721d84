"""Two configurations, a listener, and who stands in for an application that is reloaded."""

import os
import socket
from types import SimpleNamespace

from authproxy.app.tls import TLSContexts
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers.reload import packed

ROUTE = "\nroutes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]"
TLS = TLSContexts(None, {})
OLD, NEW = "127.0.0.1:0", "localhost:0"
BEFORE, AFTER = (parse(f"listen: '{each}'{ROUTE}", "proxy.yaml") for each in (OLD, NEW))


def listener():
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


class App:
    """Notes what it is told; the step named in `fails` raises its error."""

    def __init__(self):
        self.calls = []
        self.fails = {}
        self.draining = False
        self.site = SimpleNamespace(tls=TLS)
        self.config = BEFORE
        self.opened = []

    def step(self, name, value=None):
        self.calls.append((name, value) if value is not None else name)
        if name in self.fails:
            raise self.fails[name]

    async def prepare(self, config, opened, tls, own):
        assert tls is TLS
        self.opened.append(opened)
        self.step("prepare", config.listen[0])
        return f"change {sum(each[0] == 'prepare' for each in self.calls)}"

    async def commit(self, change):
        self.step("commit", change)

    def abandon(self, change):
        self.step("abandon", change)

    def let_go(self):
        self.step("let go")


def said(what, number=8, *, config=None, sockets=(), addresses=(), **facts):
    descriptors = [os.dup(sock.fileno()) for sock in sockets]
    if config is not None:
        facts["config"] = packed(config, OwnListeners(), TLS)
    message = {"reload": what, "number": number, "addresses": list(addresses), **facts}
    return message | ({"descriptors": descriptors} if descriptors else {})
