"""`authproxy doctor --forward -- COMMAND`: a program proved by what its connections say.

It runs as under `exec --forward`, to its end; what came to the proxy meanwhile is judged in
`app/doctor/connections.py`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from authproxy.app.child import NotStarted
from authproxy.app.doctor.connections import (
    Connections,
    Destination,
    judge_elsewhere,
    judge_requests,
    judge_trust,
    judge_use,
)
from authproxy.app.doctor.examination import Report, Subject, View
from authproxy.app.doctor.pasteable import Pasteable
from authproxy.app.doctor.steps import Steps, Verdict, failed, passed, skipped
from authproxy.cli.options import find_route, load_config
from authproxy.cli.program import Program, place_of, run_beside, served_beside
from authproxy.config.route import RouteConfig
from authproxy.grants.static import NoGrant


def examine_program(
    config_file: str | None,
    routes: Sequence[str],
    command: Sequence[str],
    view: View,
    *,
    java: bool = False,
    retry_rejected: bool = False,
) -> Report:
    """Run `command` with what is served for `routes`, or all, beside it; return what its connections say.

    Raises `AuthproxyError` for what cannot be served.
    """
    environ = dict(os.environ)
    config = load_config(config_file, needed=routes)
    chosen = [find_route(config, name) for name in dict.fromkeys(routes)] or list(config.routes)
    served = served_beside(config, chosen, forward=True, keyed=not java)
    served = replace(served, log=replace(served.log, level="error"))
    clean = Pasteable(config)
    if served.forward_key is not None:
        clean.add(served.forward_key.get_secret_value())
    view.subject(clean(config.file))
    program = Subject("program", Steps(view, clean.verdict))
    report = Report(clean(config.file), has_faults=False, proxy=program)
    program.steps.note("config", passed(f"{len(chosen)} route{'' if len(chosen) == 1 else 's'}"))
    found, started = Connections(), perf_counter()
    try:
        code = run_beside(
            served,
            command,
            lambda listeners: Program(config, served, listeners, environ, java=java),
            retry_rejected=retry_rejected,
            to_stderr=True,
            watcher=found,
        )
    except NotStarted as error:
        program.steps.note("program", failed(f"cannot run {command[0]}: {error}", "check COMMAND"))
        return report
    ms = (perf_counter() - started) * 1000
    program.steps.note("program", _ended(command, code), ms)
    report.routes += _judged(found, chosen, program.steps, view, clean, java=java)
    return report


def _ended(command: Sequence[str], code: int) -> Verdict:
    """Return how a program has ended, which is its own affair."""
    told = f"{Path(command[0]).name}: exit code {code}"
    return skipped(told) if code else passed(told)


def _judged(
    found: Connections,
    routes: Sequence[RouteConfig],
    steps: Steps,
    view: View,
    clean: Pasteable,
    *,
    java: bool,
) -> list[Subject]:
    """Note what is no route's in `steps`; return what is to be said of each route."""
    destinations = [_destination(route) for route in routes]
    steps.note("proxy", judge_use(found, destinations))
    if (elsewhere := judge_elsewhere(found, destinations)) is not None:
        steps.note("elsewhere", elsewhere)
    subjects = []
    for route, asked in zip(routes, destinations, strict=True) if found.tunnels or found.sent else ():
        view.subject(clean(f"{route.name} → {route.upstream}"))
        subject = Subject(route.name, Steps(view, clean.verdict))
        if asked.is_secure:
            subject.steps.note("trust", judge_trust(asked.place, found, java=java))
        subject.steps.note("requests", judge_requests(asked, found))
        subjects.append(subject)
    return subjects


def _destination(route: RouteConfig) -> Destination:
    """Return what a program has to ask for to come to a route."""
    is_secure = urlsplit(route.upstream).scheme == "https"
    return Destination(route.name, place_of(route), is_secure, adds=not isinstance(route.grant, NoGrant))
