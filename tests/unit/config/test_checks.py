import socket
from datetime import timedelta

import pytest
from pydantic import SecretStr

from authproxy.capabilities import Capability
from authproxy.config import checks
from authproxy.config.document import Item
from authproxy.config.read import load
from authproxy.malformed import ADDRESS
from authproxy.masking import Leaf
from authproxy.net.authority import Permitted
from tests.support.signers import CA, DAY, NOW, SIGNS, Signer
from tests.support.systems import needs_owners, of_unix

NONE = "auth: {grant: none}\nupstream: https://x\n"
STATIC = "auth: {grant: static, token: x}\n"
REMOTE = (
    "lets other machines use the credentials; listen on 127.0.0.1, or set `access` "
    "(callers must send a key), or `allow_remote: true`"
)
CLEAR = "would carry the credential over plain http to another machine; use https, or set `insecure: true`"


@pytest.mark.parametrize("address", ["0.0.0.0:80", "':80'", "'[::]:80'", "192.0.2.1:80", "example.com:80"])
@pytest.mark.parametrize(
    ("key", "place"), [("listen: {}", "listen"), ("admin: {{listen: {}}}", "admin.listen")]
)
def test_listening_for_other_machines_needs_to_be_said(reader, address, key, place):
    top = key.format(address)
    assert reader.route_faults(NONE, top) == [f"{place}: {REMOTE}"]
    reader.route(NONE, f"{top}\nallow_remote: true")
    reader.route(NONE, f"{top}\naccess: {{tokens: [x]}}")


def test_the_address_of_a_list_is_pointed_at(reader):
    assert reader.route_fault(NONE, "listen: ['127.0.0.1:1', '0.0.0.0:2']").startswith("listen[1]: lets")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:80",
        "127.9.9.9:80",
        "localhost:80",
        "'[::1]:80'",
        of_unix("unix:/a/b"),
    ],
)
def test_listening_on_this_machine_needs_nothing(reader, address):
    reader.route(NONE, f"listen: {address}")


@pytest.mark.parametrize(
    ("top", "fault"),
    [
        ("listen: ['127.0.0.1:1', '127.0.0.1:1']", "listen[1]: {}, by `listen[0]` (127.0.0.1:1)"),
        of_unix("listen: ['unix:/a', 'unix:/a']", "listen[1]: {}, by `listen[0]` (unix:/a)"),
        ("listen: 127.0.0.1:8081", "admin: {}, by `listen` (127.0.0.1:8081)"),
        ("listen: ['localhost:1', '[::1]:1']", "listen[1]: {}, by `listen[0]` (localhost:1)"),
        ("listen: ['127.0.0.1:1', 'localhost:1']", "listen[1]: {}, by `listen[0]` (127.0.0.1:1)"),
        (
            "listen: 127.0.0.1:1\nadmin: {listen: '127.0.0.1:1'}",
            "admin.listen: {}, by `listen` (127.0.0.1:1)",
        ),
    ],
)
def test_an_address_is_listened_on_once_and_it_is_told_by_whom(reader, top, fault):
    assert reader.route_fault(NONE, top) == fault.replace("{}", "is already listened on")


def test_port_0_may_be_asked_for_again_and_again(reader):
    reader.route(NONE, "listen: ['127.0.0.1:0', '127.0.0.1:0']\nadmin: {listen: '127.0.0.1:0'}")


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (f"{STATIC}upstream: http://x", f"upstream: {CLEAR}"),
        (
            "upstream: https://x\nauth: {grant: token_request, url: 'http://x'}",
            f"auth.url: {CLEAR}",
        ),
        (
            (
                "upstream: https://x\nauth: {grant: client_credentials, token_url: 'http://x', "
                "client_id: a, client_secret: b}"
            ),
            f"auth.token_url: {CLEAR}",
        ),
    ],
)
def test_no_credential_travels_in_the_clear(reader, keys, fault):
    assert reader.route_fault(keys) == fault
    assert reader.route(f"{keys}\ninsecure: true").insecure


