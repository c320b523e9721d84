"""Variables, written for each shell. That shells read them so, tests/live/test_env.py tries."""

import pytest

from authproxy.cli.shells import SHELLS, settable
from authproxy.errors import AuthproxyError


@pytest.mark.parametrize(
    ("shell", "value", "line"),
    [
        ("sh", "plain", "export A=plain"),
        ("sh", "", "export A=''"),
        ("sh", "it's $x\r\n", "export A='it'\"'\"'s $x\r\n'"),
        ("fish", "it's \\ $x", r"set -gx A 'it\'s \\ $x'"),
        ("powershell", "it's ‘so’ $x", "${env:A} = 'it''s ‘‘so’’ $x'"),  # noqa: RUF001 - quotes there
        ("dotenv", "plain", "A=plain"),
        ("dotenv", "a\\b", "A=a\\b"),
        ("dotenv", "two words", "A='two words'"),
        ("dotenv", "$x #y\nz", "A='$x #y\nz'"),
        ("dotenv", "it's", 'A="it\'s"'),
    ],
)
def test_a_value_is_quoted_as_the_shell_wants_it(shell, value, line):
    assert SHELLS[shell]("A", value) == line


@pytest.mark.parametrize("value", ["'\"", "'$x", "'\\", "'\n", "two words \\", "${x}"])
def test_what_files_of_variables_are_not_agreed_on_is_refused(value):
    with pytest.raises(AuthproxyError, match="the value of A cannot be written"):
        SHELLS["dotenv"]("A", value)


def test_a_name_that_begins_with_a_digit_is_none_for_some():
    assert {shell for shell in SHELLS if settable("42_URL", shell)} == {"powershell", "dotenv"}
    assert all(settable("_A42", shell) for shell in SHELLS)
