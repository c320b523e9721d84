"""`authproxy presets` and `authproxy presets show NAME`."""

import click

from authproxy.cli.options import config_option, did_you_mean, json_option, print_json, print_table
from authproxy.config.presets import presets as all_presets


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def presets(context: click.Context, *, config_file: str | None, as_json: bool) -> None:  # noqa: ARG001 - every verb takes -c
    """List the presets; `presets show NAME` prints one as YAML."""
    if context.invoked_subcommand is not None:
        return
    found = all_presets().values()
    if as_json:
        print_json([{"name": each.name, "title": each.title, "grant": each.grant} for each in found])
    else:
        print_table(["NAME", "GRANT", "FOR"], [[each.name, each.grant, each.title] for each in found])


@presets.command()
@click.argument("name")
def show(*, name: str) -> None:
    """Print the preset NAME as YAML."""
    known = all_presets()
    if name not in known:
        raise click.UsageError(f"there is no preset {name!r}{did_you_mean(name, list(known))}")
    click.echo(known[name].as_yaml(), nl=False)