@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost:9", "api.localhost:9", "[::1]:9"])
def test_plain_http_will_do_on_this_machine(reader, host):
    reader.route(f"{STATIC}upstream: http://{host}")


def test_plain_http_will_do_without_a_credential(reader):
    reader.route("auth: {grant: none}\nupstream: http://x")


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080", "http://localhost:8080/x"),
        ("localhost:8080", "http://[::1]:8080"),
        ("127.0.0.1:80", "http://localhost"),
        ("127.0.0.1:443", "https://localhost"),
        ("127.0.0.1:1", "http://localhost:8081"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:8080", "http://0.0.0.0:8080"),
        ("192.0.2.1:8080", "http://192.0.2.1:8080"),
        ("192.0.2.1:8080", "http://[::ffff:192.0.2.1]:8080"),
        ("192.0.2.1:8080", "http://0xc0000201:8080"),
        ("myself.example:8080", "http://MySelf.example.:8080"),
        ("127.0.0.1:8080", "http://127.1:8080"),
        ("127.0.0.1:8080", "http://127.0.1:8080"),
        ("127.0.0.1:8080", "http://0x7f.1:8080"),
        ("127.0.0.1:8080", "http://0x7F000001:8080"),
        ("127.0.0.1:8080", "http://0177.0.0.1:8080"),
        ("127.0.0.1:8080", "http://017700000001:8080"),
        ("127.0.0.1:8080", "http://2130706433:8080"),
        ("127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080"),
        ("127.0.0.1:8080", "http://[::ffff:7f00:1]:8080"),
        ("'[::1]:8080'", "http://[0:0:0:0:0:0:0:1]:8080"),
        ("'[::]:8080'", "http://127.0.0.2:8080"),
        ("0.0.0.0:8080", "http://127.0.0.2:8080"),
        ("localhost:8080", "http://127.0.0.1:8080"),
        ("'[::1]:8080'", "http://localhost:8080"),
        ("127.0.0.1:8080", "http://0:8080"),
        ("127.0.0.1:8080", "http://0x0:8080"),
        ("'[::1]:8080'", "http://[::]:8080"),
        ("127.0.0.1:8080", "http://[::ffff:0.0.0.0]:8080"),
        ("127.0.0.1:8080", "http://ip6-localhost:8080"),
        ("127.0.0.1:8080", "http://localhost.localdomain:8080"),
        ("0.0.0.0:8080", f"http://{socket.gethostname()}:8080"),
        ("'[::]:8080'", f"http://{socket.gethostname().upper()}.local:8080"),
    ],
)
def test_the_proxy_does_not_forward_to_itself(reader, listen, upstream):
    top = f"listen: {listen}\nallow_remote: true"
    fault = reader.route_fault(f"auth: {{grant: none}}\nupstream: {upstream}", top)
    assert fault.startswith("upstream: is the")
    assert fault.endswith("requests would loop back to the proxy")


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8082"),
        ("127.0.0.1:8080", "http://192.0.2.1:8080"),
        ("192.0.2.1:8080", "http://127.0.0.1:8080"),
        of_unix("unix:/a", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080", "http://127.0.0.2:8080"),
        ("127.0.0.1:8080", "http://[::1]:8080"),
        ("127.0.0.1:8080", "http://[::]:8080"),
        ("'[::1]:8080'", "http://127.0.0.1:8080"),
        ("127.0.0.2:8080", "http://localhost:8080"),
        ("localhost:8080", "http://127.0.0.2:8080"),
        ("192.0.2.1:8080", "http://0.0.0.0:8080"),
        ("127.0.0.1:8080", "http://127.1:8082"),
        ("127.0.0.1:8080", "http://128.1:8080"),
        ("127.0.0.1:8080", "http://0xc0000201:8080"),
        ("127.0.0.1:8080", "http://dead.beef:8080"),
        ("127.0.0.1:8080", f"http://{socket.gethostname()}:8080"),  # it may be the name of another address
        ("0.0.0.0:8080", "http://192.0.2.1:8080"),
        ("0.0.0.0:8080", "http://api.example:8080"),
    ],
)
def test_another_server_is_not_taken_for_the_proxy(reader, listen, upstream):
    reader.route(f"auth: {{grant: none}}\nupstream: {upstream}", f"listen: {listen}\nallow_remote: true")


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ("auth: {grant: client_credentials, client_id: a, client_secret: b, token_url: 'http://127.1:8080/t'}",
         "auth.token_url"),
        ("auth: {grant: client_credentials, client_id: a, client_secret: b, issuer: 'http://localhost:8080'}",
         "auth.issuer"),
        ("auth: {grant: token_request, url: 'http://[::ffff:127.0.0.1]:8080/login'}", "auth.url"),
        ("auth: {grant: none}\nhttp_proxy: http://127.1:8080", "http_proxy"),
        ("auth: {grant: none}\nhttp_proxy: http://me:secret@localhost:8080", "http_proxy"),
    ],
)  # fmt: skip
def test_nor_does_it_ask_itself_for_tokens_or_take_itself_for_an_http_proxy(reader, keys, place):
    keys = f"upstream: https://api.example\ninsecure: true\n{keys}"
    fault = reader.route_fault(keys, "listen: 127.0.0.1:8080")
    assert fault == f"{place}: is the proxy's own listener: requests would loop back to the proxy"


