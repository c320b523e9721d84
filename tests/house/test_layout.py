"""Every module has its unit tests where one looks for them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, UNIT = ROOT / "authproxy", ROOT / "tests/unit"
MODULES = sorted(
    path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.stem != "__init__"
)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_unit_test_of_its_name(module):
    path = Path(module)
    assert (UNIT / path.parent / f"test_{path.stem.strip('_')}.py").is_file()
