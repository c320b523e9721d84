"""A route's own part of the configuration, and what its references gave."""

import re

from authproxy.app.doctor.steps import Steps, Verdict, failed, passed, skipped
from authproxy.config.model import Config
from authproxy.config.salvage import FoundRoute
from authproxy.errors import Fault

MAX_SHOWN = 6  # references that are named

_NEXT = (
    (re.compile(r"did you mean"), "write it as suggested"),
    (re.compile(r"is not YAML"), "correct the indentation, quotes or brackets there; YAML takes no tabs"),
    (
        re.compile(r"variable (\w+) is not set"),
        "set {0} where authproxy is started (a service has an environment of its own)",
    ),
    (re.compile(r"is empty: (\S+) gave nothing"), "give {0} a value"),
    (re.compile(r"should not be empty"), "give it a value"),
    (
        re.compile(r"cannot be read"),
        "correct the path, or let the user of authproxy read the file",
    ),
    (re.compile(r"byte order mark"), "save the file as UTF-8 without a byte order mark"),
    (re.compile(r"whitespace|line break"), "take it out where the secret is kept"),
    (
        re.compile(r"the program (failed|cannot be run|took)"),
        "run it by hand, in the configuration's directory",
    ),
    (re.compile(r"pip install '?[\w\[\]]+'?"), "install what is missing"),
)
"""What mends a fault, by its words; `authproxy check` has the words alone."""


def next_step(faults: tuple[Fault, ...]) -> str:
    """Return what to do about the first of `faults`."""
    first = faults[0]
    for pattern, say in _NEXT:
        if match := pattern.search(first.message):
            return say.format(*match.groups())
    key = f"`{first.key}`" if first.key else "the file"
    return f"correct {key} in {first.place}, then run `authproxy check`"


def cause(faults: tuple[Fault, ...]) -> str:
    """Return all of `faults` in a line."""
    return "; ".join(str(each).removeprefix("authproxy: ") for each in faults)


def note_route(found: FoundRoute, config: Config | None, steps: Steps) -> None:
    """Note how the route's part of the file is, and what its references gave."""
    steps.note("config", _settings(found, config))
    if found.source_faults:
        steps.note(
            "secrets", failed(cause(found.source_faults), next_step(found.source_faults), _shown(found))
        )
    elif found.config is None and (found.references or not found.key):
        steps.note("secrets", skipped("not all are read while the route has faults"))
    else:
        steps.note("secrets", passed(_shown(found) or "no references: what is written there is used"))


def _settings(found: FoundRoute, config: Config | None) -> Verdict:
    if found.faults:
        return failed(cause(found.faults), next_step(found.faults))
    if found.config is None:
        if found.source_faults:
            return passed(found.place)
        return skipped("not examined while the top of the file has faults")
    route = found.config
    auth = (
        f"preset {route.preset}, grant {route.auth['grant']}"
        if route.preset
        else f"grant {route.auth['grant']}"
    )
    told = [*route.warnings, *(_warnings(found, config) if config is not None else ())]
    return passed("; ".join([f"{found.place}, {auth}", *(f"warning: {each}" for each in told)]))


def _warnings(found: FoundRoute, config: Config) -> list[str]:
    return [f"{each.key} {each.message}" for each in config.warnings if each.key.startswith(f"{found.key}.")]


def _shown(found: FoundRoute) -> str:
    names = [*found.references[:MAX_SHOWN]]
    more = len(found.references) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