def test_a_loop_is_told_once_where_it_comes_from(reader):
    auth = "auth: {preset: password-login, username: a, password: b}"
    fault = reader.route_fault(f"upstream: http://localhost:8080\n{auth}", "listen: 127.0.0.1:8080")
    assert fault.startswith("upstream: is the")


def test_the_header_of_the_credential_is_not_set_twice(reader):
    keys = f"{STATIC}upstream: https://x\nheaders: {{set: {{authorization: x}}}}"
    assert reader.route_fault(keys) == "headers.set.authorization: is already set by `auth`"
    reader.route(f"{NONE}headers: {{set: {{authorization: x}}}}")


def test_nor_in_another_spelling(reader):
    keys = "upstream: https://x\nauth: {grant: static, token: x, header: X-Key}\nheaders: {set: {x_KEY: y}}"
    assert reader.route_fault(keys) == "headers.set.x_KEY: is already set by `auth`"


@pytest.mark.parametrize("header", ["Host", "content_length"])
def test_the_credential_does_not_go_into_a_framing_header(reader, header):
    keys = f"upstream: https://x\nauth: {{grant: static, token: x, header: {header}}}"
    assert reader.route_fault(keys) == "auth.header: names a header that the proxy writes itself"


@pytest.mark.parametrize(
    ("access", "auth", "place"),
    [
        ("X-Api-Key", "X-Api-Key", "routes[0].auth.header"),
        ("X-Api-Key", "x_api_KEY", "routes[0].auth.header"),
        ("x_api_key", "X-Api-Key", "routes[0].auth.header"),
        (None, "X_Authproxy_Key", "routes[0].auth.header"),
        ("authorization", None, "access.header"),
        ("authorization", "Authorization", "routes[0].auth.header"),
    ],
)
def test_the_callers_key_and_the_upstreams_token_do_not_share_a_header(reader, access, auth, place):
    top = f"access: {{tokens: [x]{f', header: {access}' if access else ''}}}"
    route = f"upstream: https://x\nauth: {{grant: static, token: x{f', header: {auth}' if auth else ''}}}"
    fault = reader.fault(reader.with_route(route, top)).partition(": ")[2]
    assert fault.startswith(
        f"{place}: would carry both the caller's key (`access.header`) and the upstream's"
    )


