"""How many connections there can be: each takes a file descriptor.

A process without any left can neither accept a connection nor open one to an upstream.
"""

import contextlib
import sys

from authproxy import logs

OWN_FILES = 32  # descriptors besides clients' and upstreams': listeners, the log, the loop, token endpoints


def raise_file_limit(connections: int) -> None:
    """Raise the soft limit on open files to what `connections` need, as far as the hard one lets us.

    The usual soft limit, 1024, is for programs that use `select`.
    """
    if sys.platform == "win32":
        return  # there is no such limit
    import resource  # noqa: PLC0415 - not on every platform

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            logs.debug("raised the limit on open files", soft=soft, now=most)


def affordable_connections(wanted: int, *, upstream: int) -> int:
    """Return how many clients can be served at a time: `wanted`, or what descriptors there are for.

    Each may need a connection to an upstream as well, of which there are at most `upstream`.
    """
    if sys.platform == "win32":
        return wanted
    import resource  # noqa: PLC0415 - not on every platform

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    room = files - OWN_FILES
    return min(wanted, max(1, room // 2, room - upstream))
