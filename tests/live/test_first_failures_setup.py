"""What goes wrong before the first byte is forwarded: seen at its place, with its cause and the way out.

Each row is one mistake, made as people make it. `check` tells it on stdout, `run` on stderr, and both alike.
No secret of a row, `SECRET`, is ever repeated. docs/troubleshooting-setup.md has the same rows.
"""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.command import authproxy, running_proxy
from tests.support.installed import need
from tests.support.launch import write_config
from tests.support.systems import needs_owners

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
LINUX = sys.platform == "linux"


def with_auth(auth: str, more: str = "", top: str = "") -> str:
    """Return a file with one route; `auth` is in line 6, what there is `more` of the route in line 7."""
    return f"""\
listen: 127.0.0.1:0
admin: false
{top}routes:
  - name: api
    upstream: https://api.example.com
    auth: {auth}
{more}"""


def with_password(password: str) -> str:
    """Return a file with a password in line 9, at column 17."""
    return with_auth(f"\n      grant: basic\n      username: joe\n      password: {password}")


def with_upstream(upstream: str) -> str:
    return with_auth("{grant: none}").replace("https://api.example.com", upstream)


def with_keys(more: str) -> str:
    return with_auth("{grant: none}", more)


def with_top(top: str) -> str:
    return with_auth("{grant: none}", top=top)


def with_file(name: str) -> str:
    return with_password(f'"${{file:{name}}}"')


@dataclass
class Row:
    """A mistake: the file, what is said of it (place and key, cause, way out), and what is around."""

    text: str
    place: str
    cause: str
    way_out: str
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


TWICE = "  - name: {name}\n    path: {path}\n    upstream: https://b.example.com\n    auth: {{grant: none}}\n"
FILES = {
    "mark": b"\xef\xbb\xbf" + SECRET.encode(),
    "newlines": SECRET.encode() + b"\n\n",
    "crlf": SECRET.encode() + b"\r\n\r\n",
    "utf16": SECRET.encode("utf-16"),
    "empty": b"",
}