def test_every_route_that_would_send_its_token_in_the_keys_header_is_named(reader):
    key = "auth: {grant: static, token: x, header: X-Key}"
    routes = [
        f"  - {{name: a, path: /a, upstream: 'https://x', {key}}}",
        f"  - {{name: b, path: /b, upstream: 'https://x', {STATIC.strip()}}}",
        f"  - {{name: c, path: /c, upstream: 'https://x', {key}}}",
        "  - {name: d, path: /d, upstream: 'https://x', auth: {grant: none}}",
    ]
    text = "\n".join(["access: {tokens: [x], header: X-Key}", "routes:", *routes])
    places = [fault.split(": ")[1] for fault in reader.faults(text)]
    assert places == ["routes[0].auth.header", "routes[2].auth.header"]


def test_a_header_that_only_callers_use_is_nobodys_fault(reader):
    reader.route(f"{NONE}", "access: {tokens: [x], header: Authorization}")
    reader.route(f"{STATIC}upstream: https://x", "access: {tokens: [x]}")
    reader.route(
        f"{STATIC}upstream: https://x\nheaders: {{set: {{X-Authproxy-Key: y}}}}", "access: {tokens: [x]}"
    )


def test_the_key_is_not_read_from_a_framing_header(reader):
    top = "access: {tokens: [x], header: Host}"
    fault = reader.fault(reader.with_route(NONE, top))
    assert fault.endswith("access.header: names a header that the proxy writes itself")


@pytest.mark.parametrize("key", ["headers", "response_headers"])
@pytest.mark.parametrize("name", ["Content-Length", "host", "content_length"])
def test_no_message_loses_what_makes_it_whole(reader, key, name):
    fault = reader.route_fault(f"{NONE}{key}: {{remove: [X-A, {name}]}}")
    assert fault.startswith(f"{key}: remove should not name {name.lower().replace('_', '-')}")


def test_a_proxy_of_the_environment_that_cannot_be_used_is_a_fault_where_it_is_needed(reader):
    reader.environ = {"HTTPS_PROXY": "socks5://joe:hunter2@proxy:1080", "ALL_PROXY": "proxy"}
    oauth = "auth: {grant: client_credentials, client_id: a, token_url: 'https://id.example/token'}\n"
    faults = reader.route_faults(f"upstream: https://api.example\n{oauth}")
    assert len(faults) == 2
    assert all("HTTPS_PROXY, in the environment, should begin with http://" in fault for fault in faults)
    assert [fault.partition(":")[0] for fault in faults] == ["upstream", "auth.token_url"]
    assert "hunter2" not in str(faults)
    plain = reader.route_fault("upstream: http://api.example\nauth: {grant: none}")
    assert "ALL_PROXY, in the environment, should be http://HOST:PORT" in plain
    reader.route(f"upstream: https://api.example\nhttp_proxy: none\n{oauth}")
    reader.route(f"upstream: https://api.example\nhttp_proxy: http://proxy:1\n{oauth}")
    reader.route(f"upstream: https://localhost\n{oauth.replace('id.example', '127.0.0.1')}")
    reader.environ |= {"NO_PROXY": "example"}
    reader.route(f"upstream: https://api.example\n{oauth}")


@pytest.mark.parametrize(("proxy", "clear"), [("http://proxy:1", True), ("http://127.0.0.1:1", False)])
def test_a_credential_does_not_go_to_a_proxy_of_another_machine_in_the_clear(reader, proxy, clear):
    keys = f"{STATIC}upstream: http://localhost:1\nhttp_proxy: {proxy}"
    if clear:
        assert reader.route_fault(keys) == f"upstream: {CLEAR}"
        reader.route(f"{keys}\ninsecure: true")
        reader.route(keys.replace("http://localhost", "https://localhost"))
    else:
        reader.route(keys)


def test_workers_are_a_fault_where_processes_cannot_be_forked(reader, monkeypatch):
    monkeypatch.setattr(checks, "WORKERS", Capability(present=False, lack="no fork"))
    fault = reader.route_fault(NONE, "workers: 4")
    assert fault.startswith("workers: should be 1 or auto: no fork; start it several times")
    for possible in ("1", "auto"):
        reader.route(NONE, f"workers: {possible}")


