"""What the tests of verbs that start a program share: listeners that are open, though nothing is."""

from types import SimpleNamespace

from authproxy.app.listeners import Listeners


def opened(config):
    """Return the proxy's listeners, each at a port of its own from 5001 on."""

    def socket(port):
        return SimpleNamespace(getsockname=lambda: ("127.0.0.1", port))

    return Listeners([(name, socket(port)) for port, name in enumerate(config.listeners, 5001)])
