from dataclasses import FrozenInstanceError, replace

import pytest
from pydantic import SecretStr

from authproxy.config import presets
from authproxy.config.model import Admin, Limits, Log
from authproxy.config.rewrite import Rewrite
from authproxy.config.route import AllowKeys, HeaderRules, Retry, Timeouts
from authproxy.grants.static import NoGrant
from authproxy.malformed import URL
from authproxy.net.tls_settings import TLSSettings
from tests.support.systems import of_unix

NONE = "auth: {grant: none}\n"
PLAIN = NONE + "upstream: https://x\n"


def test_a_file_of_two_lines_has_every_default(reader):
    config = reader.config("routes: [{name: a, upstream: 'https://x', auth: {grant: none}}]")
    assert config.listen == ("127.0.0.1:8080",)
    assert config.admin == Admin(listen="127.0.0.1:8081")
    assert (config.allowed_hosts, config.allowed_origins, config.allow_remote) == ((), (), False)
    assert (config.access, config.tls) == (None, None)
    assert config.limits == Limits(
        connections=1024, header_bytes=32768, body_bytes=None, keepalive=75.0, drain=30.0
    )
    assert config.log == Log(level="info", format="text", access=True)
    assert config.file == str(reader.directory / "proxy.yaml")
    route = config.routes[0]
    assert (route.name, route.path, route.host, route.upstream) == ("a", "/", None, "https://x")
    assert route.grant == NoGrant()
    assert (route.strip_path, route.preserve_host, route.insecure, route.prefetch) == (
        True,
        False,
        False,
        False,
    )
    assert route.rewrite == Rewrite(headers=True, bodies=(), max=4 << 20)
    assert (route.headers, route.response_headers) == (HeaderRules(), HeaderRules())
    assert route.retry == Retry(statuses=(401,), methods="all", max_body=1 << 20, cooldown=30.0)
    assert route.timeouts == Timeouts(connect=10.0, response=60.0, idle=300.0)
    assert route.tls == TLSSettings(verify=True)
    assert (route.allow, route.max_connections) == (None, 256)
    assert (route.preset, route.warnings, route.reread) == (None, (), None)


@pytest.mark.parametrize(
    ("written", "setting"),
    [
        ("http://proxy:3128", SecretStr("http://proxy:3128")),
        ("http://me:hunter2@proxy:3128", SecretStr("http://me:hunter2@proxy:3128")),
        ("${PROXY}", SecretStr("http://proxy:3128")),
        ("none", "none"),
        ("'none'", "none"),
        ("false", "none"),
        ("no", "none"),
        ("", None),
    ],
)
def test_an_http_proxy_of_a_route(reader, written, setting):
    reader.environ = {"PROXY": "http://proxy:3128"}
    route = reader.route(f"{PLAIN}http_proxy: {written}")
    assert route.http_proxy == setting
    assert "hunter2" not in repr(route)
    assert reader.route(PLAIN, f"defaults:\n  http_proxy: {written}").http_proxy == setting
    assert reader.route(f"{PLAIN}http_proxy:", f"defaults:\n  http_proxy: {written}").http_proxy is None


@pytest.mark.parametrize("written", ["true", "3128", "[a]", "{a: b}"])
def test_what_is_no_text_is_no_http_proxy(reader, written):
    assert reader.route_fault(f"{PLAIN}http_proxy: {written}").startswith(
        "http_proxy: should be a URL such as"
    )


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("socks5://me:hunter2@proxy:1080", "should begin with http://"),
        ("https://me:hunter2@proxy:3128", "should begin with http://"),
        ("http://me:hunter2@proxy", "should be http://HOST:PORT"),
        ("hunter2", "should be http://HOST:PORT"),
        ("''", "should be http://HOST:PORT"),
    ],
)
def test_an_http_proxy_that_cannot_be_used_is_a_fault_that_does_not_quote_it(reader, written, says):
    fault = reader.route_fault(f"{PLAIN}http_proxy: {written}")
    assert fault.startswith(f"http_proxy: {says}")
    assert "hunter2" not in fault


