"""The page on every key of the configuration, made of its JSON Schema."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any

import yaml

from authproxy.config.descriptions import descriptions
from authproxy.config.json_schema import REFERENCE, json_schema
from authproxy.config.presets import presets
from authproxy.grants.grant import Grant
from authproxy.grants.oauth import OAuthGrant
from authproxy.grants.registry import GRANTS

HEAD = """\
# Configuration reference

<!-- Made by `make references`; do not edit. What it says stands in authproxy/config and authproxy/grants. -->

Every key, with its type, its default and an example. How keys work together is told in
[configuration](configuration.md), which also has the [values](configuration.md#values) and the
[references](configuration.md#references) to variables, files and keyrings. A *secret* is a string that is
masked wherever it is shown; write it as a reference.

`authproxy schema` prints the same as a JSON Schema, for editors.
"""
OAUTH = """\
### OAuth keys

Keys of `client_credentials`, `password`, `refresh_token`, `authorization_code`, `device_code`, `jwt_bearer`
and `token_exchange`.
"""
PRESETS = """\
### Presets

What each puts on the wire, and where its values are found: [presets](presets.md). `?` marks what may be left
out.

| `preset` | for | grant | keys of its own |
|---|---|---|---|"""

UNITS = {
    "duration": ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"), (0.001, "ms")),
    "size": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")),
}
FORMATS = {"uri": "URL", "path": "file", "password": "secret"}
NAMES = {
    "string": "string", "integer": "number", "number": "number", "boolean": "`true` or `false`",
    "object": "mapping",
}  # fmt: skip
PATTERNS = {"ms|s|m|h|d": "duration", "KiB|MiB": "size"}
TOP = {
    "access": "Access",
    "admin": "Admin",
    "limits": "Limits",
    "log": "Log",
    "tls` of the listener": "ListenerTLS",
    "forward": "Forward",
    "ca` of `forward": "ForwardCA",
}
ROUTE = {
    "headers`, `response_headers": "HeaderRules", "allow": "AllowKeys", "retry": "Retry",
    "timeouts": "Timeouts", "rewrite": "Rewrite",
    "stand_in": "StandIn", "inspect": "Inspect", "tls` of a route": "TLSSettings",
}  # fmt: skip
"""Headings, and the definitions that hold the keys under them; those under `auth` are found."""
WITHIN = {"basic` of `inject": "BasicPlace", "token` of `response": "TokenPlace"}
"""The same of mappings in those under `auth`."""
SAME = {"LoginPointers": "ReplyPointers", "CommandPointers": "ReplyPointers", "defaults": "route"} | {
    f"{kind}StoreSettings": "token_store" for kind in ("Memory", "File", "Redis")
}
"""Definitions whose keys stand under the heading of another one."""

Schema = dict[str, Any]

REQUIRED = {"upstream", "auth"}
"""Required of a route, though `defaults` may bring them."""
OTHERWISE: Schema = {
    "defaults": {
        "description": "Keys for every route that does not have them itself. Mappings are merged one level "
        "deep; lists, and `auth`, are replaced.",
        "examples": [{"timeouts": {"connect": "5s"}}],
    },
    "auth": {
        "description": "How a token is obtained; see [below](#auth).",
        "examples": [{"grant": "static", "token": "${API_TOKEN}"}],
    },
    "routes": {
        "examples": [[{"name": "api", "upstream": "https://api.example.com", "auth": {"grant": "none"}}]]
    },
}
"""What the schema says elsewhere, or not at all."""


def configuration_page() -> str:
    """Return the page on every key of the configuration."""
    schema = json_schema()
    return "\n".join(_configuration(schema, schema["$defs"])) + "\n"


def _configuration(schema: Schema, definitions: Schema) -> Iterator[str]:
    yield HEAD
    yield "## Top level\n"
    yield from _table(schema)
    yield from _mappings(TOP, definitions)
    yield from _stores(definitions)
    yield "## Routes\n"
    yield "Each item of `routes`; `defaults` takes the same keys, but for `name`.\n"
    yield from _table(definitions["route"])
    yield from _mappings(ROUTE, definitions)
    yield from _auth(definitions)


def _stores(definitions: Schema) -> Iterator[str]:
    yield "### `token_store`\n"
    for kind in ("memory", "file", "redis"):
        store = definitions[f"{kind.capitalize()}StoreSettings"]
        said = store["description"]
        yield f"`type: {kind}`: {said[0].lower()}{said[1:]}\n"
        yield from _table(store, [name for name in store["properties"] if name != "type"])


def _auth(definitions: Schema) -> Iterator[str]:
    grants = {each["title"]: each for each in definitions["auth"]["oneOf"]}
    common = grants["grant: client_credentials"]
    general, oauth = _declared(Grant), _declared(OAuthGrant)
    yield "## `auth`\n"
    yield f"{definitions['auth']['description']} Keys of every grant and every preset:\n"
    yield from _table(common, general)
    yield OAUTH
    yield from _table(common, [name for name in oauth if name not in general])
    for name, kind in GRANTS.items():
        yield from _grant(name, grants[f"grant: {name}"], oauth if issubclass(kind, OAuthGrant) else general)
    yield from _mappings(_parts_of_auth() | WITHIN, definitions)
    yield PRESETS
    for preset in presets().values():
        keys = ", ".join(f"`{key}`{'' if about.required else '?'}" for key, about in preset.keys.items())
        yield f"| [`{preset.name}`](presets.md#{preset.name}) | {preset.title} | `{preset.grant}` | {keys} |"


def _grant(name: str, schema: Schema, shared: list[str]) -> Iterator[str]:
    own = [key for key in schema["properties"] if key not in {"grant", *shared}]
    yield f"### `grant: {name}`\n"
    yield f"{schema['description']}\n"
    if "token_url" in shared:
        yield "The [OAuth keys](#oauth-keys), and:\n" if own else "The [OAuth keys](#oauth-keys).\n"
    yield from _table(schema, own)


def _declared(kind: type[Grant]) -> list[str]:
    """Return the keys of a grant, inherited ones included, in the order in which they are declared."""
    names = {field.name for field in fields(kind)}
    return [name for name in descriptions(kind) if name in names]


def _mappings(headings: dict[str, str], definitions: Schema) -> Iterator[str]:
    for heading, title in headings.items():
        schema = definitions[title]
        yield f"### {_quoted(heading)}\n"
        yield f"{schema['description']}\n"
        yield from _table(schema)


def _quoted(heading: str) -> str:
    return f"`{heading}" if heading.count("`") == 1 else f"`{heading}`"


def _table(schema: Schema, names: list[str] | None = None) -> Iterator[str]:
    names = list(schema["properties"]) if names is None else names
    if not names:
        return
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    for name in names:
        yield _row(name, schema["properties"][name], is_required=name in schema.get("required", []))
    yield ""


def _row(name: str, schema: Schema, *, is_required: bool) -> str:
    kind = type_of(schema)
    default = "required" if is_required or name in REQUIRED else _default(schema, kind)
    said = OTHERWISE.get(name, {}) | schema
    example = _example(name, said)
    return f"| `{name}` | {kind} | {default} | {said['description']}{f'<br>`{example}`' if example else ''} |"


def _example(name: str, schema: Schema) -> str | None:
    """Return `name: value`, as it is written in a file."""
    if not schema.get("examples"):
        return None
    value = schema["examples"][0]
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000, allow_unicode=True)
    return f"{name}: {text.removesuffix('...' + chr(10)).strip()}".replace("'", '"').replace("|", "\\|")


def type_of(schema: Schema) -> str:
    """Return the type as people write it: `duration`, `list of strings`, `one of …`."""
    found = list(dict.fromkeys(_kinds(schema)))
    for unit in UNITS:
        if unit in found and "number" in found:
            found.remove("number")
    return (", " if found[0].startswith("`") and len(found) > 2 else " or ").join(found)


def _kinds(schema: Schema) -> Iterator[str]:
    alternatives: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    for each in alternatives:
        yield from _kinds(each)
    if "$ref" in schema:
        yield f"[mapping](#{_anchor(schema['$ref'].rpartition('/')[2])})"
    elif "const" in schema:
        yield "`false`" if schema["const"] is False else f"`{schema['const']}`"
    elif "enum" in schema:
        yield from (f"`{each}`" for each in schema["enum"])
    elif schema.get("type") == "array":
        yield f"list of {_plural(type_of(schema['items']))}"
    elif not alternatives:
        yield from _plain_kind(schema)


def _plain_kind(schema: Schema) -> Iterator[str]:
    pattern = schema.get("pattern", "")
    if schema.get("type") == "null" or pattern == REFERENCE["pattern"]:
        return
    by_pattern = (kind for part, kind in PATTERNS.items() if part in pattern)
    yield next(
        by_pattern, FORMATS.get(schema.get("format", "")) or NAMES.get(schema.get("type", ""), "anything")
    )


def _anchor(definition: str) -> str:
    """Return where the keys of a definition stand, as GitHub and the site make an anchor of a heading."""
    definition = SAME.get(definition, definition)
    headings = {
        title: heading for part in (TOP, ROUTE, _parts_of_auth(), WITHIN) for heading, title in part.items()
    }
    heading = headings.get(definition, {"route": "routes"}.get(definition, definition))
    return heading.replace("`", "").replace(",", "").replace(" ", "-")


@cache
def _parts_of_auth() -> dict[str, str]:
    """Return the mappings under `auth`: their keys, and the definitions of what they hold."""
    found: dict[str, str] = {}
    for grant in json_schema()["$defs"]["auth"]["oneOf"][: len(GRANTS)]:
        for name, key in grant["properties"].items():
            for definition in re.findall(r'"#/\$defs/(\w+)"', json.dumps(key)):
                if definition not in {*SAME, *ROUTE.values()}:
                    found.setdefault(name, definition)
    return found


def _plural(kind: str) -> str:
    return kind.replace("[mapping]", "[mappings]") if kind.startswith("[") else f"{kind}s"


def _default(schema: Schema, kind: str) -> str:
    value = schema.get("default", "")
    if value is None:
        is_told = "by default" in schema["description"].lower()
        return "" if is_told else "`none`" if kind.endswith("or `none`") else "none"
    for unit, parts in UNITS.items():
        if unit in kind and isinstance(value, int | float):
            return f"`{_with_unit(value, parts)}`"
    if isinstance(value, list):
        return ", ".join(f"`{each}`" for each in value) or "none"
    return "" if "default" not in schema else f"`{yaml.safe_dump(value).splitlines()[0]}`"


def _with_unit(value: float, units: tuple[tuple[float, str], ...]) -> str:
    return next(
        (f"{value / size:g}{unit}" for size, unit in units if value >= size and value % size == 0),
        f"{value:g}",
    )
