"""From a route's `auth` to the grant it describes.

auth ─┬─ grant: NAME ────────────────────────┬── the grant's keys ── Grant
      └─ preset: NAME ── template filled in ─┘
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authproxy.config.document import Item
from authproxy.config.validation import Validation
from authproxy.grants.grant import Grant
from authproxy.grants.inject import ONE_HEADER
from authproxy.grants.registry import GRANTS
from authproxy.masking import masked

if TYPE_CHECKING:
    from authproxy.config.presets import Preset


NEITHER = "needs `grant` or `preset`: `authproxy presets` lists the presets; the grants are " + ", ".join(
    GRANTS
)


@dataclass(frozen=True, slots=True)
class Auth:
    """An `auth` that has been made into a grant; `item` is what the grant was made from."""

    grant: Grant
    item: Item
    name: str
    preset: "Preset | None"

    def shown(self) -> dict[str, object]:
        """Return the grant's settings, those masked that are secret or came from a reference."""
        head: dict[str, object] = {"preset": self.preset.name} if self.preset else {}
        shown: dict[str, object] = head | {"grant": self.name} | masked(self.grant, self.item)
        response: object = getattr(self.grant, "response", None)
        if response is not None and response == type(response)():  # nobody said anything about it
            del shown["response"]
        if self.grant.inject is not None:
            shown = {key: value for key, value in shown.items() if key not in ONE_HEADER}
        return shown


def read_auth(auth: Item, base: str, validation: Validation) -> Auth | None:
    """Return the grant behind `auth`, or None when it has faults; `base` is the route's upstream."""
    if not isinstance(auth.value, dict):
        validation.faults.append(auth.fault(_no_mapping(auth)))
        return None
    grant, preset = auth.child("grant"), auth.child("preset")
    if grant is not None and preset is not None:
        message = "takes `grant` or `preset`, not both: a preset brings its grant; remove one of them"
        validation.faults.append(auth.fault(message))
        return None
    if grant is not None:
        return _from_grant(auth, grant, None, validation)
    if preset is not None:
        return _from_preset(auth, preset, base, validation)
    validation.faults.append(auth.fault(NEITHER))
    return None


def _no_mapping(auth: Item) -> str:
    """Return what to say of an `auth` that is a name, or a list."""
    from authproxy.config.presets import presets

    if isinstance(auth.value, str) and auth.value in GRANTS:
        return f"should be a mapping: write `auth: {{grant: {auth.value}}}`, and its keys"
    if isinstance(auth.value, str) and auth.value in presets():
        return f"should be a mapping: write `auth: {{preset: {auth.value}}}`, and its keys"
    return "should be a mapping: `grant` or `preset`, and its keys, such as {grant: none}"


def _from_preset(auth: Item, name: Item, base: str, validation: Validation) -> Auth | None:
    from authproxy.config.presets import presets

    known = presets()
    if not isinstance(name.value, str) or name.value not in known:
        from authproxy.config.meant import unknown_preset

        validation.faults.append(name.fault(unknown_preset(name.value, known)))
        return None
    preset = known[name.value]
    expanded, lacking = preset.expand(auth, base.rstrip("/"))
    if not lacking:
        return _from_grant(expanded, expanded.value["grant"], preset, validation)
    from authproxy.config.meant import UNKNOWN_KEY

    # What the preset lacks hides nothing else but itself: a key that is misspelt is often the reason.
    others = Validation(validation.directory)
    _from_grant(expanded, expanded.value["grant"], preset, others)
    validation.faults += lacking + [each for each in others.faults if UNKNOWN_KEY in each.message]
    return None


def _from_grant(auth: Item, name: Item, preset: "Preset | None", validation: Validation) -> Auth | None:
    if not isinstance(name.value, str) or name.value not in GRANTS:
        from authproxy.config.meant import unknown_grant
        from authproxy.config.presets import presets

        validation.faults.append(name.fault(unknown_grant(name.value, presets())))
        return None
    one = next((auth.child(key) for key in ("header", "scheme") if auth.child(key) is not None), None)
    if one is not None and auth.child("inject") is not None:
        validation.faults.append(one.key_fault("does not go with `inject`, which says where the token goes"))
        return None
    known = ("preset", *(preset.keys if preset else ()))
    grant = validation.make(GRANTS[name.value], auth, "grant", known=known)
    return Auth(grant, auth, name.value, preset) if grant is not None else None