@pytest.mark.parametrize(
    ("written", "listen"),
    [
        ("127.0.0.1:0", ("127.0.0.1:0",)),
        ("localhost:80", ("localhost:80",)),
        ("'[::1]:8080'", ("[::1]:8080",)),
        of_unix("unix:/run/a.sock", ("unix:/run/a.sock",)),
        ("['127.0.0.1:1', '127.0.0.1:2']", ("127.0.0.1:1", "127.0.0.1:2")),
    ],
)
def test_an_address_to_listen_on(reader, written, listen):
    assert reader.config(reader.with_route(PLAIN, f"listen: {written}")).listen == listen


@pytest.mark.parametrize(
    "written",
    ["8080", "localhost", "a:b", "a:99999", "::1:80", "'[::1]'", "'[x]:1'", "unix:x", "http://a:1", "[]"],
)
def test_what_is_no_address_is_refused(reader, written):
    assert reader.route_fault(PLAIN, f"listen: {written}").startswith("listen")


@pytest.mark.parametrize(
    ("top", "attribute", "value"),
    [
        ("admin: false", "admin", None),
        ("admin: true", "admin", Admin()),
        ("admin: {listen: 'localhost:1'}", "admin", Admin(listen="localhost:1")),
        ("limits: {body_bytes: none}", "limits", Limits()),
        ("limits: {body_bytes: 1MiB}", "limits", Limits(body_bytes=1 << 20)),
        ("allowed_hosts: [A.example, '*']", "allowed_hosts", ("a.example", "*")),
        ("allowed_origins: ['https://A.example:8443']", "allowed_origins", ("https://a.example:8443",)),
    ],
)
def test_a_key_of_the_top_level(reader, top, attribute, value):
    assert getattr(reader.config(reader.with_route(PLAIN, top)), attribute) == value


@pytest.mark.parametrize(
    ("top", "is_default"), [("", True), ("admin:", True), ("admin: {}", False), ("admin: false", False)]
)
def test_it_is_known_whether_the_admin_listener_was_asked_for(reader, top, is_default):
    assert reader.config(reader.with_route(PLAIN, top)).admin_is_default is is_default


@pytest.mark.parametrize(
    ("top", "fault"),
    [
        ("access: {tokens: []}", "access.tokens: should contain at least 1"),
        ("access: {tokens: ['']}", "access.tokens[0]: should not be empty"),
        ("access: {}", "access.tokens: is required (any one of these lets a caller through)"),
        (
            "allowed_origins: ['*']",
            (
                "allowed_origins[0]: should be an origin such as https://app.example.com: "
                "scheme, host and port, no path"
            ),
        ),
        (
            "allowed_origins: ['https://a/']",
            (
                "allowed_origins[0]: should be an origin such as "
                "https://app.example.com: scheme, host and port, no path"
            ),
        ),
        ("allowed_hosts: ['a:80']", "allowed_hosts[0]: should be a host name without scheme, port or path"),
        ("log: {level: loud}", "log.level: should be debug, info, warning or error"),
        ("tls: {cert_file: x}", "tls.key_file: is required (its private key, PEM)"),
        (
            "limits: {body_bytes: lots}",
            ("limits.body_bytes: should be a size: bytes, or a number with KiB, MiB or GiB, such as 64KiB"),
        ),
    ],
)
def test_a_faulty_key_of_the_top_level(reader, top, fault):
    assert fault in reader.route_faults(PLAIN, top)


@pytest.mark.parametrize(
    "path", ["x", "/x/", "//", "/a//b", "/a?b", "/a#b", "/a%20b", "/a/../b", "/.", "/a b", ""]
)
def test_a_route_is_not_mounted_at(reader, path):
    assert reader.route_fault(f"{PLAIN}path: '{path}'").startswith("path: should")


@pytest.mark.parametrize("path", ["/", "/a", "/a/b.c", "/a-b_c/~d"])
def test_a_route_is_mounted_at(reader, path):
    assert reader.route(f"{PLAIN}path: {path}").path == path


@pytest.mark.parametrize("host", ["a:80", "http://a", "a/b", "a b", ""])
def test_a_host_is_a_name_alone(reader, host):
    assert reader.route_fault(f"{PLAIN}host: '{host}'").startswith("host: should be a host name")


