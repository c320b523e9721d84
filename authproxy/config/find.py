"""Where the configuration file is."""

import os
from collections.abc import Mapping
from pathlib import Path

from authproxy.errors import ConfigError, Fault
from authproxy.places import NO_HOME, config_directory, is_file

SYSTEM_CONFIG = Path("/etc/authproxy/config.yaml")
OTHERWISE = (
    "write one with `authproxy init`, or try `authproxy demo`, which needs none; "
    f"in a container, mount one: docker run --volume ./authproxy.yaml:{SYSTEM_CONFIG.as_posix()}:ro …"
)
NO_FILE = f"name a configuration file with -c, {OTHERWISE}"
NO_SUCH_FILE = f"check its name (-c, $AUTHPROXY_CONFIG), {OTHERWISE}"


def find_config(explicit: str | None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the configuration file; raise `ConfigError` naming the places that were searched.

    A file that is named (`-c`, `$AUTHPROXY_CONFIG`) is the one, whether it is there or not.
    """
    if explicit == "":  # as of a variable that is not set: no other file may stand in for that one
        raise ConfigError([Fault("-c", 0, 0, "", "should name a file, and is empty")], hint=NO_FILE)
    named = explicit or environ.get("AUTHPROXY_CONFIG")
    if named:
        try:
            return Path(named).expanduser()
        except RuntimeError:
            fault = Fault(named, 0, 0, "", "names a home directory (~) that does not exist")
            raise ConfigError([fault], hint=NO_FILE) from None
    directory = config_directory()
    own = [directory / "config.yaml"] if directory is not None else []
    places = [Path("authproxy.yaml"), *own, SYSTEM_CONFIG]
    for place in places:
        if is_file(place):
            return place
    searched = ", ".join(["$AUTHPROXY_CONFIG", *map(str, places)])
    message = f"not found; searched {searched}"
    if directory is None:
        message += f" ({NO_HOME})"
    raise ConfigError([Fault("configuration file", 0, 0, "", message)], hint=NO_FILE)
