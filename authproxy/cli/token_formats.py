"""A token as other tools take it: documents, lines of their files, and answers of credential helpers.

    exec-credential      kubectl (client.authentication.k8s.io)
    credential-process   AWS-style tools
    git-credential       git's credential helpers (gitcredentials(7)): get, store, erase
    docker-credential    docker's (docker/docker-credential-helpers): get, list, store, erase
    netrc, curl, env     a line of ~/.netrc, of a file for `curl -K`, of shells and .env files

Nothing in here does I/O. A helper answers for the route's upstream alone: no other host gets the token.
"""

import json
import re
import shlex
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isinf
from typing import Any
from urllib.parse import quote

from authproxy.config.route import RouteConfig
from authproxy.grants.static import Basic
from authproxy.tokens.token import Token
from authproxy.values import port_of, split_url

EXEC_CREDENTIAL_VERSIONS = tuple(
    f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1")
)
USERNAME = "oauth2"  # beside a token for a password: GitLab wants this one, most others take any
NOT_FOUND = "credentials not found in native keychain"  # the words that docker looks for


@dataclass(frozen=True, slots=True)
class Login:
    """A token as a name and a password (RFC 7617)."""

    username: str
    password: str


def login_of(got: Token, route: RouteConfig) -> Login:
    """Return what a tool that only knows Basic is to send."""
    for place in route.grant.places:
        if place.basic is not None:
            return Login(*place.basic.fill(got))
    if _scheme(route).lower() == "basic":
        with suppress(ValueError):  # no base64, or no text in it: then it is some token
            username, colon, password = b64decode(got.value, validate=True).decode().partition(":")
            if colon:
                return Login(username, password)
    return Login(USERNAME, got.value)


def header_lines(got: Token, route: RouteConfig) -> list[str]:
    """Return the header lines that the proxy would add; a cookie stands in one of its own."""
    places = route.grant.places
    lines = [f"{each.header_name}: {each.fill(got)}" for each in places if each.header_name is not None]
    cookies = [f"{each.cookie}={each.fill(got)}" for each in places if each.cookie is not None]
    return lines + ([f"Cookie: {'; '.join(cookies)}"] if cookies else [])


def _scheme(route: RouteConfig) -> str:
    """Return the scheme before the token in `Authorization`, "" for none."""
    return next((each.scheme for each in route.grant.places if each.scheme is not None), "")


# ── documents and lines ──────────────────────────────────────────────────────────────────────────


def exec_credential(got: Token, info: str) -> str:
    """Return a Kubernetes ExecCredential, in the version that `info` asks for: kubectl takes no other."""
    try:
        document = json.loads(info)
    except (ValueError, RecursionError):
        document = None
    asked = document.get("apiVersion") if isinstance(document, dict) else None
    version = asked if asked in EXEC_CREDENTIAL_VERSIONS else EXEC_CREDENTIAL_VERSIONS[0]
    status = {"token": got.value, **_ends(got, "expirationTimestamp")}
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def credential_process(got: Token, route: RouteConfig) -> str:
    """Return an AWS credential_process document, version 1; the token is in `SessionToken`."""
    keys = {"AccessKeyId": route.name, "SecretAccessKey": got.value, "SessionToken": got.value}
    return json.dumps({"Version": 1, **keys, **_ends(got, "Expiration")})


def netrc(got: Token, route: RouteConfig) -> str:
    """Return a line for `~/.netrc`."""
    login = login_of(got, route)
    host = split_url(route.upstream).hostname
    return f"machine {host} login {_netrc_word(login.username)} password {_netrc_word(login.password)}"


def curl(got: Token, route: RouteConfig) -> str:
    """Return lines of a configuration file of curl's: `… | curl -K - URL`.

    Its `url-query` (curl 7.87) is what goes into the query.
    """
    lines = [f'header = "{_escaped(line)}"' for line in header_lines(got, route)]
    queries = [(each.query, each.fill(got)) for each in route.grant.places if each.query is not None]
    lines += [f'url-query = "{_escaped(f"{quote(name)}={value}")}"' for name, value in queries]
    return "\n".join(lines)


