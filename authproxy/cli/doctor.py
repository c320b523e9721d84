"""`authproxy doctor [ROUTE]`: each route proved end to end, and what to do where it fails."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from authproxy import logs
from authproxy.app.doctor.examination import Examination, Report, View
from authproxy.app.doctor.steps import Step
from authproxy.app.doctor.upstream import Question
from authproxy.capabilities import run_interruptibly
from authproxy.cli.doctor_program import examine_program
from authproxy.cli.options import (
    config_option,
    forget_secret_variables,
    json_option,
    print_json,
    retry_rejected_option,
)
from authproxy.cli.output import is_unicode
from authproxy.cli.program import COMMAND, WithCommand, complete_until_command, no_command
from authproxy.cli.suggest import no_such
from authproxy.cli.terminal import STDOUT, Progress, has_colour
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
ALL_IS_WELL = {
    False: "everything that could be tried works",
    True: "the program comes by the proxy, and trusts it",
}
USAGE = "authproxy doctor --forward [ROUTE]... -- COMMAND [ARG]..."

_PATH = re.compile(r"/[!-\"$-~]*\Z")


class Doctor(WithCommand):
    """Takes a command as well, for --forward."""

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(context), "[--forward -- COMMAND [ARG]...]"]


@click.command(cls=Doctor)
@click.argument("routes", metavar="[ROUTE]...", nargs=-1, shell_complete=complete_until_command)
@config_option
@click.option(
    "--forward",
    is_flag=True,
    help="Run COMMAND as `exec --forward` does, and tell whether it comes by the proxy, and trusts it.",
)
@click.option("--java", is_flag=True, help="Run it as `exec --forward --java` does.")
@click.option("--path", metavar="PATH", help="What to ask the upstream for, below the route. [default: /]")
@click.option(
    "--method", type=click.Choice(["GET", "HEAD"], case_sensitive=False),
    help="How to ask. [default: GET, or HEAD where `allow` lets no GET out]",
)  # fmt: skip
@retry_rejected_option
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    *,
    routes: tuple[str, ...],
    config_file: str | None,
    forward: bool,
    java: bool,
    path: str | None,
    method: str | None,
    retry_rejected: bool,
    as_json: bool,
) -> None:
    """Prove each route, or ROUTE, end to end: configuration, secrets, DNS, TCP, TLS, token, one request.

    Each failure says what to do. A credential is sent where the proxy would send it, and nowhere else.
    What is printed is safe to paste. Exit codes: 0 all is well, 1 something failed, 2 the configuration is
    faulty.

    With --forward, COMMAND is run with the proxy beside it, for each ROUTE or for all: its connections show
    whether it uses the proxy of its environment, and whether it accepts our certificates. What it writes to
    stdout goes to stderr.
    """
    command = context.meta.get(COMMAND, [])
    _check_usage(context, routes, forward=forward, java=java, asks=path is not None or method is not None)
    question = Question(path, method)
    if path is not None and not _PATH.match(path):
        raise click.UsageError("--path should begin with /, and be as in a URL: no spaces, no #")
    progress = Progress()
    view = Silent(progress) if as_json else Text(progress)
    if forward:  # without a thread for progress: signals are for COMMAND
        report = examine_program(config_file, routes, command, view, java=java, retry_rejected=retry_rejected)
    else:
        with progress:
            report = _examine_routes(config_file, routes, question, view, retry_rejected=retry_rejected)
    if as_json:
        print_json(report.document())
    else:
        _conclude(report, ALL_IS_WELL[forward])
    sys.exit(report.exit_code)


def _check_usage(
    context: click.Context, routes: Sequence[str], *, forward: bool, java: bool, asks: bool
) -> None:
    """Raise `click.UsageError` for what does not go together."""
    command = context.meta.get(COMMAND, [])
    if forward and not command:
        raise click.UsageError(no_command(context, USAGE))
    if forward and asks:
        raise click.UsageError("--path and --method are no use with --forward: it is COMMAND that asks")
    if not forward and (command or java):
        raise click.UsageError(f"a COMMAND goes with --forward: {USAGE}")
    if not forward and len(routes) > 1:
        raise click.UsageError("name one ROUTE, or none for all of them")


def _examine_routes(
    config_file: str | None, routes: Sequence[str], question: Question, view: View, *, retry_rejected: bool
) -> Report:
    """Prove the one of `routes`, or all there are."""
    route = next(iter(routes), None)
    found = _salvaged(find_config(config_file))
    if found.config is not None:
        forget_secret_variables(found.config)
    _check_name(found, route)
    logs.set_up("error", "text")
    examination = Examination(found, question, view, retry_rejected=retry_rejected, route=route)
    return run_interruptibly(examination.report())


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


class Silent:
    """Shows nothing but progress: the document comes at the end."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._title = ""

    def subject(self, title: str) -> None:
        self._title = title

    def begins(self, name: str) -> None:
        self._progress.begin(f"{self._title}: {name}")

    def ended(self, _step: Step) -> None:
        self._progress.begin("")


class Text(Silent):
    """Prints each step when it is over, below the title of its subject."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self._is_unicode = is_unicode(sys.stdout)
        self._color = has_colour(STDOUT)

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


def _conclude(report: Report, all_is_well: str) -> None:
    failed = [each.name for each in [report.proxy, *report.routes] if not each.steps.ok]
    if failed and report.proxy.steps.failed_at("config"):
        failed[0] = "config"
    if failed:
        click.echo(f"\nfailed: {', '.join(failed)}")
    else:
        click.echo(f"\n{all_is_well}" if report.routes else "\nthere is no route to examine")
