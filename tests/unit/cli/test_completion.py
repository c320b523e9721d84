"""`authproxy completion`."""

import pytest

from authproxy.cli.completion import SHELLS, script


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_asks_the_command(run, shell):
    assert run("completion", shell).stdout == f"{script(shell)}\n"
    assert f"_AUTHPROXY_COMPLETE={shell}_complete" in script(shell)


def test_the_help_keeps_the_lines_that_are_to_be_copied(run):
    lines = run("completion", "--help").stdout.splitlines()
    assert '  bash  eval "$(authproxy completion bash)"     in ~/.bashrc' in lines


def test_another_shell_is_told_those_there_are(run):
    assert "'bash', 'zsh', 'fish'" in run("completion", "csh", exits=2).stderr
