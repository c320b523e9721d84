from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import pytest

from authproxy.config.descriptions import Description, descriptions, mappings_in


@dataclass
class Inner:
    deep: int = 0
    """How deep."""


@dataclass
class Base:
    kept: str = ""
    """Kept as it
    is. Example: [a, b]"""
    changed: str = ""
    """Of the base."""
    bare: str = ""


@dataclass
class Derived(Base):
    changed: str = "x"
    """Of its own. Example: "7" """
    inner: Annotated[Inner | None, "noted"] = None
    """A mapping."""
    many: tuple[Inner, ...] = field(default_factory=tuple)


def test_what_stands_below_a_field_is_its_description():
    assert descriptions(Base)["kept"] == Description("Kept as it is.", "[a, b]")


def test_a_field_without_one_has_none():
    assert "bare" not in descriptions(Base)


def test_a_field_that_is_declared_again_is_described_again():
    said = descriptions(Derived)
    assert said["changed"].text == "Of its own."
    assert said["kept"] == descriptions(Base)["kept"]


@pytest.mark.parametrize(
    ("said", "schema"),
    [
        (Description("Bare."), {"description": "Bare."}),
        (Description("A list.", "[a, b]"), {"description": "A list.", "examples": [["a", "b"]]}),
        (Description("Text.", '"7"'), {"description": "Text.", "examples": ["7"]}),
    ],
)
def test_an_example_is_yaml(said, schema):
    assert said.as_schema() == schema


def test_mappings_are_found_wherever_a_field_holds_them():
    assert list(mappings_in(Derived)) == [Derived, Inner]


def test_what_is_made_at_run_time_has_no_source_and_no_description():
    scope: dict = {"dataclass": dataclass, "ClassVar": ClassVar, "__name__": "nowhere"}
    exec("@dataclass\nclass Made:\n    a: int = 0\n    'Said.'", scope)
    assert descriptions(scope["Made"]) == {}