# ── secrets that others can read ─────────────────────────────────────────────────────────────────


def leaf(value, *, name="", file="a.yaml", **item):
    return Leaf(value, name=name, place=Item(value, file, "key", 3, 7, **item))


def exposed(*leaves, to_others=True):
    return [str(fault) for fault in checks.exposed_secrets(leaves, to_others=to_others)]


IN_FILE = "a.yaml:3:7: key: is a secret in a file that others can read: "
IN_FILE += "chmod 600 a.yaml, or write ${NAME} or ${file:PATH} instead"


def test_the_first_secret_that_stands_in_an_open_file_is_named():
    assert exposed(leaf(SecretStr("x")), leaf(SecretStr("y"))) == [IN_FILE]
    assert exposed(leaf(SecretStr("x")), to_others=False) == []


def test_one_on_the_command_line_is_always_named():
    (told,) = exposed(leaf(SecretStr("x"), file="command line"), to_others=False)
    assert told.endswith(
        "is a secret that other users see in the list of processes; write ${NAME}, in single quotes"
    )


@pytest.mark.parametrize(
    "found",
    [
        leaf("text"),  # a field that is not printed may hold anything
        leaf(SecretStr("")),
        leaf(SecretStr("x"), sources=frozenset({"env"})),
        leaf(SecretStr("x"), sources=frozenset({"file"})),
        leaf(SecretStr("geo"), name="X-Team"),
        leaf(SecretStr("urn:x"), name="requested_token_type"),
        leaf(SecretStr("redis://127.0.0.1:6379/0")),
    ],
)
def test_no_secret_is_what_a_reference_gave_or_what_is_not_known_for_one(found):
    assert exposed(found) == []


@pytest.mark.parametrize(
    "found",
    [
        leaf(SecretStr("x"), name="Authorization"),
        leaf(SecretStr("x"), name="X-Api-Key"),
        leaf(SecretStr("x"), name="client_secret"),
        leaf(SecretStr("x"), name="PASSWORD"),
        leaf(SecretStr("redis://:secret@127.0.0.1:6379/0")),
    ],
)
def test_a_secret_is_known_by_its_name_or_by_what_stands_in_it(found):
    assert exposed(found) == [IN_FILE]


@pytest.mark.parametrize(
    ("inject", "told"),
    [
        ("{basic: {username: oauth2, password: '{token}'}}", False),
        ("{header: Authorization, value: 'Bearer {token}'}", False),
        ("{header: X-T, value: '{response:/t}'}", False),
        ("{header: X-Key, value: 'a-s3cr3t:{token}'}", True),
    ],
)
def test_a_template_without_words_of_its_own_is_no_secret(reader, inject, told):
    keys = f"upstream: https://x\nauth: {{grant: command, command: [a], inject: [{inject}]}}"
    file = reader.directory / "open.yaml"
    file.write_text(reader.with_route(keys))
    file.chmod(0o644)
    warned = [str(each) for each in load(file, environ={}).warnings]
    assert any("is a secret in a file that others can read" in each for each in warned) is told


# ── a route's own address ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:1",
        "127.0.0.1:2",
        "localhost:1",
        "127.1:1",
        "[::ffff:127.0.0.1]:2",
        "0.0.0.0:1",
        ":2",
    ],
)
def test_a_routes_own_address_is_no_other_listeners_in_any_spelling(reader, address):
    top = "listen: 127.0.0.1:1\nadmin: {listen: '127.0.0.1:2'}\nallow_remote: true"
    by = "`admin.listen` (127.0.0.1:2)" if address.endswith("2") else "`listen` (127.0.0.1:1)"
    fault = reader.route_fault(f"{NONE}\nlisten: '{address}'", top)
    assert fault == f"listen: is already listened on, by {by}"


@pytest.mark.parametrize("address", ["127.0.0.1:3", "127.0.0.2:1", "[::1]:1", "127.0.0.1:0"])
def test_another_address_is_free_for_a_route(reader, address):
    reader.route(f"{NONE}\nlisten: '{address}'", "listen: 127.0.0.1:1\nadmin: {listen: '127.0.0.1:2'}")


