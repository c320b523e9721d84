"""From Items to the dataclasses of the schema: values checked, texts judged, every fault collected."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from authproxy.config.document import Item, plain, scalars
from authproxy.config.texts import judge
from authproxy.config.traps import OCTAL
from authproxy.errors import Fault
from authproxy.masking import Leaf, leaves

NOT_OCTAL = f"should not begin with 0: {OCTAL}"

Kind = TypeVar("Kind")


class Validation:
    """Makes dataclasses of Items. `faults` is what is wrong with them, `warnings` what is only odd.

    `secrets` is what the schema calls secret, and what could not be made anything of. Relative paths start
    from `directory`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.secrets: list[Leaf] = []

    def make(self, kind: type[Kind], item: Item, *besides: str, known: Collection[str] = ()) -> Kind | None:
        """Return the `kind` that `item` describes, its keys `besides` left out; None if it has faults.

        `known` are keys that would be no surprise there either.
        """
        own = item.without(*besides)
        try:
            made: Kind = _adapter(cast("Any", kind)).validate_python(
                plain(own), context={"directory": self.directory}
            )
        except ValidationError as error:
            from authproxy.config.faults import faults_of

            self.faults += faults_of(error, own, kind, {*besides, *known})
            self.secrets += [Leaf(each.value, place=each) for each in scalars(own)]
            return None
        self.faults += [each.fault(NOT_OCTAL) for each in scalars(own) if each.trap == OCTAL]
        found_in = leaves(made, item)
        self.secrets += [leaf for leaf in found_in if leaf.is_declared_secret and leaf.place]
        found = judge(found_in)
        self.faults += found.faults
        self.warnings += found.warnings
        return made


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
