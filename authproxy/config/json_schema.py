"""The configuration's JSON Schema (draft 2020-12), for editors and for `authproxy schema`.

Made from the same classes that read the file. A string may hold a reference wherever the file is read
from text, so whatever is narrower than a string also takes `${…}`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter

from authproxy.config.model import FileKeys
from authproxy.config.presets import Preset, presets
from authproxy.config.route import KEYS, RouteKeys
from authproxy.grants import GRANTS
from authproxy.grants.grant import Grant

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = {"type": "string", "pattern": r"\$\{"}

AUTH_KEYS = {
    "scheme": 'The authentication scheme before the token; "" sends the bare token.',
    "header": "The header that carries the token.",
    "incoming": "What to do with a request that already has that header.",
    "refresh_before": "How long before its end a token is renewed in the background; auto is a fifth of its "
    "lifetime, a minute at most.",
    "default_lifetime": "How long a token lasts if the server does not say.",
    "hints": "What to tell the user when the token endpoint answers a status, or with a text in its body.",
    "token": "The token, as it was issued.",
    "username": "The user's name.",
    "password": "The user's password.",
    "token_url": "The token endpoint.",
    "client_id": "The client's ID.",
    "client_secret": "The client's secret.",
    "issuer": "The authorization server, which publishes its endpoints; instead of them.",
    "client_auth": "How the client authenticates.",
    "key": "The private key that assertions are signed with: PEM or a JWK.",
    "key_id": "The key's ID (kid), as the server knows it.",
    "algorithm": "The signature algorithm; by default one that suits the key.",
    "audience_claim": "The audience (aud) of signed assertions; by default the issuer or the token endpoint.",
    "assertion_lifetime": "How long signed assertions last; four minutes by default.",
    "clock_skew": "How far signed assertions are backdated, for servers whose clock is behind.",
    "cert_file": "The client's certificate, PEM.",
    "key_file": "Its private key, PEM, if it is in a separate file.",
    "scope": "The scopes to ask for, as one string or a list.",
    "audience": "The audience to ask for, or a list of them.",
    "resource": "The resources to ask for (RFC 8707).",
    "params": "Further request parameters.",
    "params_in": "Whether parameters are sent in the body or the query.",
    "headers": "Further headers of the token request.",
    "response": "Where the reply has the token and the rest: JSON Pointers (RFC 6901).",
    "refresh_token": "A refresh token that was obtained elsewhere.",
    "authorization_url": "The authorization endpoint, where the user logs in.",
    "redirect_uri": "Where the browser is redirected to; by default a listener on this machine.",
    "authorization_params": "Further parameters of the authorization URL.",
    "silent": "Ask for the code without a browser, from a server that redirects back at once.",
    "device_authorization_url": "The device authorization endpoint, for a login on another device.",
    "issuer_claim": "The issuer (iss) of the assertion; the client's ID by default.",
    "subject": "The subject (sub) of the assertion; its issuer by default.",
    "claims": "Further claims of the assertion.",
    "assertion": "An assertion that was signed elsewhere, instead of key.",
    "subject_token": "The token to exchange.",
    "subject_token_type": "Its type: access_token, id_token, jwt or another one of RFC 8693.",
    "actor_token": "The token of the party that acts for the subject.",
    "actor_token_type": "Its type.",
    "requested_token_type": "The type of token to ask for.",
    "url": "The login endpoint.",
    "method": "The method of the login request.",
    "query": "Parameters in the query.",
    "form": "Parameters as a form in the body.",
    "json": "The body, as JSON.",
    "basic": "The user name and password, sent as Basic.",
    "totp": "The second factor: the header, and a secret or a single code.",
    "command": "A program that prints the token, and its arguments.",
    "path": "A file that contains the token.",
}


def json_schema() -> dict[str, Any]:
    """Return the schema of the whole file."""
    definitions: dict[str, Any] = {}
    with _described():
        top = _schema_of(FileKeys, definitions)
        route = _schema_of(RouteKeys, definitions)
    auth = {
        "description": "How a token is obtained: by a grant with its keys, or by a preset and the rest.",
        "oneOf": [_grant(name, definitions) for name in GRANTS]
        + [_preset(preset, definitions) for preset in presets().values()],
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


def description(kind: Any, name: str) -> str | None:
    """Return what a key of `kind` is, for a sentence; None for one that nobody describes."""
    if isinstance(kind, type) and issubclass(kind, Grant):
        said = AUTH_KEYS.get(name)
    else:
        with _described():
            said = TypeAdapter(kind).json_schema()["properties"].get(name, {}).get("description")
    return said[:1].lower() + said[1:].rstrip(".").replace("\n", " ") if said else None


@contextmanager
def _described() -> Iterator[None]:
    """Have keys described by what stands below them: pydantic reads the sources, for which no start waits."""
    KEYS["use_attribute_docstrings"] = True
    try:
        yield
    finally:
        del KEYS["use_attribute_docstrings"]


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema()
    definitions |= schema.pop("$defs", {})
    return schema


def _grant(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _schema_of(GRANTS[name], definitions)
    _describe(schema["properties"])
    schema["title"] = f"grant: {name}"
    schema["properties"] = {"grant": {"const": name}} | schema["properties"]
    schema["required"] = ["grant", *schema.get("required", [])]
    return schema


def _preset(preset: Preset, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _schema_of(GRANTS[preset.grant], definitions)
    keys = schema["properties"]
    _describe(keys)
    # A mapping is laid over the preset's, so it may be incomplete; null takes away what the preset brings.
    theirs = keys | {
        name: {
            "description": keys[name]["description"],
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


def _describe(properties: dict[str, Any]) -> None:
    for name, schema in properties.items():
        schema["description"] = AUTH_KEYS[name]


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
        said = {key: schema[key] for key in ("description", "default", "title") if key in schema}
        checked = {key: value for key, value in schema.items() if key not in said}
        return said | {"anyOf": [checked, dict(REFERENCE)]}
    return {key: _with_references(each) for key, each in schema.items()}
