"""How many connections there can be: each takes a file descriptor.

A process without any left can neither accept a connection nor open one to an upstream.
"""

from math import inf

from authproxy import logs
from authproxy.capabilities import open_file_limits, raise_open_file_limit
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError

OWN_FILES = 32  # descriptors besides clients' and upstreams': listeners, the log, the loop, token endpoints


class TooFewFiles(AuthproxyError):
    """There are not enough file descriptors to do anything at all."""


def raise_file_limit(config: Config) -> None:
    """Raise the soft limit on open files to what `config` needs, as far as the hard one lets us.

    The usual soft limit, 1024, is for programs that use `select`. Raises `TooFewFiles` where there would not
    be enough for the process itself.
    """
    soft, hard = open_file_limits()
    connections = config.limits.connections + upstream_connections(config)
    most = int(min(connections + OWN_FILES, hard))
    if soft < most and raise_open_file_limit(most, hard):
        logs.debug("raised the limit on open files", soft=soft, now=most)
    if min(max(soft, most), hard) < OWN_FILES:
        raise TooFewFiles(
            f"this process may have {int(hard)} files open, and itself takes {OWN_FILES}",
            hint="raise the limit: ulimit -n 1024",
        )


def upstream_connections(config: Config) -> int:
    """Return how many connections to upstreams there can be at a time, the far ends of tunnels included."""
    tunnels = config.limits.connections if config.forward is not None and config.forward.tunnels else 0
    return sum(route.max_connections for route in config.routes) + tunnels


def affordable_connections(config: Config) -> int:
    """Return how many clients can be served at a time: what `config` says, or what descriptors there are for.

    Each may need a connection to an upstream as well.
    """
    wanted = config.limits.connections
    files, _ = open_file_limits()
    if files == inf:
        return wanted
    room = int(files) - OWN_FILES
    return min(wanted, max(1, room // 2, room - upstream_connections(config)))