def test_a_host_is_compared_in_lower_case(reader):
    assert reader.route(f"{PLAIN}host: API.localhost").host == "api.localhost"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("x.example", f"{URL}; put https:// before it"),
        ("ftp://x", f"{URL}, and not with another scheme"),
        ("https://x:0", f"{URL}; its port should be a number from 1 to 65535"),
        (
            "https://u:p@x",
            "should not contain user information; give the credential under `auth`, as with `grant: basic`",
        ),
        (
            "https://x?a=b",
            "should not contain a query (?): clients send their own; a key for the API belongs under `auth`",
        ),
        ("https://x/#a", "should not contain a fragment (#); remove it"),
        ("https://x ", "should not begin or end with whitespace; remove it"),
        ("https://x/a b", "should not contain spaces, control characters or backslashes"),
    ],
)
def test_an_upstream_that_will_not_do(reader, url, fault):
    assert reader.route_fault(f"{NONE}upstream: '{url}'") == f"upstream: {fault}"


@pytest.mark.parametrize("name", ["Up42", "a_b", "", "a b"])
def test_a_name_that_will_not_do(reader, name):
    fault = reader.fault(f"routes: [{{name: '{name}', upstream: 'https://x', auth: {{grant: none}}}}]")
    assert fault.endswith("routes[0].name: should contain only lower-case letters, digits and hyphens")


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Transfer-Encoding", "Content-Length", "Host", "Upgrade", "TE", "Trailer"),
        *("Keep-Alive", "Proxy-Connection"),
    ],
)
@pytest.mark.parametrize("rules", ["headers", "response_headers"])
def test_a_header_that_frames_a_message_cannot_be_set(reader, name, rules):
    assert "the proxy writes that itself" in reader.route_fault(f"{PLAIN}{rules}: {{set: {{{name}: x}}}}")


def test_who_sets_host_is_told_of_preserve_host(reader):
    assert reader.route_fault(f"{PLAIN}headers: {{set: {{host: x}}}}").endswith(
        "for Host there is preserve_host"
    )


def test_a_header_is_set_once_in_whatever_spelling(reader):
    assert (
        reader.route_fault(f"{PLAIN}headers: {{set: {{X-A: a, x-a: b}}}}")
        == "headers: set names a header twice"
    )


def test_the_value_of_a_header_is_a_secret(reader):
    rules = reader.route(f"{PLAIN}headers: {{set: {{X-A: hunter2}}, remove: [Cookie]}}").headers
    assert rules.set["X-A"] == SecretStr("hunter2")
    assert rules.remove == ("Cookie",)
    assert "hunter2" not in repr(rules)


def test_a_value_that_no_header_can_carry_is_refused(reader):
    assert reader.route_fault(f'{PLAIN}headers: {{set: {{X-A: "a\\nb"}}}}') == (
        "headers.set.X-A: should not contain line breaks or control characters"
    )


@pytest.mark.parametrize(
    ("key", "attribute", "value"),
    [
        ("retry: false", "retry", None),
        ("retry: true", "retry", Retry()),
        ("retry: {statuses: [401, 403]}", "retry", Retry(statuses=(401, 403))),
        ("allow: {methods: [GET]}", "allow", AllowKeys(methods=("GET",))),
        ("allow: {paths: ['!/a', '/**']}", "allow", AllowKeys(paths=("!/a", "/**"))),
        ("timeouts: {connect: 500ms}", "timeouts", Timeouts(connect=0.5)),
    ],
)
def test_a_key_of_a_route(reader, key, attribute, value):
    assert getattr(reader.route(PLAIN + key), attribute) == value


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("allow: {methods: ['a b']}", "allow.methods[0]: should be a method, such as GET"),
        ("allow: {methods: ['']}", "allow.methods[0]: should be a method, such as GET"),
        (
            "allow: {paths: [v2]}",
            "allow.paths[0]: should be a pattern that begins with / or !/, such as /v2/**",
        ),
        ("retry: {statuses: [200]}", "retry.statuses[0]: should be at least 201"),
        ("timeouts: {connect: 0}", "timeouts.connect: should be more than 0"),
        (
            "tls: {ca_file: /no/where.pem}",
            "tls.ca_file: the file cannot be read: No such file or directory",
        ),
    ],
)
def test_a_faulty_key_of_a_route(reader, key, fault):
    assert reader.route_fault(PLAIN + key) == fault


