"""Which grants there are, each loaded only when somebody names it."""

import subprocess
import sys

import pytest

from authproxy.grants.registry import CLASSES, GRANTS, grant_name
from authproxy.grants.static import Static

from .talk import make


class OfAPreset(Static):
    """A grant that is none by itself."""


def test_each_name_has_a_class_and_each_class_its_name():
    assert list(GRANTS) == list(CLASSES)
    assert len(GRANTS) == len(CLASSES)
    assert "static" in GRANTS
    assert "staticc" not in GRANTS
    assert GRANTS["static"] is Static
    assert [grant_name(object.__new__(GRANTS[name])) for name in GRANTS] == list(GRANTS)
    assert grant_name(make(OfAPreset, token="t")) == "static"
    with pytest.raises(KeyError):
        GRANTS["staticc"]


def test_naming_one_loads_no_other():
    code = (
        "import sys; from authproxy.grants.registry import GRANTS; GRANTS['static'];"
        "others = ('oauth', 'command', 'token_request');"
        "print([name for name in others if f'authproxy.grants.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "[]\n"
