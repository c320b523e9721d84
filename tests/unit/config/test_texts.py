"""Secrets that will not do are named where they stand, and never shown."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authproxy.config.traps import BLOCK, CUT_OFF
from authproxy.malformed import ESCAPES

BASE = "upstream: https://x\n"
LOGIN = "grant: token_request, url: https://x/t"
OAUTH = "token_url: https://x/t"
CLIENT = f"{BASE}auth: {{grant: client_credentials, {OAUTH}, client_id: %s, client_secret: %s}}"
PASSWORD = f"{BASE}auth: {{grant: password, {OAUTH}, client_id: a, username: %s, password: %s}}"
BASIC = f"{BASE}auth: {{grant: basic, username: %s, password: %s}}"
STATIC = f"{BASE}auth: {{grant: static, token: %s}}"
REF = "'${SECRET}'"

ASCII_CLIENT = "a client's id and secret contain printable ASCII only (RFC 6749 A.1, A.2)"
NO_CONTROLS = "a Basic credential contains no control character (RFC 7617 §2)"
USER = "a user's name and password contain no line break and no control character (RFC 6749 A.15, A.16)"
TOKEN = "a token contains printable ASCII only (RFC 6749 A.12, A.17)"
SECRET = "a secret contains no control character, nor a line break at its ends"
FILE = ", in the value of ${file:secret}: "
GIVES = "in the value of ${SECRET}"
MEANT_EMPTY = "set it, or write ${EMPTY:-} if it is meant to be empty"
STRAIGHT = "write \" or ' around it instead"
WHITE = "if it does not belong there, remove it"
MARK = "begins with a byte order mark (U+FEFF); save it as UTF-8 without one"
DOLLARS = "contains $$, which stands for one $; write $$$$ for two, or a plain $ for one"
NOBODY = "no header carries it, so that nobody could send this key"


def with_secret(reader, value):
    reader.environ = {"SECRET": value}
    return reader


def warnings(reader, keys, top=""):
    return [f"{each.key} {each.message}" for each in reader.config(reader.with_route(keys, top)).warnings]


GRANTS = {
    "client_secret": (CLIENT % ("a", REF), "auth.client_secret", ASCII_CLIENT),
    "client_id": (CLIENT % (REF, "a"), "auth.client_id", ASCII_CLIENT),
    "password": (PASSWORD % ("a", REF), "auth.password", USER),
    "username": (PASSWORD % (REF, "a"), "auth.username", USER),
    "basic": (BASIC % ("a", REF), "auth.password", NO_CONTROLS),
    "basic user": (BASIC % (REF, "a"), "auth.username", NO_CONTROLS),
    "refresh_token": (f"{BASE}auth: {{grant: refresh_token, {OAUTH}, refresh_token: {REF}}}",
                      "auth.refresh_token", TOKEN),
    "assertion": (f"{BASE}auth: {{grant: jwt_bearer, {OAUTH}, assertion: {REF}}}", "auth.assertion", TOKEN),
    "subject_token": (f"{BASE}auth: {{grant: token_exchange, {OAUTH}, subject_token: {REF}}}",
                      "auth.subject_token", TOKEN),
    "actor_token": (f"{BASE}auth: {{grant: token_exchange, {OAUTH}, subject_token: a, actor_token: {REF}}}",
                    "auth.actor_token", TOKEN),
    "params": (f"{BASE}auth: {{grant: client_credentials, {OAUTH}, params: {{key: {REF}}}}}",
               "auth.params.key", SECRET),
    "form": (f"{BASE}auth: {{{LOGIN}, form: {{pw: {REF}}}}}",
             "auth.form.pw", SECRET),
    "query": (f"{BASE}auth: {{{LOGIN}, query: {{pw: {REF}}}}}",
              "auth.query.pw", SECRET),
    "json": (f"{BASE}auth: {{{LOGIN}, json: {{a: [{{pw: {REF}}}]}}}}",
             "auth.json.a[0].pw", SECRET),
    "login": (f"{BASE}auth: {{{LOGIN}, basic: {{username: a, password: {REF}}}}}",
              "auth.basic.password", NO_CONTROLS),
    "preset's password": (f"{BASE}auth: {{preset: up42, username: a, password: {REF}}}",
                          "auth.password", USER),
    "preset's form": (f"{BASE}auth: {{preset: password-login, username: a, password: {REF}}}",
                      "auth.password", SECRET),
    "preset's client": (f"{BASE}auth: {{preset: code42-api-client, client_id: a, client_secret: {REF}}}",
                        "auth.client_secret", ASCII_CLIENT),
    "preset's basic": (f"{BASE}auth: {{preset: code42-user, username: a, password: {REF}}}",
                       "auth.password", NO_CONTROLS),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "key", "rule"), GRANTS.values(), ids=GRANTS)
def test_a_line_break_at_the_end_of_a_secret_is_a_fault_of_its_reference(reader, keys, key, rule):
    fault = with_secret(reader, "hunter2\n").route_fault(keys)
    assert fault == f"{key}: contains a line break at its end, {GIVES}: {rule}; remove it"


@pytest.mark.parametrize(("keys", "key", "rule"), GRANTS.values(), ids=GRANTS)
def test_a_secret_that_a_reference_leaves_empty_is_a_fault(reader, keys, key, rule):
    fault = with_secret(reader, "").route_fault(keys)
    way_out = "set it, or write ${SECRET:-} if it is meant to be empty"
    assert fault == f"{key}: is empty: ${{SECRET}} gave nothing; {way_out}"


@pytest.mark.parametrize(("keys", "key", "rule"), GRANTS.values(), ids=GRANTS)
def test_a_blank_at_the_end_of_a_secret_is_named(reader, keys, key, rule):
    assert warnings(with_secret(reader, "hunter2 "), keys) == [
        f"routes[0].{key} ends in whitespace, {GIVES}; {WHITE}"
    ]


@pytest.mark.parametrize(("keys", "key", "rule"), GRANTS.values(), ids=GRANTS)
def test_a_control_character_in_a_secret_is_a_fault(reader, keys, key, rule):
    fault = with_secret(reader, "hun\x07ter2").route_fault(keys)
    what = "a control character at character 4, in the value of ${SECRET}"
    assert fault == f"{key}: contains {what}: {rule}"


@pytest.mark.parametrize(("keys", "key", "rule"), GRANTS.values(), ids=GRANTS)
def test_an_ordinary_secret_is_not_remarked_upon(reader, keys, key, rule):
    assert warnings(with_secret(reader, "hun ter2$/+é"[: -1 if rule == TOKEN else None]), keys) == (
        []
        if rule != ASCII_CLIENT
        else [f"routes[0].{key} contains a character that is not ASCII at its end, {GIVES}: {rule}"]
    )


@pytest.mark.parametrize("scheme", ["file", "command", "env"])
def test_a_byte_order_mark_is_a_fault_wherever_it_comes_from(reader, program, scheme):
    (reader.directory / "secret").write_bytes(b"\xef\xbb\xbfhunter2\n")
    program("cat secret")
    reader.environ = {"SECRET": "\ufeffhunter2"}
    reference = {"file": "${file:secret}", "command": "${command:./program}", "env": "${SECRET}"}[scheme]
    fault = reader.route_fault(STATIC % f"'{reference}'")
    assert fault == (f"auth.token: the value of {reference} {MARK}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hunter2\n\n", f"auth.client_secret: contains a line break at its end{FILE}"),
        (b"hunter2\r\n\r\n", f"auth.client_secret: contains a line break at its end{FILE}"),
        (b"\nhunter2\n", f"auth.client_secret: contains a line break at its start{FILE}"),
        (b"hunter2\nx\ny\tz\n", f"auth.client_secret: contains a line break in line 1{FILE}"),
        (b"", "auth.client_secret: is empty: ${file:secret} gave nothing"),
        (b"\n", "auth.client_secret: is empty: ${file:secret} gave nothing"),
    ],
)  # fmt: skip
def test_a_file_that_holds_more_or_less_than_a_secret_is_named(reader, content, said):
    (reader.directory / "secret").write_bytes(content)
    fault = reader.route_fault(CLIENT % ("a", "'${file:secret}'"))
    assert fault.startswith(said)
    assert "hunter" not in fault


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (CLIENT % ("a", '"b\\n"'),
         f"auth.client_secret: contains a line break at its end: {ASCII_CLIENT}; {ESCAPES}"),
        (CLIENT % ("a", '"b\\tc"'),
         f"auth.client_secret: contains a tab at character 2: {ASCII_CLIENT}; {ESCAPES}"),
        (BASIC % ('"a\\tb"', "c"), f"auth.username: contains a tab at character 2: {NO_CONTROLS}; {ESCAPES}"),
        (STATIC % "“b”",
         f"auth.token: contains a typographic quotation mark at its start: {TOKEN}; {STRAIGHT}"),
        (f"{BASE}auth:\n  grant: basic\n  username: a\n  password: |\n    b",
         f"auth.password: contains a line break at its end: {NO_CONTROLS}; {BLOCK}"),
        (STATIC % '"é"', f"auth.token: contains a character that is not ASCII at its end: {TOKEN}"),
        (STATIC % '" \\n"', "auth.token: should not be empty"),
        (STATIC % "''", "auth.token: should not be empty"),
        (STATIC % "'${NOBODY:-}'", "auth.token: should not be empty"),
        (f"{BASE}auth: {{grant: refresh_token, {OAUTH}, refresh_token: ''}}",
         "auth.refresh_token: should not be empty"),
        (f"{BASE}auth: {{grant: none}}\nheaders: {{set: {{X-Key: '${{EMPTY}}'}}}}",
         "headers.set.X-Key: is empty: ${EMPTY} gave nothing; " + MEANT_EMPTY),
        (STATIC % "'prefix-${EMPTY}'",
         "auth.token: is empty: ${EMPTY} gave nothing; " + MEANT_EMPTY),
    ],
)  # fmt: skip
def test_what_stands_in_the_file_itself_is_judged_alike(reader, keys, fault):
    assert reader.route_fault(keys) == fault


@pytest.mark.parametrize(
    "keys",
    [
        BASIC % ("sk_live", "''"),  # an API's key as the user, and no password: that is common
        BASIC % ("''", "token"),
        BASIC % ("sk_live", "'${NOBODY:-}'"),
        CLIENT % ("a", "''"),  # RFC 6749 §2.3.1 allows it, and `cf` is such a client
        f"{BASE}auth: {{grant: none}}\nheaders: {{set: {{X-Key: ''}}}}",
        STATIC % '" token \\n"',  # taken off before it is sent
    ],
)
def test_an_emptiness_that_somebody_wrote_is_meant(reader, keys):
    assert warnings(reader, keys) == []


@pytest.mark.parametrize(
    ("top", "fault"),
    [
        ("access: {tokens: [good, '${SECRET}']}",
         f"access.tokens[1]: ends in whitespace, {GIVES}: {NOBODY}"),
        ('access: {tokens: ["a\\nb"]}',
         f"access.tokens[0]: contains a line break in line 1: {NOBODY}; {ESCAPES}"),
        ('token_store: {type: file, key: "${SECRET}\\n"}',
         f"token_store.key: contains a line break at its end: {SECRET}; {ESCAPES}"),
        ("token_store: {type: redis, url: 'redis://:${SECRET}@x/', key: k}",
         "token_store.url: should not contain spaces, control characters or backslashes (from ${SECRET})"),
    ],
)  # fmt: skip
def test_keys_beside_the_routes_are_judged_too(reader, top, fault):
    found = with_secret(reader, "hunter2 ").route_faults(f"{BASE}auth: {{grant: none}}", top)
    assert found == [fault]


def test_the_password_of_a_proxy_is_not_sent_without_its_line_break(reader):
    fault = with_secret(reader, "hunter2\n").route_fault(
        f"{BASE}auth: {{grant: none}}\nhttp_proxy: 'http://me:${{SECRET}}@proxy.example:3128'"
    )
    assert (
        fault == "http_proxy: should not contain spaces, control characters or backslashes (from ${SECRET})"
    )


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (f"{BASE}auth: {{grant: none}}\nheaders: {{set: {{X-Key: {REF}}}}}",
         "headers.set.X-Key: should not contain line breaks or control characters (from ${SECRET})"),
        (f"{BASE}auth: {{grant: none}}\nmax_connections: {REF}",
         "max_connections: should be a whole number (from ${SECRET})"),
    ],
)  # fmt: skip
def test_any_fault_of_what_a_reference_gave_names_it(reader, keys, fault):
    assert with_secret(reader, "hunter\n2").route_fault(keys) == fault


def test_a_key_for_signing_may_be_framed_by_line_breaks(reader):
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    keys = f"{BASE}auth: {{grant: jwt_bearer, {OAUTH}, issuer_claim: a, key: {REF}}}"
    assert warnings(with_secret(reader, f"\n{key.decode()}\n\n"), keys) == []


def test_what_a_document_says_besides_is_nobodys_secret(reader):
    auth = (
        f"{BASE}auth: {{{LOGIN}, json: {{query: \"mutation {{ login(pw: ${{SECRET}}) }}\\n\", note: 'a '}}}}"
    )
    assert warnings(with_secret(reader, "hunter2"), auth) == []
    told = "auth.json.query: contains a line break at its end, in the value of ${SECRET}: "
    assert with_secret(reader, "hunter2\n").route_fault(auth) == f"{told}{SECRET}; remove it"


# ── dollars ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("$SECRET", "$SECRET is plain text; the variable is ${SECRET}"),
        ("Bearer $SECRET", "$SECRET is plain text; the variable is ${SECRET}"),
        # Nobody set these, but they look like it; they may be a password for all that, so they are not shown.
        ("$UP42_PASSWORD", "a $ without braces is plain text; a variable is ${NAME}"),
        ("$TOKEN", "a $ without braces is plain text; a variable is ${NAME}"),
        ("a$UP42_PASSWORD", "a $ without braces is plain text; a variable is ${NAME}"),
    ],
)
def test_a_variable_without_braces_is_named(reader, text, told):
    found = warnings(with_secret(reader, "hunter2"), STATIC % f"'{text}'")
    assert found == [f"routes[0].auth.token {told}"]


@pytest.mark.parametrize(
    "text", ["pa$word", "P$SWORD", "$1", "a$", "$ecret", "5$ and $", "$${SECRET}", "$$SECRET"]
)
def test_a_plain_dollar_is_not_remarked_upon(reader, text):
    assert warnings(with_secret(reader, "hunter2"), STATIC % f"'{text}'") == []


def test_a_variable_in_what_a_shell_is_told_is_the_shells(reader):
    auth = "auth: {grant: command, command: [sh, -c, 'echo $SECRET']}"
    assert warnings(with_secret(reader, "hunter2"), BASE + auth) == []


@pytest.mark.parametrize("text", ["pa$$word", "$$ecret", "a$$", "a$$$b", "a$$1"])
def test_a_doubled_dollar_in_a_password_is_named(reader, text):
    told = f"routes[0].auth.password {DOLLARS}"
    assert warnings(reader, BASIC % ("a", f"'{text}'")) == [told]


def test_four_dollars_are_two_and_meant(reader):
    assert warnings(reader, BASIC % ("a", "'pa$$$$word'")) == []


def test_a_doubled_dollar_elsewhere_is_nobodys_password(reader):
    assert warnings(reader, f"{BASE}auth: {{grant: none}}\nallow: {{hint: 'it costs $$5'}}") == []


def test_dollars_of_a_reference_are_not_looked_into(reader):
    assert warnings(with_secret(reader, "a$$b$SECRET"), BASIC % ("a", REF)) == []


# ── read again ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", [b"", b"\n", b"new\n\n", b"\xef\xbb\xbfnew\n", b"n\x00w"])
async def test_a_rotated_secret_that_will_not_do_is_not_taken_and_told_once(reader, caplog, content):
    (reader.directory / "secret").write_text("old")
    route = reader.route(CLIENT % ("a", "'${file:secret}'"))
    (reader.directory / "secret").write_bytes(content)
    assert await route.reread() is None
    assert await route.reread() is None
    (told,) = caplog.records
    assert told.levelname == "WARNING"
    assert "${file:secret}" in told.facts["cause"]
    (reader.directory / "secret").write_text("new\n")
    assert (await route.reread()).client_secret.get_secret_value() == "new"


# ── comments ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("hunter2 #secret", [f"routes[0].auth.password {CUT_OFF}"]),
        ("hunter2 # the team's", []),
        ("hunter2#secret", []),
        ("'hunter2' #secret", []),
        ("${PASSWORD} #secret", []),
    ],
)
def test_a_secret_that_a_comment_cuts_off_is_named(reader, password, told):
    keys = f"{BASE}auth:\n  grant: basic\n  username: joe\n  password: {password}"
    assert warnings(reader, keys) == told
