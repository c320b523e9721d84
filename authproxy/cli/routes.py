"""`authproxy routes`: what the configuration comes to."""

import click

from authproxy.cli.options import (
    config_option,
    json_option,
    load_config,
    print_json,
    print_table,
    warning_lines,
)
from authproxy.config.effective import effective


@click.command()
@config_option
@json_option
def routes(*, config_file: str | None, as_json: bool) -> None:
    """Show the effective routes, after presets and defaults; secrets as ••••."""
    config = load_config(config_file)
    found = effective(config)
    for line in warning_lines(config):
        click.echo(line, err=True)
    if as_json:
        print_json(found)
        return
    rows = []
    for route in found:
        auth = route["auth"]
        rest = ", ".join(f"{key}={value}" for key, value in auth.items() if key not in {"grant", "preset"})
        mount = f"{route.get('host') or ''}{route['path']}"
        rows.append([route["name"], mount, route["upstream"], auth.get("preset") or auth["grant"], rest])
    print_table(["NAME", "MOUNTED AT", "UPSTREAM", "AUTH", "SETTINGS"], rows)
