from itertools import product

import pytest

from authproxy.config.meant import names_at
from authproxy.grants.token_request import TokenRequest

SWITCH = "yes, no, on, off, true and false are switches in YAML"
DURATION = "duration: seconds, or a number with ms, s, m, h or d, such as 500ms or 5m"
NONE = "auth: {grant: none}\nupstream: https://x\n"
OAUTH = "grant: client_credentials, token_url: https://x, client_id: a, client_secret: b"


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("headers: {sett: {}}", "headers.sett: unknown key; did you mean `set`?"),
        ("upstrem: x", "upstrem: unknown key; did you mean `upstream`?"),
        (
            "tls: {zzz: 1}",
            ("tls.zzz: unknown key; the keys here are ca_file, cert_file, key_file, server_name, verify"),
        ),
        ("host: 5", "host: should be a string; put it in quotes: YAML reads a number"),
        (
            "host: true",
            f"host: should be a string; put it in quotes: {SWITCH}",
        ),
        ("host: 2024-01-01", "host: should be a string; put it in quotes: YAML reads a date"),
        ("host: [a]", "host: should be a string: if it is one, put it in quotes, as a [ begins a list"),
        ("host:\n- a", "host: should be a string"),
        ("headers: []", "headers: should be a mapping with keys such as set, remove"),
        (
            "rewrite: bodies",
            "rewrite: should be true, false or a mapping with keys such as headers, bodies, max",
        ),
        (
            "rewrite: {bodies: true}",
            "rewrite.bodies: should be a list of media types, such as [application/json]",
        ),
        ("rewrite: {bodies: application/json}", "rewrite.bodies: should be a list; put [ ] around it"),
        ("headers: {set: 1}", "headers.set: should be a mapping of `name: value`"),
        (
            "headers: {X-Team: geo}",
            "headers.X-Team: unknown key; the names of headers stand under `set`: `set: {X-Team: …}`",
        ),
        ("headers: {set: {a b: c}}", "headers.set.a b: should be a header name: letters, digits and hyphens"),
        ("headers: {remove: x}", "headers.remove: should be a list; put [ ] around it"),
        ("headers: {remove: true}", "headers.remove: should be a list"),
        (
            "stand_in: true",
            "stand_in: should be a list of logins, such as [{path: /v1/oauth}], or false",
        ),
        (
            "headers: {remove: {x: y}}",
            "headers.remove: should be a list, not a mapping; begin each entry with `- `",
        ),
        ("prefetch: treu", "prefetch: should be true or false; did you mean true?"),
        (
            "retry: {methods: idempotant}",
            "retry.methods: should be all or idempotent; did you mean idempotent?",
        ),
        ("host: '${EMPTY}'", "host: is empty: ${EMPTY} gave nothing; set it"),
        ("prefetch: maybe", "prefetch: should be true or false"),
        ("prefetch: []", "prefetch: should be true or false"),
        ("max_connections: many", "max_connections: should be a whole number"),
        ("max_connections: 1.5", "max_connections: should be a whole number"),
        ("max_connections: true", "max_connections: should be a whole number"),
        ("max_connections: 0", "max_connections: should be at least 1"),
        ("retry: {statuses: [600]}", "retry.statuses[0]: should be at most 599"),
        ("retry: {methods: some}", "retry.methods: should be all or idempotent"),
        ("timeouts: {idle: 5 weeks}", "timeouts.idle: should be a " + DURATION),
    ],
)
def test_a_fault_is_said_in_plain_words(reader, key, fault):
    assert reader.route_fault(NONE + key) == fault


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("scope: 5", "auth.scope: should be a string; put it in quotes: YAML reads a number"),
        ("scope: {}", "auth.scope: should be a string or a list"),
        ("scope: [a, 5]", "auth.scope[1]: should be a string; put it in quotes: YAML reads a number"),
        ("refresh_before: soon", "auth.refresh_before: should be auto or a " + DURATION),
        (
            "response: {token: [x]}",
            (
                "auth.response.token[0]: should be a JSON Pointer (RFC 6901), such as "
                '/access_token; "" is the whole document'
            ),
        ),
        ("hints: [{status: 1}]", "auth.hints[0].say: is required (what to tell the user)"),
    ],
)
def test_of_alternatives_that_all_fail_one_fault_is_told_at_the_deepest_place(reader, key, fault):
    assert reader.route_fault(f"upstream: https://x\nauth: {{{OAUTH}, {key}}}") == fault