def test_two_routes_have_one_address_each_but_both_may_have_a_free_port(reader):
    def two(address):
        return "routes:" + "".join(
            f"\n- {{name: {name}, upstream: 'https://x', auth: {{grant: none}}, listen: '{address}'}}"
            for name in "ab"
        )

    by = "`routes[0].listen` (127.0.0.1:7)"
    assert reader.fault(two("127.0.0.1:7")) == f"3:65: routes[1].listen: is already listened on, by {by}"
    reader.config(two("127.0.0.1:0"))


def test_a_routes_own_address_is_for_this_machine_unless_others_may(reader):
    keys = f"{NONE}\nlisten: '192.0.2.1:7'"
    assert reader.route_fault(keys).startswith("listen: lets other machines use the credentials")
    reader.route(keys, "allow_remote: true")


def test_a_route_has_to_be_somewhere(reader):
    [fault] = reader.faults(reader.with_route(NONE, "listen: []"))
    assert fault == "1:9: listen: should name an address: the route api has none of its own"


@pytest.mark.parametrize("upstream", ["http://127.0.0.1:7", "http://localhost:7/x", "http://127.1:7"])
def test_a_routes_own_listener_is_no_upstream(reader, upstream):
    keys = f"upstream: {upstream}\nauth: {{grant: none}}\nlisten: '127.0.0.1:7'"
    assert reader.route_fault(keys) == (
        "upstream: is the listener of the route api: requests would loop back to the proxy"
    )


UNCERTIFIED = "has no certificate with `tls: auto`"


@pytest.mark.parametrize(
    ("top", "host", "places"),
    [
        ("tls: auto", "x.localhost", []),
        ("tls: auto", "api.example", ["routes[0].host"]),
        ("tls: auto\nallowed_hosts: [localhost, team.example, '*']", "localhost", ["allowed_hosts[1]"]),
        ("tls: auto\nallow_remote: true\nlisten: ['127.0.0.9:1', '0.0.0.0:2']", "localhost", ["listen[1]"]),
        ("tls: auto\nallow_remote: true\nlisten: ':2'", "localhost", ["listen"]),
        ("allow_remote: true\nlisten: '0.0.0.0:2'", "api.example", []),
        ("tls: auto\nallow_remote: true", "localhost\nlisten: '0.0.0.0:2'", ["routes[0].listen"]),
    ],
)
def test_what_the_local_authority_cannot_sign_for_is_told(reader, top, host, places):
    found = reader.config(reader.with_route(f"host: {host}\n{NONE}", top)).warnings
    assert [each.key for each in found if each.message.startswith(UNCERTIFIED)] == places


# ── variables for programs ───────────────────────────────────────────────────────────────────────

HANDED_ON = "would hand ${PASSWORD} on, which gives a secret of this configuration: {placeholder} stands in"
A_SECRET = "would hand a secret of this configuration on: {placeholder} stands in"


@pytest.mark.parametrize(
    ("auth", "value", "fault"),
    [
        ("{grant: static, token: '${PASSWORD}'}", "${PASSWORD}", HANDED_ON),
        ("{grant: static, token: '${PASSWORD}'}", "x-${PASSWORD}-y", HANDED_ON),
        ("{grant: static, token: a-literal-secret}", "Bearer a-literal-secret", A_SECRET),
        ("{grant: static, token: '${file:secret}'}", "${file:secret}", A_SECRET),
        ("{grant: static, token: '${file:secret}'}", "${file:./secret}", A_SECRET),
        ("{grant: basic, username: '${USER_NAME}', password: '${PASSWORD}'}", "${USER_NAME}", None),
        ("{grant: static, token: short}", "a short word", None),
        ("{grant: static, token: '${PASSWORD}'}", "{placeholder}", None),
    ],
)
def test_no_variable_hands_a_secret_on(reader, auth, value, fault):
    (reader.directory / "secret").write_text("of-more-than-eight\n")
    keys = f"upstream: https://api.example\nauth: {auth}\nenv: {{KEY: '{value}'}}"
    if fault is None:
        assert reader.route(keys).env == {"KEY": value.replace("${USER_NAME}", "joe")}
        return
    text = reader.with_route(keys)
    [told] = reader.faults(text)
    assert told.startswith(f"6:16: routes[0].env.KEY: {fault}")