def test_where_a_file_was_looked_for_is_told(reader):
    fault = reader.route_fault(f"{PLAIN}tls: {{ca_file: certs/nowhere.pem}}")
    told = "the file cannot be read: No such file or directory; it was looked for in"
    assert fault == f"tls.ca_file: {told} {reader.directory}"


def test_a_client_key_needs_its_certificate(reader):
    (reader.directory / "key.pem").write_text("x")
    assert reader.route_fault(f"{PLAIN}tls: {{key_file: key.pem}}") == "tls: key_file needs cert_file"


def test_a_relative_path_starts_from_the_configurations_directory(reader):
    (reader.directory / "ca.pem").write_text("x")
    assert reader.route(f"{PLAIN}tls: {{ca_file: ca.pem}}").tls.ca_file == str(reader.directory / "ca.pem")
    route = reader.route("upstream: https://x\nauth: {grant: file, path: later/token}")
    assert route.grant.path == str(reader.directory / "later/token")


def test_a_configuration_does_not_change(reader):
    config = reader.config(reader.with_route(PLAIN))
    with pytest.raises(FrozenInstanceError):
        config.routes[0].name = "other"


def test_no_secret_is_printed_with_the_configuration(reader):
    top = "access: {tokens: [hunter2]}"
    keys = "upstream: https://x\nheaders: {set: {X-A: hunter2}}\nauth: {grant: static, token: hunter2}"
    assert "hunter2" not in repr(reader.config(reader.with_route(keys, top)))


@pytest.mark.parametrize(
    ("store", "fault"),
    [
        ("{type: file, key: ''}", "token_store.key: should not be empty"),
        ("{type: redis, url: 'http://x', key: k}", "token_store.url: should begin with redis://"),
        ("{type: redis, url: 'redis://x'}", "token_store"),
        ("{type: disk}", "token_store"),
    ],
)
def test_a_token_store_that_cannot_be_is_a_fault(reader, store, fault):
    assert fault in reader.route_fault(PLAIN, f"token_store: {store}")


@pytest.mark.parametrize(
    ("written", "kept"),
    [("", None), ("none", None), ("0", None), ("64KiB", 64 << 10), ("16MiB", 16 << 20)],
)
def test_bodies_are_kept_where_a_route_says_so(reader, written, kept):
    assert reader.route(f"{PLAIN}inspect: {{bodies: {written}}}").inspect.bodies == kept
    assert reader.route(PLAIN).inspect.bodies is None


def test_a_body_that_would_take_all_the_room_is_a_fault(reader):
    assert "should be at most 16MiB" in reader.fault(reader.with_route(f"{PLAIN}inspect: {{bodies: 17MiB}}"))


# ── env ──────────────────────────────────────────────────────────────────────────────────────────


def test_env_is_variables_and_defaults_are_merged_one_by_one(reader):
    top = "defaults: {env: {A: '{url}', B: '{host}', C: x}}"
    route = reader.route(
        "upstream: https://a.example\nauth: {grant: none}\nenv: {B: mine, C: null, D: ''}", top
    )
    assert route.env == {"A": "{url}", "B": "mine", "D": ""}


@pytest.mark.parametrize(
    ("env", "fault"),
    [
        ("{2A: x}", "env.2A: should be the name of a variable"),
        (
            "{A: '{token}'}",
            "env.A: should hold {url}, {host}, {port} or {placeholder} and nothing else in braces",
        ),
        ("{A: 1}", "env.A: should be a string; put it in quotes"),
        ("[A]", "env: should be a mapping"),
    ],
)
def test_what_is_wrong_with_env_is_told_at_its_place(reader, env, fault):
    assert reader.route_fault(f"upstream: https://a.example\nauth: {{grant: none}}\nenv: {env}").startswith(
        fault
    )


def test_a_preset_may_bring_variables_and_the_users_win(reader, monkeypatch):
    known = dict(presets.presets())
    up42 = known["up42"]
    known["up42"] = replace(up42, route={**up42.route, "env": {"A": "{url}", "B": "{placeholder}"}})
    monkeypatch.setattr(presets, "_PRESETS", known)
    keys = "upstream: https://api.sa.up42.com\nauth: {preset: up42, username: a, password: b}"
    assert reader.route(keys).env == {"A": "{url}", "B": "{placeholder}"}
    assert reader.route(f"{keys}\nenv: {{A: mine, B: null}}").env == {"A": "mine"}
