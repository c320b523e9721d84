"""The top level of a configuration: its defaults, and what each key may be."""

from dataclasses import FrozenInstanceError

import pytest

from authproxy.config.model import FileStoreSettings, MemoryStoreSettings, RedisStoreSettings, address_of
from tests.support.systems import of_unix

REDIS = "token_store: {type: redis, url: 'redis://r:6379', key: open sesame}"
ROUTE = "upstream: https://a.example\nauth: {grant: none}"


@pytest.fixture
def top(reader):
    """Return a reader of the top level's keys."""
    return lambda keys="": reader.config(reader.with_route(ROUTE, keys))


@pytest.fixture
def fault(reader):
    """Return the one fault of the top level's keys, without its place."""
    return lambda keys: reader.fault(reader.with_route(ROUTE, keys)).partition(": ")[2]


def test_by_default_it_is_safe_for_one_user_of_one_machine(top):
    config = top()
    assert (config.listen, config.admin.listen) == (("127.0.0.1:8080",), "127.0.0.1:8081")
    assert (config.workers, config.access, config.tls, config.token_store) == (1, None, None, None)
    assert (config.allowed_hosts, config.allowed_origins, config.allow_remote) == ((), (), False)


def test_by_default_everything_is_bounded_but_a_body(top):
    limits = top().limits
    assert (limits.connections, limits.header_bytes, limits.body_bytes) == (1024, 32 << 10, None)
    assert (limits.header_timeout, limits.keepalive, limits.drain) == (10, 75, 30)


def test_a_configuration_is_never_changed(top):
    with pytest.raises(FrozenInstanceError):
        top().workers = 2


@pytest.mark.parametrize(
    ("keys", "listen"),
    [
        ("listen: 127.0.0.1:1", ("127.0.0.1:1",)),
        of_unix("listen: ['[::1]:1', 'unix:/run/a']", ("[::1]:1", "unix:/run/a")),
    ],
)
def test_one_address_or_several_are_listened_on(top, keys, listen):
    assert top(keys).listen == listen


def test_the_admin_listener_can_be_switched_off(top):
    assert top("admin: false").admin is None
    assert top("admin: {listen: '127.0.0.1:9'}").admin.listen == "127.0.0.1:9"


@pytest.mark.parametrize(("written", "limit"), [("none", None), ("1MiB", 1 << 20)])
def test_a_body_is_bounded_or_expressly_not(top, written, limit):
    assert top(f"limits: {{body_bytes: {written}}}").limits.body_bytes == limit


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ("token_store: {type: memory}", MemoryStoreSettings),
        ("token_store: {type: file}", FileStoreSettings),
        (REDIS, RedisStoreSettings),
    ],
)
def test_a_token_store_is_told_by_its_type(top, keys, kind):
    assert type(top(keys).token_store) is kind


@pytest.mark.parametrize("scheme", ["redis", "rediss", of_unix("unix")])
def test_a_redis_is_named_by_a_url_of_its_own_kinds(top, scheme):
    store = top(REDIS.replace("redis://", f"{scheme}://")).token_store
    assert store.url.get_secret_value() == f"{scheme}://r:6379"
    assert (store.prefix, "open sesame" in repr(store), "6379" in repr(store)) == ("authproxy:", False, False)


@pytest.mark.parametrize(("written", "origin"), [("https://App.Example", "https://app.example")])
def test_an_origin_is_compared_in_lower_case(top, written, origin):
    assert top(f"allowed_origins: ['{written}']").allowed_origins == (origin,)


def test_any_host_or_a_name_is_accepted(top):
    assert top("allowed_hosts: ['*', a.example]").allowed_hosts == ("*", "a.example")


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("listen: []", "listen"),
        ("workers: 0", "workers"),
        ("workers: many", "workers"),
        ("allowed_origins: ['https://a.example/path']", "allowed_origins[0]"),
        ("allowed_origins: ['a.example']", "allowed_origins[0]"),
        ("allowed_origins: ['*']", "allowed_origins[0]"),
        ("allowed_hosts: ['https://a.example']", "allowed_hosts[0]"),
        ("access: {tokens: []}", "access.tokens"),
        ("log: {level: loud}", "log.level"),
        ("log: {format: xml}", "log.format"),
        ("limits: {connections: 0}", "limits.connections"),
        ("limits: {header_timeout: 0}", "limits.header_timeout"),
        (REDIS.replace("redis://", "http://"), "token_store.url"),
        (REDIS.replace("r:6379", "r :6379"), "token_store.url"),
        (REDIS.replace(", key: open sesame", ""), "token_store.key"),
        ("token_store: {type: sql}", "token_store"),
        ("tls: {cert_file: /nonexistent}", "tls"),
        ("admin: {listne: '127.0.0.1:9'}", "admin.listne"),
    ],
)
def test_what_a_key_cannot_be_is_a_fault_at_that_key(reader, keys, key):
    found = reader.faults(reader.with_route(ROUTE, keys))
    assert found
    assert all(fault.partition(": ")[2].startswith(key) for fault in found)


def test_a_redis_that_is_none_does_not_show_its_password(fault):
    assert "s3cr3t" not in fault("token_store: {type: redis, url: 'http://:s3cr3t@r', key: open sesame}")


