import pytest

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
    "address", ["127.0.0.1:80", "127.9.9.9:80", "localhost:80", "'[::1]:80'", "unix:/a/b"]
)
def test_listening_on_this_machine_needs_nothing(reader, address):
    reader.route(NONE, f"listen: {address}")


@pytest.mark.parametrize(
    ("top", "fault"),
    [
        ("listen: ['127.0.0.1:1', '127.0.0.1:1']", "listen[1]: is an address that is listened on already"),
        ("listen: ['unix:/a', 'unix:/a']", "listen[1]: is an address that is listened on already"),
        ("listen: 127.0.0.1:8081", "admin: is an address that is listened on already"),
        ("listen: ['localhost:1', '[::1]:1']", "listen[1]: is an address that is listened on already"),
        ("listen: ['127.0.0.1:1', 'localhost:1']", "listen[1]: is an address that is listened on already"),
        (
            "listen: 127.0.0.1:1\nadmin: {listen: '127.0.0.1:1'}",
            "admin.listen: is an address that is listened on already",
        ),
    ],
)
def test_an_address_is_listened_on_once(reader, top, fault):
    assert reader.route_fault(NONE, top) == fault


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
    ],
)
def test_the_proxy_does_not_forward_to_itself(reader, listen, upstream):
    top = f"listen: {listen}\nallow_remote: true"
    fault = reader.route_fault(f"auth: {{grant: none}}\nupstream: {upstream}", top)
    assert fault.startswith("upstream: is the")
    assert fault.endswith("requests would go round in circles")


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8082"),
        ("127.0.0.1:8080", "http://192.0.2.1:8080"),
        ("192.0.2.1:8080", "http://127.0.0.1:8080"),
        ("unix:/a", "http://127.0.0.1:8080"),
    ],
)
def test_another_server_is_not_taken_for_the_proxy(reader, listen, upstream):
    reader.route(f"auth: {{grant: none}}\nupstream: {upstream}", f"listen: {listen}\nallow_remote: true")


def test_the_header_of_the_credential_is_not_set_twice(reader):
    keys = f"{STATIC}upstream: https://x\nheaders: {{set: {{authorization: x}}}}"
    assert reader.route_fault(keys) == "headers.set.authorization: is the header that `auth` sets already"
    reader.route(f"{NONE}headers: {{set: {{authorization: x}}}}")


def test_the_credential_does_not_go_into_a_framing_header(reader):
    keys = "upstream: https://x\nauth: {grant: static, token: x, header: Host}"
    assert reader.route_fault(keys) == "auth.header: names a header that the proxy writes itself"


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
