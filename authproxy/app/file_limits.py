"""How many connections there can be: each takes a file descriptor.

A process without any left can neither accept a connection nor open one to an upstream.
"""

from math import inf

from authproxy import logs
from authproxy.capabilities import open_file_limits, raise_open_file_limit

OWN_FILES = 32  # descriptors besides clients' and upstreams': listeners, the log, the loop, token endpoints


def raise_file_limit(connections: int) -> None:
    """Raise the soft limit on open files to what `connections` need, as far as the hard one lets us.

    The usual soft limit, 1024, is for programs that use `select`.
    """
    soft, hard = open_file_limits()
    most = int(min(connections + OWN_FILES, hard))
    if soft < most and raise_open_file_limit(most, hard):
        logs.debug("raised the limit on open files", soft=soft, now=most)


def affordable_connections(wanted: int, *, upstream: int) -> int:
    """Return how many clients can be served at a time: `wanted`, or what descriptors there are for.

    Each may need a connection to an upstream as well, of which there are at most `upstream`.
    """
    files, _ = open_file_limits()
    if files == inf:
        return wanted
    room = int(files) - OWN_FILES
    return min(wanted, max(1, room // 2, room - upstream))