def test_a_missing_key_points_at_the_mapping_it_is_missing_from(reader):
    text = "routes:\n  - name: a\n    upstream: https://x\n    auth: {grant: static}\n"
    assert reader.fault(text) == "4:11: routes[0].auth.token: is required (the token, as it was issued)"


def test_an_unknown_key_points_at_the_key(reader):
    text = "routes:\n  - name: a\n    upstream: https://x\n    auth: {grant: static, token: x, tokem: y}\n"
    assert reader.fault(text) == "4:37: routes[0].auth.tokem: unknown key; did you mean `token`?"


def test_a_value_is_never_repeated(reader):
    secret = "hunter2-and-more"
    places = [
        *("name", "path", "host", "upstream", "strip_path", "headers", "response_headers", "allow", "retry"),
        *("timeouts", "tls", "preserve_host", "insecure", "max_connections", "prefetch", "auth"),
    ]
    for place in places:
        keys = {"name": "a", "upstream": "https://x", "auth": "{grant: none}"} | {place: f"'{secret} {{'"}
        text = "routes:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in keys.items())
        assert not [fault for fault in reader.faults(text) if secret in fault], place


@pytest.mark.parametrize("grant", ["password", "client_credentials", "token_request", "static", "basic"])
def test_no_value_of_auth_is_ever_repeated(reader, grant):
    keys = sorted(
        names_at(TokenRequest, ()) | {"token_url", "client_auth", "scope", "resource", "params", "token"}
    )
    values = ("'hunter2 {'", "[hunter2]", "{hunter2: {}}", "{value: hunter2, token: hunter2}")
    auths = [f"{{grant: {grant}, {key}: {value}, zz: 1}}" for key, value in product(keys, values)]
    routes = [
        f"- {{name: a{number}, path: /{number}, upstream: 'https://x', auth: {auth}}}"
        for number, auth in enumerate(auths)
    ]
    faulty = set()
    for fault in reader.faults("\n".join(["routes:", *routes])):
        number = int(fault.partition(":")[0]) - 2
        faulty.add(number)
        assert "hunter2" not in fault.split(": ", 2)[-1], auths[number]
    assert faulty == set(range(len(auths)))


def test_the_rest_of_a_password_with_a_comma_is_not_taken_for_a_key(reader):
    fault = reader.route_fault(f"upstream: https://x\nauth: {{{OAUTH}, scope: hunter2,more}}")
    assert fault == (
        "auth: a comma ends a value within { }, and what follows is a key; "
        "if it belongs to the value before it, put that in quotes"
    )


@pytest.mark.parametrize(
    ("store", "fault"),
    [
        ("{type: reddis}", "token_store.type: should be memory, file or redis; did you mean redis?"),
        ("{path: x}", "token_store.type: is required: memory, file or redis"),
        (
            "{type: memory, path: x}",
            "token_store.path: unknown key with `type: memory`; it goes with file",
        ),
        (
            "{type: memory, key: x}",
            "token_store.key: unknown key with `type: memory`; it goes with file or redis",
        ),
        ("{type: file, pat: x}", "token_store.pat: unknown key; did you mean `path`?"),
        ("{type: memory, pat: x}", "token_store.pat: unknown key; the keys here are type"),
        ("hunter2", "token_store: should be a mapping with keys such as type, path, key, url"),
    ],
)
def test_a_key_that_tells_kinds_apart_is_told_by_itself(reader, store, fault):
    assert fault in reader.route_faults(NONE, f"token_store: {store}")


def test_each_key_that_is_missing_in_one_of_several_kinds_is_told_by_itself(reader):
    faults = reader.route_faults(NONE, "token_store: {type: redis}")
    told = {fault.partition(" (")[0] for fault in faults}
    assert told == {"token_store.url: is required", "token_store.key: is required"}
    assert any("the same for all replicas" in fault for fault in faults), "as that kind describes it"
    assert "by default" not in "".join(faults), "which is said of another one"
