"""The configuration that somebody begins with: a route a preset, and where each value is found.

Pure text. What is secret is only ever named, as a variable of the environment or a file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from authproxy.config.presets import Preset, PresetKey

SCHEMA_FILE = "authproxy.schema.json"
SCHEMA_COMMAND = f"authproxy schema > {SCHEMA_FILE}"

HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# Editors check and complete this file by that schema, once you have run:
#   {SCHEMA_COMMAND}
#
# authproxy check   says what is wrong here, or missing
# authproxy run     serves it, and says which URL to call
#
# ${{NAME}} is an environment variable. ${{file:PATH}}, ${{keyring:SERVICE/USER}} and ${{command:PROGRAM}}
# work in its place. Write $$ for a dollar sign.

# listen: 127.0.0.1:8080            # where your programs call
# admin: {{listen: 127.0.0.1:8081}}   # health, metrics, and what was done to each request

routes:
"""

GENERAL = """\
  # An API that wants OAuth 2.0: the proxy gets a token as a client of its own.
  # http://127.0.0.1:8080/example/x becomes https://api.example.com/x
  - name: example
    path: /example
    upstream: https://api.example.com
    auth:
      grant: client_credentials
      token_url: https://auth.example.com/oauth/token
      client_id: "${EXAMPLE_CLIENT_ID}"
      client_secret: "${EXAMPLE_CLIENT_SECRET}"
      # scope: read write

  # A token that does not change, under any scheme or header:
  # - name: fixed
  #   path: /fixed
  #   upstream: https://api.example.org
  #   auth: {grant: static, token: "${FIXED_TOKEN}"}

  # A system that authproxy knows; `authproxy presets` lists them, `authproxy init NAME` writes one out:
  # - name: up42
  #   path: /up42
  #   upstream: https://api.sa.up42.com
  #   auth: {preset: up42, username: "${UP42_USERNAME}", password: "${UP42_PASSWORD}"}
"""

_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Starter:
    """A configuration's text, and the variables that it takes from the environment."""

    text: str

    @property
    def variables(self) -> list[str]:
        """The variables of what is not a comment, in their order."""
        lines = (line for line in self.text.splitlines() if not line.lstrip().startswith("#"))
        return list(dict.fromkeys(name for line in lines for name in _VARIABLE.findall(line)))


def starter(presets: Sequence[Preset] = ()) -> Starter:
    """Return a configuration with a route for each of `presets`; without any, a general one."""
    if not presets:
        return Starter(HEAD + GENERAL)
    shorts = [_short(preset) for preset in presets]
    names = [
        short if shorts.count(short) == 1 else preset.name
        for preset, short in zip(presets, shorts, strict=True)
    ]
    blocks = [_route(preset, name) for preset, name in zip(presets, names, strict=True)]
    return Starter(HEAD + "\n".join(blocks))


def _short(preset: Preset) -> str:
    return preset.short or preset.name.partition("-")[0]


def _route(preset: Preset, name: str) -> str:
    lines = [f"# {preset.title}", f"# {preset.docs}"]
    lines += [f"# Note: {preset.warning}"] if preset.warning else []
    lines += [f"- name: {name}", f"  path: /{name}"]
    lines += [f"  # {preset.where['upstream']}"] if "upstream" in preset.where else []
    lines += [f"  upstream: {preset.upstream}", "  auth:", f"    preset: {preset.name}"]
    for key, about in preset.keys.items():
        lines += [f"    {line}" for line in _key(key, about, preset.where.get(key, about.help), name)]
    return "".join(f"  {line}\n" for line in lines)


def _key(key: str, about: PresetKey, where: str, route: str) -> list[str]:
    """Return the lines of one key: what may be left out is a comment."""
    variable = f"{route}_{key}".upper().replace("-", "_")
    value = about.reference or f"${{{variable}}}"
    if about.default is not None:
        return [f"# {key}: {about.default}   # the default: {about.help}"]
    if about.required:
        return [f"# {where}", f'{key}: "{value}"']
    return [f"# {where}", f'# {key}: "{value}"']
