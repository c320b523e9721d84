"""`authproxy completion SHELL`: what a shell needs to complete verbs, options, routes and presets."""

import click

from authproxy.cli.options import config_option

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@config_option
def completion(*, shell: str, config_file: str | None) -> None:  # noqa: ARG001 - every verb takes -c
    """Print the completion script of SHELL.

    \b
    bash  eval "$(authproxy completion bash)"     in ~/.bashrc
    zsh   eval "$(authproxy completion zsh)"      in ~/.zshrc, after compinit
    fish  authproxy completion fish > ~/.config/fish/completions/authproxy.fish
    """  # noqa: D301 - click takes a backspace for "keep these lines"
    click.echo(script(shell))


def script(shell: str) -> str:
    """Return the script for `shell`."""
    from click.shell_completion import ShellComplete, get_completion_class

    from authproxy.cli import authproxy

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    made = kind(authproxy, {}, "authproxy", "_AUTHPROXY_COMPLETE")
    return ShellComplete.source(made)  # bash's own would start a bash to see how old it is
