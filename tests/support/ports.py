"""Ports, for programs that cannot take any and say which."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of `host` that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port: int = listener.getsockname()[1]
        return port