# ── what the admin listener remembers ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("keys", "keep"), [("", 500), ("admin: {keep: 0}", 0), ("admin: {keep: 10000}", 10000)]
)
def test_the_last_requests_are_remembered(top, keys, keep):
    assert top(keys).admin.keep == keep


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ("-1", "should be at least 0"),
        ("10001", "should be at most 10000"),
        ("true", "should be a whole number"),
        ("lots", "should be a whole number"),
    ],
)
def test_how_many_is_a_number_within_reason(fault, keep, said):
    assert said in fault(f"admin: {{keep: {keep}}}")


# ── listeners ────────────────────────────────────────────────────────────────────────────────────

OWN = """
listen: [{listen}]
routes:
- {{name: a, upstream: 'https://x', auth: {{grant: none}}, listen: '{a}'}}
- {{name: b, upstream: 'https://x', auth: {{grant: none}}, listen: '{b}'}}
"""


@pytest.mark.parametrize(
    ("a", "b", "own"),
    [
        ("127.0.0.1:1", "127.0.0.1:2", {"127.0.0.1:1": "a", "127.0.0.1:2": "b"}),
        ("127.0.0.1:0", "127.0.0.1:0", {"127.0.0.1:0 for a": "a", "127.0.0.1:0 for b": "b"}),
        of_unix("unix:/run/x for y:0", "unix:/run/b", {"unix:/run/x for y:0": "a", "unix:/run/b": "b"}),
    ],
)
def test_each_listener_is_known_by_a_name_of_its_own_and_by_whose_it_is(reader, a, b, own):
    config = reader.config(OWN.format(listen="'127.0.0.1:0', '127.0.0.1:0'", a=a, b=b))
    assert config.own_listeners == own
    assert config.listeners == {"127.0.0.1:0": ""} | own
    assert [address_of(each) for each in config.own_listeners] == [a, b]


@pytest.mark.parametrize(
    ("keys", "shared"),
    [
        ("", True),
        ("listen: 127.0.0.1:1", False),
        ("listen: 127.0.0.1:1\npath: /", True),
        ("listen: 127.0.0.1:1\nhost: a.example", True),
        ("listen: 127.0.0.1:1\nhost: null", False),
        ("listen: null", True),
    ],
)
def test_a_route_with_an_address_is_mounted_with_the_others_only_where_it_says_so(reader, keys, shared):
    assert reader.route(f"{ROUTE}\n{keys}").is_shared is shared


@pytest.mark.parametrize(
    ("top", "keys", "listen"),
    [
        ("", "listen: 127.0.0.1:1", ()),
        ("", "listen: 127.0.0.1:1\npath: /a", ("127.0.0.1:8080",)),
        ("listen: 127.0.0.1:7", "listen: 127.0.0.1:1", ("127.0.0.1:7",)),
        ("listen: []", "listen: 127.0.0.1:1\npath: /a", ()),
        ("defaults: {path: /a}", "listen: 127.0.0.1:1", ("127.0.0.1:8080",)),
        ("defaults: {listen: '127.0.0.1:0'}", "", ()),
    ],
)
def test_where_no_route_would_be_mounted_there_is_no_listener_for_them_unless_one_is_named(
    reader, top, keys, listen
):
    assert reader.config(reader.with_route(f"{ROUTE}\n{keys}", top)).listen == listen


def test_the_place_of_a_routes_address_is_known(reader):
    config = reader.config(reader.with_route(f"{ROUTE}\nlisten: 127.0.0.1:1"))
    assert config.place("routes[0].listen").endswith("proxy.yaml:6:13")


@pytest.mark.parametrize("given", ["Auto", "true", "[auto]", "'on'"])
def test_tls_of_the_listener_is_auto_or_a_mapping(reader, given):
    said = reader.route_fault("auth: {grant: none}\nupstream: https://x", f"tls: {given}")
    assert said == "tls: should be `auto`, or a mapping with cert_file and key_file"


def test_tls_auto_may_come_from_a_reference(reader):
    reader.environ = {"TLS": "auto"}
    text = reader.with_route("auth: {grant: none}\nupstream: https://x", "tls: ${TLS}")
    assert reader.config(text).tls == "auto"


@pytest.mark.parametrize(
    ("keys", "listen", "tunnels"),
    [
        ("true", "127.0.0.1:8888", True),
        ("{}", "127.0.0.1:8888", True),
        ("{unmatched: refuse}", "127.0.0.1:8888", False),
        ("{listen: '[::1]:0'}", "[::1]:0", True),
        ("{listen: '192.0.2.1:1'}", "192.0.2.1:1", False),
        ("{listen: '192.0.2.1:1', unmatched: tunnel}", "192.0.2.1:1", True),
    ],
)
def test_where_the_forward_proxy_takes_unmatched_hosts_depends_on_who_reaches_it(top, keys, listen, tunnels):
    found = top(f"access: {{tokens: [x]}}\nforward: {keys}").forward
    assert (found.listen, found.tunnels, found.ca) == (listen, tunnels, "ephemeral")


@pytest.mark.parametrize("keys", ["", "forward: false", "forward: null"])
def test_there_is_no_forward_proxy_unless_it_is_written(top, keys):
    assert top(keys).forward is None


def test_the_forward_proxys_listener_is_known_beside_others_at_free_ports(top):
    config = top("listen: 127.0.0.1:0\nforward: {listen: '127.0.0.1:0'}")
    assert len(config.listeners) == 2
    assert config.forward_listener not in config.listen
    assert address_of(config.forward_listener) == "127.0.0.1:0"
