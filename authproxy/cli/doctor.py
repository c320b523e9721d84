"""`authproxy doctor [ROUTE]`: each route proved end to end, and what to do where it fails."""

import asyncio
import os
import re
import sys
from pathlib import Path
from time import monotonic

import click

from authproxy import logs
from authproxy.app.doctor.examination import Examination, Report
from authproxy.app.doctor.steps import Step
from authproxy.app.doctor.upstream import Question
from authproxy.cli.completing import complete_routes
from authproxy.cli.options import (
    config_option,
    forget_secret_variables,
    json_option,
    print_json,
    retry_rejected_option,
)
from authproxy.cli.output import is_unicode
from authproxy.cli.suggest import no_such
from authproxy.config.find import find_config
from authproxy.config.salvage import Salvaged, salvage
from authproxy.errors import ConfigError

MARKS = {
    True: ("✓", "ok", "green"),
    False: ("✗", "FAILED", "red"),
    None: ("–", "-", "yellow"),  # noqa: RUF001 - a dash
}
"""How a step went: as a sign, in ASCII, and its colour."""
NAME_WIDTH = 11
PATIENCE = 1.0  # seconds after which a terminal is told what is waited for

_PATH = re.compile(r"/[!-\"$-~]*\Z")


@click.command()
@click.argument("route", required=False, shell_complete=complete_routes)
@config_option
@click.option("--path", metavar="PATH", help="What to ask the upstream for, below the route. [default: /]")
@click.option(
    "--method", type=click.Choice(["GET", "HEAD"], case_sensitive=False),
    help="How to ask. [default: GET, or HEAD where `allow` lets no GET out]",
)  # fmt: skip
@retry_rejected_option
@json_option
def doctor(
    *,
    route: str | None,
    config_file: str | None,
    path: str | None,
    method: str | None,
    retry_rejected: bool,
    as_json: bool,
) -> None:
    """Prove each route, or ROUTE, end to end: configuration, secrets, DNS, TCP, TLS, token, one request.

    Each failure says what to do. A credential is sent where the proxy would send it, and nowhere else.
    What is printed is safe to paste. Exit codes: 0 all is well, 1 something failed, 2 the configuration is
    faulty.
    """
    if path is not None and not _PATH.match(path):
        raise click.UsageError("--path should begin with /, and be as in a URL: no spaces, no #")
    file = find_config(config_file)
    found = _salvaged(file)
    if found.config is not None:
        forget_secret_variables(found.config)
    _check_name(found, route)
    logs.set_up("error", "text")
    view: Silent | Text = Silent() if as_json else Text()
    examination = Examination(found, Question(path, method), view, retry_rejected=retry_rejected, route=route)
    report = asyncio.run(_with_progress(examination, view))
    if as_json:
        print_json(report.document())
    else:
        _conclude(report)
    sys.exit(report.exit_code)


def _salvaged(file: Path) -> Salvaged:
    try:
        return salvage(file)
    except ConfigError as error:  # it cannot be opened: that is all there is to tell
        return Salvaged(str(file), faults=tuple(error.faults), hint=error.hint)


def _check_name(found: Salvaged, route: str | None) -> None:
    names = [each.name for each in found.routes]
    if route is None or route in names or not names:
        return
    raise no_such("route", route, names, f" in {found.file}")


async def _with_progress(examination: Examination, view: "Silent | Text") -> Report:
    watching = asyncio.create_task(view.progress.watch(), name="progress")
    try:
        return await examination.report()
    finally:
        watching.cancel()
        view.progress.clear()


class Progress:
    """One line on a terminal's stderr that says what is waited for; it goes when the wait is over."""

    def __init__(self) -> None:
        self._shows = sys.stderr is not None and sys.stderr.isatty()
        self._name = ""
        self._since = 0.0
        self._shown = False

    def begins(self, name: str) -> None:
        self._name, self._since = name, monotonic()

    async def watch(self) -> None:
        """Show the line from now on, whenever a step takes long."""
        while self._shows:
            await asyncio.sleep(PATIENCE / 4)
            if self._name and (waited := monotonic() - self._since) >= PATIENCE:
                click.echo(f"\r\x1b[K  ... {self._name} ({waited:.0f} s)", err=True, nl=False)
                self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        self._name = ""
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False


class Silent:
    """Shows nothing but progress: the document comes at the end."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._title = ""

    def subject(self, title: str) -> None:
        self._title = title

    def begins(self, name: str) -> None:
        self.progress.begins(f"{self._title}: {name}")

    def ended(self, _step: Step) -> None:
        self.progress.clear()


class Text(Silent):
    """Prints each step when it is over, below the title of its subject."""

    def __init__(self) -> None:
        super().__init__()
        self._is_unicode = is_unicode(sys.stdout)
        self._color = False if os.environ.get("NO_COLOR") else None

    def subject(self, title: str) -> None:
        click.echo(f"{'' if not self._title else chr(10)}{title}")
        super().subject(title)

    def ended(self, step: Step) -> None:
        super().ended(step)
        for line in step_lines(step, unicode=self._is_unicode):
            click.echo(line, color=self._color)


def step_lines(step: Step, *, unicode: bool) -> list[str]:
    """Return how a step is shown."""
    sign, word, color = MARKS[step.verdict.ok]
    mark = click.style(sign if unicode else f"{word:6}", fg=color)
    took = f"{step.ms:.0f} ms" if step.ms else ""
    text = step.verdict.detail or step.verdict.cause or ""
    lines = [f"  {mark} {step.name:{NAME_WIDTH}} {took:>8}  {text}".rstrip()]
    if step.verdict.detail and step.verdict.cause:
        lines.append(f"      cause: {step.verdict.cause}")
    if step.verdict.next:
        lines.append(f"      next:  {step.verdict.next}")
    return lines


def _conclude(report: Report) -> None:
    failed = [each.name for each in [report.proxy, *report.routes] if not each.steps.ok]
    if failed:
        click.echo(f"\nfailed: {', '.join(failed)}")
    else:
        click.echo(
            "\neverything that could be tried works" if report.routes else "\nthere is no route to examine"
        )
