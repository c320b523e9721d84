"""The page on every verb and every option, made of the command line's help."""

from collections.abc import Iterator
from inspect import cleandoc

import click

from authproxy.cli import VERBS, authproxy

HEAD = """\
# Command reference

<!-- Made by `make references`; do not edit. What it says stands in authproxy/cli. -->

`authproxy VERB`, or `python -m authproxy VERB`. Results go to stdout, everything else to stderr. Exit codes:
0 done, also where there was nothing to do; 1 the work failed; 2 bad usage or a faulty configuration. Every
verb takes `-h` and `--help`. More words on the verbs are in [operations](operations.md#verbs).

| verb | does |
|---|---|"""


def commands_page() -> str:
    """Return the page on every verb and every option."""
    return "\n".join(_commands()) + "\n"


def _commands() -> Iterator[str]:
    yield HEAD
    context = click.Context(authproxy, info_name="authproxy", **authproxy.context_settings)
    verbs = authproxy.list_commands(context)
    for verb in verbs:
        yield f"| [`{verb}`](#authproxy-{verb}) | {_escaped(VERBS[verb])} |"
    yield "\nWithout a verb:\n"
    yield from _options(authproxy, context)
    yield from _each(authproxy, context, verbs)


def _each(group: click.Group, context: click.Context, names: list[str]) -> Iterator[str]:
    for name in names:
        command = group.get_command(context, name)
        if command is not None:
            yield from _command(command, click.Context(command, parent=context, info_name=name))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## `{context.command_path}`\n"
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"```text\n{' '.join(usage.split())}\n```\n"
    yield f"{_paragraphs(command.help or '')}\n"
    yield from _options(command, context)
    if isinstance(command, click.Group):
        yield from _each(command, context, command.list_commands(context))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [
        (option, " ".join(meaning.split()))
        for each in command.get_params(context)
        if each.name != "help" and (record := each.get_help_record(context))
        for option, meaning in [record]
        if meaning
    ]
    if not records:
        return
    yield "| option | meaning |\n|---|---|"
    for option, meaning in records:
        yield f"| `{_escaped(option)}` | {_escaped(meaning)} |"
    yield ""


def _paragraphs(text: str) -> str:
    r"""Return a help text as Markdown: what click does not wrap (`\b`) is kept as it is."""
    paragraphs = []
    for each in cleandoc(text).split("\n\n"):
        if each.startswith("\b"):
            paragraphs.append(f"```text\n{each.removeprefix(chr(8)).strip(chr(10))}\n```")
        else:
            paragraphs.append(_escaped(" ".join(each.split())))
    return "\n\n".join(paragraphs)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
