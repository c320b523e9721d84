"""How programs are run, and what a root is called in stores."""

import sys

import pytest

from authproxy.app.trust.store import NotChanged, Said, must, run_program
from tests.unit.app.trust.programs import new_root


def test_a_program_is_run_to_its_end_without_a_shell():
    said = run_program([sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(3)", "$HOME; ls"])
    assert said == Said(3, "$HOME; ls")


def test_a_failure_is_told_with_the_last_line_that_was_said():
    must(Said(0, "fine"), ["x"])
    with pytest.raises(NotChanged, match=r"^x y failed with exit code 1: the last$"):
        must(Said(1, "the first\nthe last"), ["x", "y"])
    with pytest.raises(NotChanged, match="failed with exit code 2: "):
        must(Said(2, ""), ["x"])


def test_a_program_that_is_not_there_is_told():
    with pytest.raises(NotChanged, match="cannot be run: FileNotFoundError"):
        run_program(["/no/such/program"])


def test_every_root_has_a_name_of_its_own(tmp_path):
    one, other = new_root(tmp_path), new_root(tmp_path)
    assert one.mark != other.mark
    assert one.mark == f"authproxy-{one.sha1[:12]}"