def env(got: Token, route: RouteConfig) -> str:
    """Return an assignment, as shells and `.env` files have it."""
    return f"{route.name.upper().replace('-', '_')}_TOKEN={shlex.quote(got.value)}"


LINES: Mapping[str, Callable[[Token, RouteConfig], str]] = {
    "credential-process": credential_process,
    "netrc": netrc,
    "curl": curl,
    "env": env,
}


def _ends(got: Token, key: str) -> dict[str, str]:
    if isinf(got.expires_at):
        return {}
    return {key: datetime.fromtimestamp(got.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


def _netrc_word(value: str) -> str:
    return f'"{_escaped(value)}"' if not value or set(value) & set(' \t"\\#') else value


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────

OPERATIONS = {
    "git-credential": ("get", "store", "erase"),
    "docker-credential": ("get", "list", "store", "erase"),
}
"""What each helper is asked to do, by its last argument."""


_ELSEWHERE = re.compile(r"[^\x21-\x7e]|[?#@\\]")
"""What has a URL lead elsewhere for one reader than for another."""


def is_upstream(route: RouteConfig, url: str) -> bool:
    """Whether `url`, which may lack its scheme as docker's registries do, is on the route's upstream."""
    if _ELSEWHERE.search(url):
        return False
    if "://" not in url:
        url = f"{split_url(route.upstream).scheme}://{url}"
    try:
        return _origin(url) == _origin(route.upstream)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = split_url(url)
    return parts.scheme, parts.hostname, port_of(parts)


def git_asks(said: str) -> dict[str, str]:
    """Return the attributes that git sends, one `key=value` a line, up to an empty one; the last counts.

    A line ends at a line feed and nowhere else: a value may hold any other character, as a URL that somebody
    else made up has it (`https://other.example%0Bhost=…`).
    """
    lines = _git_lines(said)
    return {key: value for key, separator, value in (line.partition("=") for line in lines) if separator}


def _git_lines(said: str) -> list[str]:
    return said.split("\n\n", 1)[0].split("\n")


def git_is_for(route: RouteConfig, asked: Mapping[str, str]) -> bool:
    """Whether git asks for the route's upstream."""
    host = asked.get("host", "")
    return "/" not in host and is_upstream(route, f"{asked.get('protocol', '')}://{host}")


def git_credential(got: Token, route: RouteConfig, asked: Mapping[str, str], said: str) -> str:
    """Return the answer to git's `get`.

    A git that offers to send another scheme than Basic (2.46) is given the route's own.
    """
    scheme = _scheme(route)
    if "capability[]=authtype" in _git_lines(said) and scheme:
        sent = next(each.fill(got) for each in route.grant.places if each.scheme is not None)
        credential = sent.removeprefix(f"{scheme} ")
        lines = ["capability[]=authtype", f"authtype={scheme}", f"credential={credential}", "ephemeral=1"]
    else:
        login = login_of(got, route)
        lines = [f"username={asked.get('username') or login.username}", f"password={login.password}"]
    if not isinf(got.expires_at):
        lines.append(f"password_expiry_utc={int(got.expires_at)}")
    return "\n".join(lines)


def docker_credential(got: Token, route: RouteConfig, server: str) -> str:
    """Return the answer to docker's `get`."""
    login = login_of(got, route)
    return json.dumps({"ServerURL": server, "Username": login.username, "Secret": login.password})


def docker_list(route: RouteConfig) -> str:
    """Return the answer to docker's `list`: no token is needed for it."""
    parts = split_url(route.upstream)
    username = route.grant.username if isinstance(route.grant, Basic) else USERNAME
    return json.dumps({f"{parts.scheme}://{parts.netloc}": username})


def erased(said: str) -> Token | None:
    """Return the token that git says will not do, or None when it names none."""
    asked = git_asks(said)
    value: Any = asked.get("credential") or asked.get("password")
    return Token(value) if value else None
