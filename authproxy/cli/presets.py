"""`authproxy presets` and `authproxy presets show NAME`."""

import click

from authproxy.cli.completing import complete_presets
from authproxy.cli.options import config_option, json_option, print_json, print_table
from authproxy.cli.suggest import no_such
from authproxy.config.presets import presets as all_presets


class _Shows(click.Group):
    """Knows what is meant by `presets up42`."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not context.resilient_parsing:
            if name in all_presets():
                raise click.UsageError(f"to show the preset: authproxy presets show {name}", context)
            raise no_such("verb", name, self.commands, " of presets", context=context)
        return super().resolve_command(context, args)


@click.group(cls=_Shows, invoke_without_command=True)
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
@click.argument("name", shell_complete=complete_presets)
def show(*, name: str) -> None:
    """Print the preset NAME as YAML."""
    known = all_presets()
    if name not in known:
        raise no_such("preset", name, known)
    click.echo(known[name].as_yaml(), nl=False)
