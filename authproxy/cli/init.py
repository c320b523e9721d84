"""`authproxy init [PRESET …]`: a configuration to begin with. It asks nothing."""

import os
import shlex
from pathlib import Path

import click

from authproxy.cli.completing import complete_presets
from authproxy.cli.options import config_option
from authproxy.cli.suggest import no_such
from authproxy.config.presets import presets
from authproxy.config.starter import SCHEMA_COMMAND, SCHEMA_FILE, Starter, starter
from authproxy.errors import AuthproxyError

HERE = "authproxy.yaml"
STDOUT = "-"
OURS = 0o600  # whoever writes a secret into it later has not shown it to everybody


class NotWritten(AuthproxyError):
    """The file is there already, or cannot be made."""


@click.command()
@click.argument("names", metavar="[PRESET]...", nargs=-1, shell_complete=complete_presets)
@config_option
def init(*, names: tuple[str, ...], config_file: str | None) -> None:
    """Write a commented starter configuration, with a route for each PRESET.

    It goes to the FILE of -c, else to that of $AUTHPROXY_CONFIG, else to ./authproxy.yaml; -c - prints it. An
    existing file is left alone.
    """
    known = presets()
    for name in names:
        if name not in known:
            raise no_such("preset", name, known)
    made = starter([known[name] for name in dict.fromkeys(names)])
    file = config_file or os.environ.get("AUTHPROXY_CONFIG") or HERE
    if file == STDOUT:
        click.echo(made.text, nl=False)
        return
    _write(_path(file), made.text)
    click.echo(f"wrote {file}")
    for line in _next_steps(made, file if config_file else None):
        click.echo(line, err=True)


def _path(file: str) -> Path:
    try:
        return Path(file).expanduser()
    except RuntimeError:
        raise NotWritten(f"{file} names a home directory (~) that does not exist") from None


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OURS)
    except FileExistsError:
        raise NotWritten(
            f"{path} already exists, and was left as it is",
            hint="write another one with -c FILE, or print it with -c -",
        ) from None
    except FileNotFoundError:
        raise NotWritten(
            f"{path} cannot be written: there is no directory {path.parent}", hint=f"mkdir -p {path.parent}"
        ) from None
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def _next_steps(made: Starter, file: str | None) -> list[str]:
    """Return what is left to do; `file` is what has to be named to the other verbs."""
    option = f" -c {shlex.quote(file)}" if file else ""
    schema = SCHEMA_COMMAND
    if file and (directory := os.path.dirname(file)):  # noqa: PTH120 - as it was typed
        schema = f"authproxy schema > {shlex.quote(os.path.join(directory, SCHEMA_FILE))}"  # noqa: PTH118
    settings = " ".join(f"{name}=…" for name in made.variables)
    return [
        "next:",
        *([f"  export {settings}"] if settings else []),
        f"  authproxy check{option} && authproxy run{option}",
        "for an editor that completes and checks it:",
        f"  {schema}",
    ]
