"""`authproxy schema`: for editors that check and complete YAML."""

import click

from authproxy.cli.options import config_option, print_json
from authproxy.config.json_schema import json_schema


@click.command()
@config_option
def schema(*, config_file: str | None) -> None:  # noqa: ARG001 - every verb takes -c
    """Print the configuration's JSON Schema."""
    print_json(json_schema())