def test_a_secret_of_another_route_is_one_too(reader):
    text = """
routes:
  - {name: a, path: /a, upstream: 'https://a.example', auth: {grant: static, token: '${PASSWORD}'}}
  - {name: b, path: /b, upstream: 'https://b.example', auth: {grant: none}, env: {KEY: '${PASSWORD}'}}
"""
    assert reader.fault(text).startswith(f"4:88: routes[1].env.KEY: {HANDED_ON}")


def test_a_header_of_the_configuration_is_no_secret_by_its_length(reader):
    keys = (
        "upstream: https://api.example\nauth: {grant: none}\n"
        "headers: {set: {X-Tenant: the-name-of-it}}\nenv: {TENANT: the-name-of-it}"
    )
    assert reader.route(keys).env == {"TENANT": "the-name-of-it"}


@pytest.mark.parametrize(
    ("top", "fault"),
    [
        (
            "forward: {listen: '127.0.0.1:8080'}",
            "forward.listen: is already listened on, by `listen` (127.0.0.1:8080)",
        ),
        (
            "listen: 127.0.0.1:8888\nforward: true",
            "forward: is already listened on, by `listen` (127.0.0.1:8888)",
        ),
        (
            "forward: {listen: '127.0.0.1:8081'}",
            "forward.listen: is already listened on, by `admin` (127.0.0.1:8081)",
        ),
        ("forward: {listen: '0.0.0.0:8888'}", f"forward.listen: {REMOTE}"),
        (
            "forward: {listen: ['127.0.0.1:1', '127.0.0.1:2']}",
            f"forward.listen: {ADDRESS}; one address, not a list",
        ),
        (
            "forward: 8888",
            "forward: should be true, false or a mapping with keys such as listen, unmatched, ca",
        ),
    ],
)
def test_the_forward_proxy_has_an_address_of_its_own_as_others_have(reader, top, fault):
    assert reader.route_faults(NONE, top) == [fault]


def test_a_forward_proxy_for_other_machines_takes_nobody_anywhere_without_a_key(reader):
    top = "allow_remote: true\nforward: {listen: '0.0.0.0:8888'%s}"
    (fault,) = reader.route_faults(NONE, top % ", unmatched: tunnel")
    assert fault.startswith("forward.unmatched: would let other machines go anywhere")
    reader.route(NONE, top % "")
    reader.route(NONE, top % ", unmatched: refuse")
    reader.route(NONE, top % ", unmatched: tunnel" + "\naccess: {tokens: [x]}")


def test_no_route_leads_to_the_forward_proxy(reader):
    (fault,) = reader.route_faults("auth: {grant: none}\nupstream: http://localhost:8888\n", "forward: true")
    assert fault.startswith("upstream: is the forward proxy's own listener")


def test_a_route_whose_place_in_forward_mode_is_taken_is_a_warning(reader):
    routes = (
        "forward: true\nroutes:\n"
        "- {name: a, path: /a, upstream: 'https://x/v1', auth: {grant: none}}\n"
        "- {name: b, path: /b, upstream: 'https://X:443/v1/', auth: {grant: none}}\n"
        "- {name: c, path: /c, upstream: 'https://x/v2', auth: {grant: none}}\n"
    )
    said = [str(each) for each in reader.config(routes).warnings]
    assert len(said) == 1
    assert said[0].endswith(
        "routes[1].upstream: is that of the route a too; in forward mode a gets its requests"
    )
    assert not reader.config(routes.replace("forward: true", "")).warnings


