"""The configuration's JSON Schema (draft 2020-12), for editors and for `authproxy schema`.

Made from the same classes that read the file. A string may hold a reference wherever the file is read
from text, so whatever is narrower than a string also takes `${…}`.
"""

from typing import Any

from pydantic import TypeAdapter

from authproxy.config.descriptions import descriptions, mappings_in
from authproxy.config.model import FileKeys
from authproxy.config.presets import Preset, presets
from authproxy.config.route import RouteKeys
from authproxy.grants.registry import GRANTS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANNOTATIONS = ("description", "default", "title", "examples")
REFERENCE = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> dict[str, Any]:
    """Return the schema of the whole file."""
    definitions: dict[str, Any] = {}
    top = _schema_of(FileKeys, definitions)
    route = _schema_of(RouteKeys, definitions)
    grants = {name: _schema_of(kind, definitions) for name, kind in GRANTS.items()}
    auth = {
        "description": "How a token is obtained: by a grant with its keys, or by a preset and the rest.",
        "oneOf": [_grant(name, schema) for name, schema in grants.items()]
        + [_preset(preset, grants[preset.grant]["properties"]) for preset in presets().values()],
    }
    route["properties"]["auth"] = {"$ref": "#/$defs/auth"}
    # `defaults` may bring any key but the name.
    route |= {"required": ["name"], "description": "One upstream and the credential for it."}
    top["properties"] |= {
        "defaults": {"$ref": "#/$defs/defaults"},
        "routes": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/route"}},
    }
    top["properties"]["routes"]["description"] = "Where requests go; the longest match wins."
    top["required"] = ["routes"]
    definitions |= {"auth": auth, "route": route}
    definitions["defaults"] = {key: value for key, value in route.items() if key != "required"} | {
        "description": "Keys for every route that does not have them itself."
    }
    head = {"$schema": DIALECT, "title": "authproxy configuration"}
    loosened: dict[str, Any] = _with_references(top | {"$defs": definitions})
    return head | loosened


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema()
    found = schema.pop("$defs", {})
    for each in mappings_in(kind):
        said = descriptions(each)
        properties = (schema if each is kind else found[each.__name__])["properties"]
        for name in properties.keys() & said.keys():
            properties[name] |= said[name].as_schema()
    definitions |= found
    return schema


def _grant(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {
        "title": f"grant: {name}",
        "properties": {"grant": {"const": name}} | schema["properties"],
        "required": ["grant", *schema.get("required", [])],
    }


def _preset(preset: Preset, keys: dict[str, Any]) -> dict[str, Any]:
    # A mapping is laid over the preset's, so it may be incomplete; null takes away what the preset brings.
    theirs = keys | {
        name: {
            **{key: keys[name][key] for key in ("description", "examples") if key in keys[name]},
            "anyOf": [
                {"type": "object"} if isinstance(preset.auth[name], dict) else keys[name],
                {"type": "null"},
            ],
        }
        for name in keys
        if name in preset.auth
    }
    own = {
        name: {
            "description": key.help,
            "anyOf": [{"type": "string"}, *([theirs[name]] if name in theirs else [])],
        }
        for name, key in preset.keys.items()
    }
    return {
        "title": f"preset: {preset.name}",
        "description": preset.title,
        "type": "object",
        "additionalProperties": False,
        "properties": {"preset": {"const": preset.name}} | theirs | own,
        "required": ["preset"],
    }


def _with_references(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_references(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")  # a mapping, among properties of which one is named so
    narrow = kind in ("integer", "number", "boolean") or (
        kind == "string" and {"enum", "pattern"} & schema.keys()
    )
    if narrow and schema != REFERENCE:
        said = {key: schema[key] for key in ANNOTATIONS if key in schema}
        checked = {key: value for key, value in schema.items() if key not in said}
        return said | {"anyOf": [checked, dict(REFERENCE)]}
    return {key: _with_references(each) for key, each in schema.items()}
