"""The command line: one file a verb, and the table that lists them.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the work failed, 2 bad usage or
bad configuration.
"""

import errno
import gc
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from authproxy import __version__
from authproxy.cli.first_process import step_aside
from authproxy.cli.output import StdoutFault, give_up_stdout, prepare_output
from authproxy.errors import AuthproxyError, ConfigError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VERBS = {
    "run": "serve until SIGINT or SIGTERM",
    "exec": "run a program with the proxy beside it",
    "env": "print variables for programs that are to use the proxy that runs",
    "check": "validate the configuration; the network is not touched",
    "doctor": "prove each route end to end, step by step, and say what to do",
    "routes": "show each route: the URL to call, its upstream, its state",
    "token": "print a usable token and nothing else",
    "login": "log in to a route whose token only a person can obtain",
    "logout": "forget the tokens stored for a route",
    "init": "write a commented starter configuration",
    "presets": "list the presets, or show one as YAML",
    "schema": "print the configuration's JSON Schema",
    "demo": "serve a built-in stand-in for every API behind the proxy",
    "trust": "the local authority of `tls: auto`: show it, or have this machine trust it",
    "healthcheck": "exit 0 when /readyz answers 200; for containers",
    "completion": "print the completion script of a shell",
}
"""The verbs in the order of the help; `authproxy.cli.VERB` has a command `VERB`, loaded when needed."""


DUMPABLE = "AUTHPROXY_DUMPABLE"  # 1 lets debuggers and core dumps in

STARTS_GARBAGE = 50_000  # objects made before a look for garbage: what is imported is none


class Verbs(click.Group):
    """Loads only the verb that is used: the others' imports would be most of the start."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"authproxy.cli.{name}"), name)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not context.resilient_parsing:
            from authproxy.cli.suggest import no_such

            raise no_such("verb", name, VERBS, context=context)
        return super().resolve_command(context, args)

    def shell_complete(self, context: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(name, help=VERBS[name]) for name in VERBS if name.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, context, incomplete)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="authproxy %(version)s")
def authproxy() -> None:
    """Point any tool that cannot authenticate at localhost: authproxy adds the right token."""
    from authproxy.capabilities import keep_memory_private

    if os.environ.get(DUMPABLE) != "1":
        keep_memory_private()  # every verb may come to hold secrets


def main() -> None:
    """Run the command; the one place where errors become exit codes."""
    step_aside()
    gc.set_threshold(STARTS_GARBAGE)
    prepare_output()
    try:
        code = authproxy.main(prog_name="authproxy", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except AuthproxyError as error:
        is_config = isinstance(error, ConfigError)
        click.echo(error.detail if is_config else f"authproxy: {error.detail}", err=True)
        if error.hint:
            click.echo(f"  hint: {error.hint}", err=True)
        sys.exit(2 if is_config else 1)
    except StdoutFault as fault:
        if fault.errno != errno.EPIPE:  # else the reader has had enough, as `head` does
            click.echo(f"authproxy: cannot write the result: {fault.strerror}", err=True)
        give_up_stdout()
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last stop: its text may quote a secret, and is not told
        from authproxy.logs import place_of

        click.echo(f"authproxy: internal error: {place_of(error)}", err=True)
        sys.exit(1)