@needs_owners
@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o600, False), (0o640, False)])
def test_an_authoritys_key_that_others_can_read_is_a_warning(reader, tmp_path, mode, warned):
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "a key.pem").write_text("")
    (tmp_path / "a key.pem").chmod(mode)
    top = "forward: {ca: {cert_file: ca.pem, key_file: 'a key.pem'}}"
    said = [str(each) for each in reader.config(reader.with_route(NONE, top)).warnings]
    assert len(said) == warned
    for each in said:
        assert "1:45: forward.ca.key_file: is an authority's private key that others can read" in each
        assert each.endswith("a key.pem'")


LIMITED = Permitted(("x",), ()).extension()
LONG = NOW + timedelta(days=40)


@pytest.mark.parametrize(
    ("settings", "doubt"),
    [
        ({"ends": LONG}, "may sign for any host (it has no name constraints): whoever gets its key can be"),
        ({"extensions": (CA, SIGNS, LIMITED)}, "ends soon, at "),
        ({"ends": LONG, "extensions": (CA, SIGNS, LIMITED)}, None),
        ({"begins": NOW - 2 * DAY, "ends": NOW - DAY, "extensions": (CA, SIGNS, LIMITED)}, None),
    ],
)
def test_an_authority_that_may_sign_too_much_or_not_for_long_is_a_warning(reader, tmp_path, settings, doubt):
    root = Signer("root", **settings)
    (tmp_path / "ca.pem").write_bytes(root.pem)
    (tmp_path / "key.pem").write_bytes(root.key_pem())
    (tmp_path / "key.pem").chmod(0o600)
    top = "forward: {ca: {cert_file: ca.pem, key_file: key.pem}}"
    said = [str(each) for each in reader.config(reader.with_route(NONE, top)).warnings]
    assert len(said) == (doubt is not None)
    assert all(f":1:27: forward.ca.cert_file: {doubt}" in each for each in said)


BODIES = "auth: {grant: none}\nupstream: https://x\nrewrite: {bodies: [application/json]}\n"


@pytest.mark.parametrize(
    ("allow", "is_told"),
    [
        ("", True),
        ("allow: {paths: [/x]}", True),
        ("allow: {methods: [GET, PUT]}", True),
        ("allow: {methods: [purge]}", True),
        ("allow: {methods: [GET, HEAD, OPTIONS, PROPFIND]}", False),
        ("allow: {methods: []}", False),
    ],
)
def test_what_is_read_with_our_urls_and_may_be_written_back_is_a_warning(reader, allow, is_told):
    said = [str(each) for each in reader.config(reader.with_route(BODIES + allow)).warnings]
    assert len(said) == is_told
    assert all("routes[0].rewrite.bodies: is on where requests may write" in each for each in said)
    nothing = BODIES.replace("application/json", "")
    assert not reader.config(reader.with_route(nothing + allow)).warnings


@pytest.mark.parametrize(
    ("keys", "key", "method"),
    [
        ("allow: {methods: [GET, get]}", "allow.methods[1]", "GET"),
        ("allow: {methods: [Propfind]}", "allow.methods[0]", "PROPFIND"),
        ("stand_in: [{path: /a}, {path: /b, methods: [post]}]", "stand_in[1].methods[0]", "POST"),
    ],
)
def test_a_method_in_small_letters_is_warned_about(reader, keys, key, method):
    auth = "auth: {grant: command, command: [a]}"
    [warning] = reader.config(reader.with_route(f"upstream: https://x\n{auth}\n{keys}")).warnings
    said = "fits no request: methods are case-sensitive; write"
    assert str(warning).endswith(f"routes[0].{key}: {said} {method}")


@pytest.mark.parametrize("methods", ["[GET, PROPFIND]", "[Frobnicate, purge]"])
def test_methods_as_clients_send_them_and_those_of_others_are_fine(reader, methods):
    keys = f"upstream: https://x\nauth: {{grant: none}}\nallow: {{methods: {methods}}}"
    assert not reader.config(reader.with_route(keys)).warnings