ROWS = {
    # ── keys and values ──
    "typo in a key of the route": Row(
        with_keys("    upstreem: x\n"), "7:5: routes[0].upstreem: ", "unknown key",
        "did you mean `upstream`?"),
    "typo in a key of auth": Row(
        with_auth(f"{{grant: static, tokn: {SECRET}}}"), "6:27: routes[0].auth.tokn: ", "unknown key",
        "did you mean `token`?"),
    "typo in a key of the top level": Row(
        with_top("lisen: x\n"), "3:1: lisen: ", "unknown key", "did you mean `listen`?"),
    "a key in camel case": Row(
        with_auth(f"{{grant: static, tokenValue: x, refreshBefore: 5m, token: {SECRET}}}"),
        "6:42: routes[0].auth.refreshBefore: ", "unknown key", "did you mean `refresh_before`?"),
    "typo in a value of a closed list": Row(
        with_top("log: {level: warn}\n"), "3:14: log.level: ", "should be debug, info, warning or error",
        "did you mean warning?"),
    "half of a value of a closed list": Row(
        with_auth("{grant: client_credentials, token_url: 'https://x', client_auth: raw}"),
        "6:76: routes[0].auth.client_auth: ", "should be client_secret_basic, ",
        "did you mean client_secret_basic_raw?"),
    "typo in a kind": Row(
        with_top("token_store: {type: reddis}\n"), "3:21: token_store.type: ",
        "should be memory, file or redis",
        "did you mean redis?"),
    "typo in a switch": Row(
        with_keys("    prefetch: treu\n"), "7:15: routes[0].prefetch: ", "should be true or false",
        "did you mean true?"),
    "keys of auth beside auth": Row(
        with_auth("{grant: basic}", f"    username: joe\n    password: {SECRET}\n"),
        "8:5: routes[0].password: ", "unknown key", "it belongs under `auth`, as in `auth: {password: …}`"),
    "auth forgotten altogether": Row(
        with_auth("").replace("    auth: \n", f"    preset: up42\n    password: {SECRET}\n"),
        "6:5: routes[0].preset: ", "unknown key", "it belongs under `auth`"),
    "a key of the top level in a route": Row(
        with_keys("    log: {level: debug}\n"), "7:5: routes[0].log: ", "unknown key",
        "it belongs to the top level of the file"),
    "a key of a route at the top": Row(
        with_top("upstream: https://b.example.com\n"), "3:1: upstream: ", "unknown key",
        "it belongs to a route: below `- name: …` under `routes`"),
    "a key of a route in auth": Row(
        with_auth("{grant: none, timeouts: {connect: 3s}}"), "6:25: routes[0].auth.timeouts: ", "unknown key",
        "it belongs to the route itself, beside `auth`"),
    "a key one level too high": Row(
        with_keys("    methods: [GET]\n"), "7:5: routes[0].methods: ", "unknown key",
        "it belongs under `allow`, `retry` or `stand_in`"),
    "headers without set": Row(
        with_keys("    headers: {X-Team: geo}\n"), "7:15: routes[0].headers.X-Team: ", "unknown key",
        "`set: {X-Team: …}`"),
    "a key of another grant": Row(
        with_auth(f"{{grant: static, token: {SECRET}, username: joe}}"), "6:43: routes[0].auth.username: ",
        "this grant does not take it", "but basic"),
    "nothing where a key is required": Row(
        with_auth("{grant: static}"), "6:11: routes[0].auth.token: ", "is required",
        "the token, as it was issued"),
    "routes as one route": Row(
        "upstream: https://api.example.com\nauth: {grant: none}\n", "1:1: routes: ", "is required: a list",
        "each route begins with `- name: …`"),
    # ── the shape ──
    "indented with a tab": Row(
        "routes:\n\t- name: api\n", "2:1: ", "indented with a tab", "replace it by spaces"),
    "a tab before a value": Row(
        "routes:\n  - name:\tapi\n", "2:10: ", "a tab cannot separate a key from its value", "use a space"),
    "JSON indented with tabs": Row(
        '{\n\t"routes": []\n}\n', "2:1: ", "JSON indented with tabs", "indent it with spaces"),
    "JSON without a comma": Row(
        '{"routes": [{"name": "api" "upstream": "x"}]}\n', "1:28: ",
        "within the brackets that begin in line 1",
        "a comma is missing"),
    "TOML": Row("[routes.api]\nupstream = 'x'\n", "2:1: ", "looks like TOML or INI", "write `key: value`"),
    "an empty file": Row("", "1:1: ", "is empty", "`authproxy init` writes one"),
    "nothing but remarks": Row("# to do\n", "1:1: ", "is empty", "`authproxy init` writes one"),
    "no mapping": Row("listen=127.0.0.1:80\n", "1:1: ", "should be a mapping", "`: ` after it"),
    "two documents": Row(
        with_keys("---\nroutes: []\n"), "7:1: ", "more than one document (`---`)", "only one is allowed"),
    "a line indented too little": Row(
        "routes:\n  - name: api\n   upstream: https://x.example\n", "3:4: ",
        "not indented like the others of what begins in line 2", "begin in the same column"),
    "no space after a colon": Row(
        "routes:\n  - name:api\n    upstream: https://x.example\n", "3:13: ",
        "the space after the colon is missing in line 2", "write `key: value`"),
    "a no-break space": Row(
        "routes:\n  - name: api\n    \u00a0host: x\n", "3:5: ", "only looks like a space (U+00A0)",
        "use spaces"),
    "a key given twice": Row(
        with_keys("    upstream: https://c.example.com\n"), "7:5: routes[0].upstream: ", "is given twice",
        "the first is in line 5: remove one"),
    "routes as a mapping": Row(
        "routes:\n  api: {upstream: 'https://x'}\n", "2:3: routes: ", "should be a list, not a mapping",
        "each route begins with `- name: …`"),
    "a list where a mapping is due": Row(
        with_keys("    retry: [401]\n"), "7:12: routes[0].retry: ", "should be true, false or a mapping",
        "with keys such as statuses, redirects, methods, max_body"),
    "a name where a mapping is due": Row(
        with_top("log: debug\n"), "3:6: log: ", "should be a mapping",
        "with keys such as level, format, access"),
    "one where a list is due": Row(
        with_keys("    allow: {methods: GET}\n"), "7:22: routes[0].allow.methods: ", "should be a list",
        "put [ ] around it"),
    "auth as a name": Row(
        with_auth("up42"), "6:11: routes[0].auth: ", "should be a mapping", "write `auth: {preset: up42}`"),
    "an anchor that is not there": Row(
        with_auth("*base"), "6:11: ", "refers to an anchor (&) that is not there", "if it is text, put"),
    "anchors of their own": Row(
        "x-base: &base {grant: none}\n" + with_auth("*base"), "1:1: x-base: ", "unknown key",
        "an anchor needs no key of its own: put the & where the value is first used"),
    "a merge key of a number": Row(
        with_top("<<: 5\n"), "3:5: ", "a merge key (<<) should refer to a mapping", "`<<: *name`"),
    # ── references ──
    "a variable that is not set": Row(
        with_auth('{grant: static, token: "${API_TOKEN}"}'), "6:34: routes[0].auth.token: ",
        "environment variable API_TOKEN is not set", "set it, or give a default: ${API_TOKEN:-…}"),
    "a variable with a typing error": Row(
        with_auth('{grant: static, token: "${API_TOKN}"}'), "6:34: routes[0].auth.token: ",
        "environment variable API_TOKN is not set", "did you mean ${API_TOKEN}?", env={"API_TOKEN": SECRET}),
    "an empty variable": Row(
        with_auth('{grant: static, token: "${API_TOKEN}"}'), "6:34: routes[0].auth.token: ",
        "is empty: ${API_TOKEN} gave nothing", "set it, or write ${API_TOKEN:-}", env={"API_TOKEN": ""}),
    "an empty variable for a URL": Row(
        with_upstream('"${API_URL}"'), "5:15: routes[0].upstream: ", "is empty: ${API_URL} gave nothing",
        "set it", env={"API_URL": ""}),
    "a reference of another tool": Row(
        with_auth('{grant: static, token: "${env:API_TOKEN}"}'), "6:34: routes[0].auth.token: ",
        "an environment variable is written ${NAME}", "without `env:`"),
    "a template's braces": Row(
        with_auth("{grant: static, token: {{API_TOKEN}}}"), "6:35: routes[0].auth.token: ",
        "{ } within { } is a key here", 'a reference is written "${NAME}", in quotes'),
    "no quotes around a reference": Row(
        with_auth("{grant: static, token: ${API_TOKEN}}"), "6:35: ",
        "within { } and [ ] a reference needs quotes",
        'write "${NAME}"'),
    "a reference that is not closed": Row(
        with_password(f'"{SECRET}${{x"'), "9:17: routes[0].auth.password: ",
        "a reference ${ is not closed with }",
        "write $${ for a literal ${"),
    "a secret file that is not there": Row(
        with_file("nothing"), "9:17: routes[0].auth.password: ", "the file cannot be read",
        "it was looked for in /"),
    "a directory for a secret": Row(
        with_file("/"), "9:17: routes[0].auth.password: ", "the file cannot be read: Is a directory",
        "name a file in it"),
    "a secret file with a byte order mark": Row(
        with_file("mark"), "9:17: routes[0].auth.password: ", "begins with a byte order mark",
        "save it as UTF-8 without one", files=FILES),
    "a secret file with two newlines": Row(
        with_file("newlines"), "9:17: routes[0].auth.password: ", "contains a line break at its end",
        "only one line break at the end is left out: remove the others", files=FILES),
    "a secret file with two line ends of Windows": Row(
        with_file("crlf"), "9:17: routes[0].auth.password: ", "contains a line break at its end",
        "remove the others", files=FILES),
    "a secret file in UTF-16": Row(
        with_file("utf16"), "9:17: routes[0].auth.password: ", "is UTF-16, not UTF-8 text",
        "save it as UTF-8",
        files=FILES),
    "an empty secret file": Row(
        with_file("empty"), "9:17: routes[0].auth.password: ", "is empty: ${file:empty} gave nothing",
        "fill it",
        files=FILES),
    "a Windows path in double quotes": Row(
        with_keys('    tls: {ca_file: "C:\\new\\ca.pem"}\n'), "7:28: ",
        'within "double quotes" a \\ begins an escape',
        "use 'single quotes'"),
    "a Windows path that happens to be valid": Row(
        with_keys('    tls: {ca_file: "C:\\new"}\n'), "7:20: routes[0].tls.ca_file: ",
        "contains a control character", "use 'single quotes'"),
    "a Windows path in a reference": Row(
        with_password('"${file:C:\\new}"'), "9:17: routes[0].auth.password: ",
        "has a control character in it",
        "use 'single quotes'"),
    # ── passwords that YAML reads as something else ──
    "a password with a leading zero": Row(
        with_password("0123456"), "9:17: routes[0].auth.password: ", "should be a string; put it in quotes",
        "one that begins with 0 is octal"),
    "a password of digits": Row(
        with_password("12345678"), "9:17: routes[0].auth.password: ", "YAML reads a number",
        "put it in quotes"),
    "a password of digits and colons": Row(
        with_password("12:34:56"), "9:17: routes[0].auth.password: ", "to base 60", "put it in quotes"),
    "a password that is a switch": Row(
        with_password("yes"), "9:17: routes[0].auth.password: ", "are switches in YAML", "put it in quotes"),
    "a password that is on": Row(
        with_password("on"), "9:17: routes[0].auth.password: ", "are switches in YAML", "put it in quotes"),
    "a password that is a date": Row(
        with_password("2024-01-01"), "9:17: routes[0].auth.password: ", "YAML reads a date",
        "put it in quotes"),
    "a password that is null": Row(
        with_password("null"), "9:17: routes[0].auth.password: ", "null and ~ mean: no value",
        "put it in quotes"),
    "a password that is a comment": Row(
        with_password(f"#{SECRET}"), "9:16: routes[0].auth.password: ", "a # begins a comment",
        "put it in quotes"),
    "a password that begins with &": Row(
        with_password(f"&{SECRET}"), "9:17: routes[0].auth.password: ", "names an anchor",
        "put it in quotes"),
    "a password that begins with *": Row(
        with_password(f"*{SECRET}"), "9:17: ", "a * at the start refers to an anchor",
        "put the value in quotes"),
    "a password that begins with !": Row(
        with_password(f"!{SECRET}"), "9:17: routes[0].auth.password: ", "has an unknown YAML tag (!)",
        "put it in quotes"),
    "a password that begins with @": Row(
        with_password(f"@{SECRET}"), "9:17: ", "a value cannot begin with @, % or `",
        "put the value in quotes"),
    "a password that begins with |": Row(
        with_password(f"|{SECRET}"), "9:18: ", "begins with | or > is a block of lines",
        "put the value in quotes"),
    "a password with a colon": Row(
        with_password(f"{SECRET}: x"), "9:24: ", "there is a second `: ` in this line",
        "put the value in quotes"),
    "a password with a colon in braces": Row(
        with_auth(f"{{grant: basic, username: joe, password: {SECRET}: x}}"), "6:58: ",
        "there is a second colon in one value", "put the value in quotes"),
    "a password with a comma in braces": Row(
        with_auth(f"{{grant: basic, username: joe, password: a,{SECRET}}}"), "6:53: routes[0].auth: ",
        "a comma ends a value within { }", "put that in quotes"),
    "a password with a comment in braces": Row(
        with_auth(f"{{grant: basic, username: joe, password: a #{SECRET}}}"), "6:11: ",
        "this bracket is never closed (` #` begins a comment", "needs quotes"),
    "a password in braces": Row(
        with_password(f"{{{SECRET}}}"), "9:17: routes[0].auth.password: ", "a { begins a mapping",
        "put it in quotes"),
    "a password with a quote in quotes": Row(
        with_password(f"'{SECRET}'s'"), "9:26: ", "there is text after the closing quote", "is written ''"),
    "a password with a quote that is not closed": Row(
        with_password(f'"{SECRET}'), "9:17: ", "the quote that begins here is never closed", "close it, or"),
    "a password with a backslash": Row(
        with_password(f'"a\\{SECRET}"'), "9:20: ", "a \\ begins an escape", "use 'single quotes'"),
    "a token in typographic quotes": Row(
        with_auth(f"{{grant: static, token: “{SECRET}”}}"), "6:34: routes[0].auth.token: ",
        "a typographic quotation mark", "write \" or ' around it instead"),
    # ── URLs, addresses, units ──
    "a URL without a scheme": Row(
        with_upstream("api.example.com"), "5:15: routes[0].upstream: ", "should be an absolute URL",
        "put https:// before it"),
    "a URL without a scheme but a port": Row(
        with_upstream("localhost:8000"), "5:15: routes[0].upstream: ", "should be an absolute URL",
        "put https:// before it"),
    "a URL with a typing error": Row(
        with_upstream("htps://api.example.com"), "5:15: routes[0].upstream: ", "should be an absolute URL",
        "did you mean https://?"),
    "a URL with a blank at its end": Row(
        with_upstream('"https://api.example.com "'), "5:15: routes[0].upstream: ",
        "should not begin or end with whitespace", "remove it"),
    "a URL with credentials": Row(
        with_upstream(f"https://joe:{SECRET}@api.example.com"), "5:15: routes[0].upstream: ",
        "should not contain user information", "give the credential under `auth`"),
    "a URL with a query": Row(
        with_upstream(f"https://api.example.com/?key={SECRET}"), "5:15: routes[0].upstream: ",
        "should not contain a query (?)", "belongs under `auth`"),
    "a URL with a wrong port": Row(
        with_upstream("https://api.example.com:99999"), "5:15: routes[0].upstream: ",
        "should be an absolute URL", "a number from 1 to 65535"),
    "a token endpoint over http": Row(
        with_auth("{grant: client_credentials, token_url: 'http://id.example.com'}"),
        "6:50: routes[0].auth.token_url: ", "over plain http to another machine",
        "use https, or set `insecure"),
    "an address without a port": Row(
        with_top("").replace("127.0.0.1:0", "127.0.0.1"), "1:9: listen: ", "should be HOST:PORT",
        "the port is missing"),
    "a port alone": Row(
        with_top("").replace("127.0.0.1:0", "8080"), "1:9: listen: ", "should be HOST:PORT",
        "put 127.0.0.1: before the port"),
    "an address as a URL": Row(
        with_top("").replace("127.0.0.1:0", "http://127.0.0.1:0"), "1:9: listen: ", "should be HOST:PORT",
        "remove http://"),
    "an IPv6 address without quotes": Row(
        with_top("").replace("127.0.0.1:0", "[::1]:8080"), "1:10: ", "a [ begins a list", "needs quotes"),
    "an address for everybody": Row(
        with_top("").replace("127.0.0.1:0", "0.0.0.0:0"), "1:9: listen: ",
        "lets other machines use the credentials",
        "listen on 127.0.0.1, or set `access`"),
    "an unknown unit of time": Row(
        with_keys("    timeouts: {connect: 10sec}\n"), "7:25: routes[0].timeouts.connect: ",
        "should be a duration",
        "the unit is written s"),
    "two units of time": Row(
        with_keys("    timeouts: {connect: 1m30s}\n"), "7:25: routes[0].timeouts.connect: ",
        "should be a duration", "with one unit alone, such as 90s"),
    "an unknown unit of size": Row(
        with_top("limits: {header_bytes: 64KB}\n"), "3:24: limits.header_bytes: ", "should be a size",
        "the unit is written KiB"),
    # ── routes, grants and presets ──
    "a path of two routes": Row(
        with_keys("    path: /b\n" + TWICE.format(name="b", path="/b")), "9:11: routes[1].path: ",
        "is mounted where an earlier route is, api in line 4", "give it another `path` or `host`"),
    "a name of two routes": Row(
        with_keys(TWICE.format(name="api", path="/b")), "7:11: routes[1].name: ",
        "is the name of an earlier route, in line 4", "give one of them another"),
    "a preset with a typing error": Row(
        with_auth(f"{{preset: up-42, password: {SECRET}}}"), "6:20: routes[0].auth.preset: ",
        "unknown preset",
        "did you mean up42?"),
    "half of a preset's name": Row(
        with_auth(f"{{preset: code42, password: {SECRET}}}"), "6:20: routes[0].auth.preset: ",
        "unknown preset",
        "did you mean code42-api-client, code42-basic or code42-user?"),
    "a preset's key that is missing": Row(
        with_auth("{preset: up42, username: joe}"), "6:11: routes[0].auth.password: ",
        "preset up42 needs password: its password", "`authproxy presets show up42`"),
    "a preset's key with a typing error": Row(
        with_auth(f"{{preset: up42, user: joe, password: {SECRET}}}"), "6:26: routes[0].auth.user: ",
        "unknown key",
        "did you mean `username`?"),
    "an unknown grant": Row(
        with_auth(f"{{grant: bearer, token: {SECRET}}}"), "6:19: routes[0].auth.grant: ", "unknown grant",
        "did you mean static? (choose from none, static, "),
    "a preset as a grant": Row(
        with_auth(f"{{grant: up42, password: {SECRET}}}"), "6:19: routes[0].auth.grant: ", "up42 is a preset",
        "write `preset: up42` instead"),
    "a grant as a preset": Row(
        with_auth(f"{{preset: basic, password: {SECRET}}}"), "6:20: routes[0].auth.preset: ",
        "basic is a grant",
        "write `grant: basic` instead"),
    "both grant and preset": Row(
        with_auth(f"{{grant: password, preset: up42, password: {SECRET}}}"), "6:11: routes[0].auth: ",
        "takes `grant` or `preset`, not both", "remove one of them"),
    "neither grant nor preset": Row(
        with_auth(f"{{username: joe, password: {SECRET}}}"), "6:11: routes[0].auth: ",
        "needs `grant` or `preset`",
        "`authproxy presets` lists the presets; the grants are none, static"),
    "no auth": Row(
        with_auth("").replace("    auth: \n", ""), "4:5: routes[0].auth: ", "is required",
        "for plain forwarding `auth: {grant: none}`"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_mistake_is_told_at_its_place_with_its_cause_and_its_way_out(tmp_path: Path, row: Row) -> None:
    file = write_config(tmp_path, row.text)
    for name, content in row.files.items():
        (tmp_path / name).write_bytes(content)
    checked = authproxy("check", "-c", str(file), env=row.env)
    ran = authproxy("run", "-c", str(file), env=row.env)
    assert (checked.returncode, checked.stderr) == (2, "")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert checked.stdout == ran.stderr
    told = [line for line in checked.stdout.splitlines() if line.startswith(f"{file}:{row.place}")]
    assert any(row.cause in line and row.way_out in line for line in told), checked.stdout
    assert SECRET not in checked.stdout.replace(str(file), "")


# ── what is odd but goes ─────────────────────────────────────────────────────────────────────────

ODD = {
    "two dollars": Row(
        with_password(f"'a$${SECRET}'"), "9:17: routes[0].auth.password: ",
        "contains $$, which stands for one $",
        "write $$$$ for two"),
    "a password that a comment cuts off": Row(
        with_password(f"abc #{SECRET}"), "9:17: routes[0].auth.password: ",
        "ends before the #, where a comment begins",
        "put it in quotes"),
    "a secret file with a blank at its end": Row(
        with_file("blank"), "9:17: routes[0].auth.password: ",
        "ends in whitespace, in the value of ${file:blank}",
        "remove it", files={"blank": SECRET.encode() + b" \n"}),
    "a variable without braces": Row(
        with_password("$API_PASSWORD"), "9:17: routes[0].auth.password: ", "$API_PASSWORD is plain text",
        "the variable is ${API_PASSWORD}", env={"API_PASSWORD": SECRET}),
}  # fmt: skip


@pytest.mark.parametrize("row", ODD.values(), ids=ODD)
def test_what_is_hardly_meant_is_told_and_served(tmp_path: Path, row: Row) -> None:
    file = write_config(tmp_path, row.text)
    for name, content in row.files.items():
        (tmp_path / name).write_bytes(content)
    checked = authproxy("check", "-c", str(file), env=row.env)
    assert checked.returncode == 0
    (told,) = [
        line for line in checked.stdout.splitlines() if line.startswith(f"{file}:{row.place}warning: ")
    ]
    assert row.cause in told
    assert row.way_out in told
    with running_proxy(None, "-c", str(file), "--no-admin", env=row.env) as proxy:
        assert proxy.stop() == 0
        log = proxy.log()
    assert row.cause in log
    assert row.way_out in log
    assert SECRET not in checked.stdout + log


@pytest.mark.parametrize("content", [SECRET.encode() + b"\n", SECRET.encode() + b"\r\n"])
def test_one_line_end_of_a_secret_file_is_nobodys_mistake(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    checked = authproxy("check", "-c", str(write_config(tmp_path, with_file("secret"))))
    assert (checked.returncode, len(checked.stdout.splitlines())) == (0, 1)


def test_json_is_a_configuration_too() -> None:
    text = '{"routes": [{"name": "a", "upstream": "https://x.example", "auth": {"grant": "none"}}]}'
    assert authproxy("check", config=text).returncode == 0


# ── every verb ───────────────────────────────────────────────────────────────────────────────────

VERBS = [["run"], ["routes"], ["token", "api"], ["login", "api"], ["logout", "api"], ["healthcheck"]]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_every_verb_that_reads_the_configuration_tells_the_same(verb: list[str]) -> None:
    ended = authproxy(*verb, config=with_keys("    upstreem: x\n"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ":7:5: routes[0].upstreem: unknown key; did you mean `upstream`?" in ended.stderr


@pytest.mark.parametrize("verb", ["token", "login", "logout"])
def test_a_mistyped_route_is_told_with_the_one_that_was_meant(verb: str) -> None:
    ended = authproxy(verb, "apii", config=with_keys(TWICE.format(name="other", path="/b")))
    assert ended.returncode == 2
    assert "there is no route 'apii' in " in ended.stderr
    assert "; did you mean api? (choose from api, other)" in ended.stderr


def test_a_mistyped_verb_or_preset_is_told_with_the_one_that_was_meant() -> None:
    assert "there is no verb 'chek'; did you mean check? (choose from run, " in authproxy("chek").stderr
    ended = authproxy("presets", "show", "up43")
    assert "there is no preset 'up43'; did you mean up42? (choose from " in ended.stderr


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", [["check"], *VERBS], ids=lambda verb: verb[0])
def test_without_a_file_the_places_and_the_ways_out_are_told(verb: list[str]) -> None:
    ended = authproxy(*verb)
    assert ended.returncode == 2
    assert "configuration file: not found; searched $AUTHPROXY_CONFIG, authproxy.yaml, " in ended.stderr
    assert "/etc/authproxy/config.yaml" in ended.stderr
    assert "hint: name a configuration file with -c, write one with `authproxy init`" in ended.stderr


@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_file_that_is_not_there_is_told_with_the_ways_out(verb: str) -> None:
    ended = authproxy(verb, "-c", "nothing.yaml")
    assert ended.returncode == 2
    said = ended.stdout + ended.stderr
    assert "authproxy: nothing.yaml: cannot be read: No such file or directory" in said
    assert "hint: check its name (-c, $AUTHPROXY_CONFIG), write one with `authproxy init`" in said


def test_a_file_that_is_not_there_is_no_file_to_correct() -> None:
    ended = authproxy("doctor", "-c", "nothing.yaml")
    assert ended.returncode == 2
    assert "  nothing.yaml: cannot be read: No such file or directory\n" in ended.stdout
    assert "next:  check its name (-c, $AUTHPROXY_CONFIG), write one" in ended.stdout


def test_a_key_with_a_typing_error_is_one_mistake_and_not_a_missing_key_too(tmp_path: Path) -> None:
    file = write_config(tmp_path, with_keys("").replace("upstream:", "upstreem:"))
    ended = authproxy("check", "-c", str(file))
    assert ended.returncode == 2
    (told,) = ended.stdout.splitlines()
    assert "upstreem: unknown key; did you mean `upstream`?" in told


@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_directory_is_told_with_the_file_in_it(tmp_path: Path, verb: str) -> None:
    (tmp_path / "config.yaml").write_text(with_keys(""))
    ended = authproxy(verb, "-c", str(tmp_path))
    assert ended.returncode == 2
    said = ended.stdout + ended.stderr
    assert f"authproxy: {tmp_path}: cannot be read: Is a directory" in said
    assert f"hint: name the file in it: -c {tmp_path}/config.yaml" in said


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (with_keys("").encode("utf-16"), "is UTF-16, not UTF-8 text"),
        (b"# caf\xe9\n" + with_keys("").encode(), "is not UTF-8 text"),
    ],
)
def test_a_file_of_another_encoding_is_told_what_to_save_it_as(
    tmp_path: Path, verb: str, content: bytes, cause: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    ended = authproxy(verb, "-c", str(file))
    assert ended.returncode == 2
    assert f"{file}:1:1: {cause}; save it as UTF-8" in ended.stdout + ended.stderr


def as_no_root() -> tuple[str, ...]:
    """Return what goes before a command that is to read what it may only: root may read anything."""
    if os.geteuid() != 0:
        return ()
    need("setpriv")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@needs_owners
@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_file_that_may_not_be_read_is_told_who_has_to_be_able_to(tmp_path: Path, verb: str) -> None:
    file = write_config(tmp_path, with_keys(""))
    file.chmod(0)
    ended = authproxy(verb, "-c", str(file), before=as_no_root())
    assert ended.returncode == 2
    said = ended.stdout + ended.stderr
    assert f"authproxy: {file}: cannot be read: Permission denied" in said
    assert "hint: the user that authproxy runs as has to be able to read it" in said


# ── the command line ─────────────────────────────────────────────────────────────────────────────

UPSTREAM = ("--upstream", "https://api.example.com")
OPTIONS = {
    "an upstream without a scheme": (
        ["--upstream", "api.example.com"], "--upstream: should be an absolute URL", "put https:// before it"),
    "a setting without a value": (
        [*UPSTREAM, "--set", SECRET], "--set: should be KEY=VALUE", "--set 'token=${NAME}'"),
    "a setting with a typing error": (
        [*UPSTREAM, "--preset", "up42", "--set", f"pasword={SECRET}"], "--set pasword: unknown key",
        "did you mean `password`?"),
    "a setting that is missing": (
        [*UPSTREAM, "--preset", "up42", "--set", "username=joe"],
        "--set auth.password: preset up42 needs password", "`authproxy presets show up42`"),
    "a setting given twice": (
        [*UPSTREAM, "--set", "grant=none", "--set", "grant=none"], "--set grant: is given twice", ""),
    "a setting in a wrong unit": (
        [*UPSTREAM, "--set", "timeouts.connect=5sec"], "--set timeouts.connect: should be a duration",
        "the unit is written s"),
    "a setting from a variable that is not set": (
        [*UPSTREAM, "--set", "grant=static", "--set", "token=${NOBODY}"],
        "--set token: environment variable NOBODY is not set", "set it, or give a default"),
    "a setting that is not YAML": (
        [*UPSTREAM, "--set", f'json={{"a: {SECRET}'], "--set json: is not YAML",
        "never closed; close it, or"),
    "a preset with a typing error": (
        [*UPSTREAM, "--preset", "up43"], "--preset: unknown preset", "did you mean up42?"),
    "a port alone": (
        [*UPSTREAM, "--listen", "8080"], "--listen: should be HOST:PORT", "put 127.0.0.1: before the port"),
    "an admin port alone": (
        [*UPSTREAM, "--admin", "9000"], "--admin: should be HOST:PORT", "put 127.0.0.1: before the port"),
    "an address for everybody": (
        [*UPSTREAM, "--listen", "0.0.0.0:0"], "--listen: lets other machines", "listen on 127.0.0.1, or set"),
    "workers": ([*UPSTREAM, "--workers", "many"], "--workers: should be a whole number or auto", ""),
}  # fmt: skip


@pytest.mark.parametrize(("args", "cause", "way_out"), OPTIONS.values(), ids=OPTIONS)
def test_a_mistake_on_the_command_line_is_told_by_its_option(
    args: list[str], cause: str, way_out: str
) -> None:
    ended = authproxy("run", *args)
    assert (ended.returncode, ended.stdout) == (2, "")
    told = [
        line for line in ended.stderr.splitlines() if line.startswith(f"authproxy: command line: {cause}")
    ]
    assert any(way_out in line for line in told), ended.stderr
    assert SECRET not in ended.stderr


# ── ports ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "option", "where"), [("listen", "--listen", "1:9"), ("admin", "--admin", "2:8")]
)
def test_a_port_that_is_taken_is_told_with_who_has_it_and_what_else(
    tmp_path: Path, key: str, option: str, where: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listen, admin = (address, "false") if key == "listen" else ("127.0.0.1:0", f"{{listen: '{address}'}}")
        text = with_keys("").replace("admin: false", f"admin: {admin}").replace("127.0.0.1:0", listen, 1)
        file = write_config(tmp_path, text)
        assert authproxy("check", "-c", str(file)).returncode == 0  # nobody is asked, so nobody is in the way
        in_file = authproxy("run", "-c", str(file))
        on_line = authproxy("run", "-c", str(file), option, address)
    for ended in (in_file, on_line):
        assert (ended.returncode, ended.stdout) == (1, "")
        assert f"authproxy: cannot listen on {address}: Address already in use" in ended.stderr
        assert f"choose another address: {option} ADDR" in ended.stderr
        assert not LINUX or f"(pid {os.getpid()})" in ended.stderr
    assert f"or `{key}` in {file}:{where}; port 0 picks a free one" in in_file.stderr


@pytest.mark.skipif(not LINUX, reason="who has a port is read from /proc")
def test_a_port_that_another_authproxy_has_is_told_so() -> None:
    config = {"routes": [{"name": "a", "upstream": "https://x.example", "auth": {"grant": "none"}}]}
    with running_proxy(config, "--no-admin") as other:
        address = other.url.removeprefix("http://")
        ended = authproxy("run", *UPSTREAM, "--no-admin", "--listen", address)
        assert other.stop() == 0
    assert ended.returncode == 1
    assert f"by another authproxy (pid {other.pid})" in ended.stderr


# ── extras ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    ("extra", "text", "place"),
    [
        (
            "redis",
            with_top(f"token_store: {{type: redis, url: 'redis://127.0.0.1', key: {SECRET}}}\n"),
            "3:21: token_store.type: ",
        ),
        ("keyring", with_password("${keyring:api/joe}"), "9:17: routes[0].auth.password: "),
    ],
)
def test_an_extra_that_is_not_installed_is_told_with_the_command_that_installs_it(
    tmp_path: Path, verb: str, extra: str, text: str, place: str
) -> None:
    file = write_config(tmp_path, text)
    path = [str(ROOT / "tests/support/lacking"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    env = {"AUTHPROXY_LACKS": extra, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    ended = authproxy(verb, "-c", str(file), env=env)
    assert ended.returncode == 2
    (told,) = [line for line in (ended.stdout + ended.stderr).splitlines() if str(file) in line]
    assert told.startswith(f"{file}:{place}")
    assert "not installed" in told
    assert f"pip install 'authproxy[{extra}]'" in told
    assert SECRET not in told
