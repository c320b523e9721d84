import json
import re
from urllib.parse import parse_qsl

import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from authproxy.config.document import Item, plain
from authproxy.config.env_templates import fields_of, template
from authproxy.config.presets import Preset, PresetKey, presets
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.password import Password
from authproxy.grants.static import Basic, Static
from authproxy.grants.steps import Now
from authproxy.grants.token_request import BasicLogin, OneTimePassword

UNSET = "set it, or give a default: ${NOBODY:-…}"

CLIENT = "client_id: key-1, client_secret: s"
LOGIN = "username: joe, password: hunter2"
NOW = 1_700_000_000
TOTP_SECRET = "JBSWY3DPEHPK3PXP"


def preset_route(reader, auth, upstream="https://api.example.com/"):
    return reader.route(f"upstream: {upstream}\nauth: {{{auth}}}")


def first_step(grant):
    return next(grant.flow(None))


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "path", "lifetime"),
    [("code42-api-client", "/api/v3/oauth/token", 900.0), ("incydr-api-client", "/v1/oauth", 900.0)],
)
def test_an_api_client_asks_with_raw_basic_and_everything_in_the_query(reader, name, path, lifetime):
    grant = preset_route(reader, f"preset: {name}, client_id: 'key-1 é', client_secret: 's:/+'").grant
    assert isinstance(grant, ClientCredentials)
    assert (grant.scheme, grant.default_lifetime) == ("Bearer", lifetime)
    ask = first_step(grant)
    assert ask.method == "POST"
    assert ask.url == f"https://api.example.com{path}?grant_type=client_credentials"
    assert ask.body is None
    assert ask.headers == {"Accept": "application/json", "Authorization": "Basic a2V5LTEgw6k6czovKw=="}


def test_a_code42_user_asks_with_basic_and_takes_the_token_from_the_body(reader):
    grant = preset_route(reader, f"preset: code42-user, {LOGIN}").grant
    assert (grant.scheme, grant.default_lifetime) == ("Bearer", 1800.0)
    assert grant.basic == BasicLogin(username="joe", password=SecretStr("hunter2"))
    assert grant.response.token == ("/v3_user_token", "/data/v3_user_token")
    ask = first_step(grant)
    assert (ask.method, ask.url, ask.body) == (
        "GET",
        "https://api.example.com/api/v3/auth/jwt?useBody=true",
        None,
    )
    assert ask.headers == {"Accept": "application/json", "Authorization": "Basic am9lOmh1bnRlcjI="}


@pytest.mark.parametrize(
    ("totp", "made"),
    [
        ("'123456'", {"code": SecretStr("123456")}),
        ("'12345678'", {"code": SecretStr("12345678")}),
        (TOTP_SECRET, {"secret": SecretStr(TOTP_SECRET)}),
        (f"{{secret: {TOTP_SECRET}}}", {"secret": SecretStr(TOTP_SECRET)}),
        ("{code: '123456'}", {"code": SecretStr("123456")}),
    ],
)
def test_the_second_factor_is_a_code_or_a_secret(reader, totp, made):
    grant = preset_route(reader, f"preset: code42-user, {LOGIN}, totp: {totp}").grant
    assert grant.totp == OneTimePassword(header="totp-auth", **made)


def test_the_second_factor_may_go_into_another_header(reader):
    totp = f"{{header: X-Code, secret: {TOTP_SECRET}}}"
    grant = preset_route(reader, f"preset: code42-user, {LOGIN}, totp: {totp}").grant
    assert grant.totp.header == "X-Code"


@pytest.mark.parametrize("totp", ["", "~"])
def test_without_a_second_factor_there_is_none(reader, totp):
    assert preset_route(reader, f"preset: code42-user, {LOGIN}, totp: {totp}").grant.totp is None
    assert preset_route(reader, f"preset: code42-user, {LOGIN}").grant.totp is None


def test_the_users_places_stand_instead_of_the_presets_scheme(reader):
    own = "inject: [{query: key}]"
    route = preset_route(reader, f"preset: calendar42-user-token, token: t, {own}")
    assert [place.said for place in route.grant.places] == ["the query parameter key"]
    with_preset = preset_route(reader, "preset: calendar42-user-token, token: t")
    assert [place.scheme for place in with_preset.grant.places] == ["Token"]


def test_a_code_without_quotes_is_told_of_them(reader):
    fault = reader.route_fault(f"upstream: https://x\nauth: {{preset: code42-user, {LOGIN}, totp: 123456}}")
    assert fault.endswith("totp: should be a string; put it in quotes")


@pytest.mark.parametrize(
    "word", ["TIME_BASED_ONE_TIME_PASSWORD_REQUIRED", "TOTP_AUTH_CONFIGURATION_REQUIRED_FOR_USER"]
)
def test_a_missing_second_factor_has_a_hint(reader, word):
    hints = preset_route(reader, f"preset: code42-user, {LOGIN}").grant.hints
    assert any(hint.contains == word and "`totp`" in hint.say for hint in hints)


def test_code42_basic_keeps_away_from_v3_and_warns(reader):
    route = preset_route(reader, f"preset: code42-basic, {LOGIN}")
    assert route.grant == Basic(username="joe", password=SecretStr("hunter2"))
    assert route.allow.paths == ("/api/v3/auth/jwt", "!/api/v3", "!/api/v3/**", "/**")
    assert "code42-user" in route.allow.hint
    assert "deprecated" in route.warnings[0]


@pytest.mark.parametrize(
    ("name", "scheme"), [("calendar42-user-token", "Token"), ("calendar42-action-token", "ActionToken")]
)
def test_a_calendar42_token_has_a_word_of_its_own(reader, name, scheme):
    route = preset_route(reader, f"preset: {name}, token: abc")
    assert route.grant == Static(scheme=scheme, token=SecretStr("abc"))


def test_up42_logs_in_at_its_own_host_with_its_public_client(reader):
    grant = preset_route(reader, f"preset: up42, {LOGIN}").grant
    assert isinstance(grant, Password)
    ask = first_step(grant)
    assert ask.url == "https://auth.sa.up42.com/realms/public/protocol/openid-connect/token"
    assert ask.body == b"grant_type=password&username=joe&password=hunter2&client_id=up42-api"
    assert {hint.status for hint in grant.hints} == {401, 404, 415}


def test_up42s_client_can_be_another(reader):
    assert preset_route(reader, f"preset: up42, {LOGIN}, client_id: mine").grant.client_id == "mine"


def test_a_password_login_posts_a_form(reader):
    ask = first_step(preset_route(reader, f"preset: password-login, {LOGIN}").grant)
    assert (ask.method, ask.url) == ("POST", "https://api.example.com/authorization")
    assert ask.body == b"username=joe&password=hunter2"


def test_a_password_login_may_go_into_the_query(reader):
    ask = first_step(preset_route(reader, f"preset: password-login, {LOGIN}, params_in: query").grant)
    assert ask.url == "https://api.example.com/authorization?username=joe&password=hunter2"
    assert ask.body is None


@pytest.mark.parametrize("preset", ["code42-user", "code42-basic", "atlassian-api-token"])
def test_a_name_with_a_colon_cannot_be_sent_as_basic(reader, preset):
    keys = "email: 'dom:joe', token: s" if "atlassian" in preset else "username: 'dom:joe', password: s"
    fault = reader.route_fault(f"upstream: https://x\nauth: {{preset: {preset}, {keys}}}")
    key = "email" if "atlassian" in preset else "username"
    assert fault.endswith(f"auth.{key}: a username for Basic must not contain a colon (RFC 7617 §2)")


# ── values that go into a URL ────────────────────────────────────────────────────────────────────

OF_A_CLIENT = "client_id: id-1, client_secret: s"
KEYCLOAK = f"preset: keycloak, {OF_A_CLIENT}"
OKTA = f"preset: okta-m2m, scope: a, {OF_A_CLIENT}"


@pytest.mark.parametrize(
    ("auth", "url"),
    [
        (
            f"{KEYCLOAK}, server: 'https://id.example/', realm: my realm",
            "https://id.example/realms/my%20realm/protocol/openid-connect/token",
        ),
        (
            f"{KEYCLOAK}, server: 'https://id.example:8443/auth//', realm: 'é/x?y#z%20'",
            "https://id.example:8443/auth/realms/%C3%A9%2Fx%3Fy%23z%2520/protocol/openid-connect/token",
        ),
        (
            f"{KEYCLOAK}, server: 'https://id.example', realm: 7",
            "https://id.example/realms/7/protocol/openid-connect/token",
        ),
        (
            f"{OKTA}, domain: 'acme.okta.com:8443', server: a b",
            "https://acme.okta.com:8443/oauth2/a%20b/v1/token",
        ),
        (
            f"preset: entra-client-credentials, tenant_id: 'a/b', scope: a, {OF_A_CLIENT}",
            "https://login.microsoftonline.com/a%2Fb/oauth2/v2.0/token",
        ),
    ],
)
def test_what_goes_into_a_url_is_encoded_for_its_place(reader, auth, url):
    assert preset_route(reader, auth).grant.token_url == url


A_URL = "should be an absolute URL that begins with https:// or http://"
A_HOST = "should be a host alone, such as id.example.com"
A_NAME = "should be a name: it is a segment of the path of a URL"


@pytest.mark.parametrize(
    ("auth", "key", "message"),
    [
        (f"{KEYCLOAK}, realm: a, server: id.example", "server", f"{A_URL}; put https:// before it"),
        (f"{KEYCLOAK}, realm: a, server: 'https://id.example?a'", "server", "should not contain a query"),
        (f"{KEYCLOAK}, realm: a, server: 'https://i d'", "server", "should not contain spaces"),
        (f"{KEYCLOAK}, realm: '', server: 'https://id.example'", "realm", A_NAME),
        (f"{KEYCLOAK}, realm: .., server: 'https://id.example'", "realm", A_NAME),
        (f"{KEYCLOAK}, realm: [a], server: 'https://id.example'", "realm", "should be a string"),
        (f"preset: up42, {LOGIN}, auth_host: 'https://auth.up42.com'", "auth_host", A_HOST),
        (f"preset: up42, {LOGIN}, auth_host: auth.up42.com/", "auth_host", A_HOST),
        (f"preset: up42, {LOGIN}, auth_host: ''", "auth_host", A_HOST),
        (f"preset: up42, {LOGIN}, auth_host: 'auth.up42.com:x'", "auth_host", A_HOST),
        (f"preset: up42, {LOGIN}, auth_host: 'a b'", "auth_host", "should not contain spaces"),
        (f"preset: up42, {LOGIN}, auth_host: 'joe@auth.up42.com'", "auth_host", A_HOST),
        (f"preset: auth0-m2m, audience: a, {OF_A_CLIENT}, domain: 'https://a.b/'", "domain", A_HOST),
        (f"{OKTA}, domain: acme.okta.com, server: .", "server", A_NAME),
    ],
)
def test_what_cannot_go_there_is_told_of_the_key_that_was_written(reader, auth, key, message):
    fault = reader.route_fault(f"upstream: https://api.example.com\nauth: {{{auth}}}")
    assert f"auth.{key}: {message}" in fault
    assert "token_url" not in fault


def test_a_value_that_goes_nowhere_is_not_judged(reader):
    route = preset_route(
        reader, f"preset: up42, {LOGIN}, auth_host: '-/-', token_url: 'https://id.example/t'"
    )
    assert route.grant.token_url == "https://id.example/t"


# ── well-known systems: what the stand-ins cannot hold, as they have hosts of their own ───────────

SECRET = "client_id: id-1, client_secret: s"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("auth", "url", "body", "authorization"),
    [
        (
            f"preset: keycloak, server: https://id.example, realm: acme, {SECRET}",
            "https://id.example/realms/acme/protocol/openid-connect/token",
            "grant_type=client_credentials&client_id=id-1&client_secret=s",
            None,
        ),
        (
            f"preset: auth0-m2m, domain: acme.eu.auth0.com, audience: urn:orders, {SECRET}",
            "https://acme.eu.auth0.com/oauth/token",
            "grant_type=client_credentials&audience=urn%3Aorders&client_id=id-1&client_secret=s",
            None,
        ),
        (
            f"preset: okta-m2m, domain: acme.okta.com, scope: a b, {SECRET}",
            "https://acme.okta.com/oauth2/default/v1/token",
            "grant_type=client_credentials&scope=a+b",
            "aWQtMTpz",
        ),
        (
            f"preset: entra-client-credentials, tenant_id: t-1, scope: https://x.example/.default, {SECRET}",
            "https://login.microsoftonline.com/t-1/oauth2/v2.0/token",
            "grant_type=client_credentials&scope=https%3A%2F%2Fx.example%2F.default&client_id=id-1&client_secret=s",
            None,
        ),
        (
            f"preset: spotify-client-credentials, {SECRET}",
            "https://accounts.spotify.com/api/token",
            "grant_type=client_credentials",
            "aWQtMTpz",
        ),
        (
            f"preset: zoom-server-to-server, account_id: a-1, {SECRET}",
            "https://zoom.us/oauth/token",
            "grant_type=account_credentials&account_id=a-1",
            "aWQtMTpz",
        ),
        (
            f"preset: sentinel-hub, {SECRET}",
            "https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token",
            "grant_type=client_credentials&client_id=id-1&client_secret=s",
            None,
        ),
        (
            f"preset: copernicus-dataspace, {LOGIN}",
            "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token",
            "grant_type=password&username=joe&password=hunter2&client_id=cdse-public",
            None,
        ),
    ],
)
def test_a_token_is_asked_for_as_the_vendor_documents_it(reader, auth, url, body, authorization):
    ask = first_step(preset_route(reader, auth).grant)
    assert (ask.method, ask.url, ask.body.decode()) == ("POST", url, body)
    headers = {"Accept": "application/json", "Content-Type": FORM}
    headers |= {"Authorization": f"Basic {authorization}"} if authorization else {}
    assert ask.headers == headers


RSA = RSAKey.generate_key(2048)


def test_a_google_service_account_signs_for_googles_endpoint(reader):
    document = {"private_key": RSA.as_pem(private=True).decode(), "private_key_id": "k-1"}
    auth = "preset: google-service-account, client_email: me@p.example, private_key: '${KEY}', scope: a b"
    for more, subject in (("", None), (", subject: ann@example.com", "ann@example.com")):
        text = f"upstream: https://x\nauth: {{{auth}{more}}}"
        reader.environ = {"KEY": json.dumps(document)}
        flow = reader.route(text).grant.flow(None)
        assert next(flow) == Now()
        ask = flow.send(NOW)
        assert ask.url == "https://oauth2.googleapis.com/token"
        token = jwt.decode(dict(parse_qsl(ask.body.decode()))["assertion"], RSA)
        assert token.header == {"alg": "RS256", "typ": "JWT", "kid": "k-1"}
        said = {key: value for key, value in token.claims.items() if key in {"iss", "aud", "scope", "sub"}}
        assert said == {"iss": "me@p.example", "aud": ask.url, "scope": "a b"} | (
            {"sub": subject} if subject else {}
        )


def test_salesforce_is_asked_at_the_orgs_own_domain(reader):
    auth = "preset: salesforce-jwt, client_id: 3MVG, username: ann@acme.example, private_key: '${KEY}'"
    text = f"upstream: https://acme.my.salesforce.com/\nauth: {{{auth}}}"
    reader.environ = {"KEY": RSA.as_pem(private=True).decode()}
    flow = reader.route(text).grant.flow(None)
    next(flow)
    ask = flow.send(NOW)
    assert ask.url == "https://acme.my.salesforce.com/services/oauth2/token"
    claims = jwt.decode(dict(parse_qsl(ask.body.decode()))["assertion"], RSA).claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == (
        "3MVG",
        "ann@acme.example",
        "https://acme.my.salesforce.com",
    )
    assert claims["exp"] - NOW <= 180


def test_a_github_app_asks_for_its_installations_token(reader):
    auth = "preset: github-app, client_id: Iv1.x, installation_id: 42, private_key: '${KEY}'"
    reader.environ = {"KEY": RSA.as_pem(private=True).decode()}
    route = reader.route(f"auth: {{{auth}}}")
    assert route.upstream == "https://api.github.com"
    flow = route.grant.flow(None)
    next(flow)
    ask = flow.send(NOW)
    assert (ask.method, ask.url) == ("POST", "https://api.github.com/app/installations/42/access_tokens")
    assert ask.headers["Accept"] == "application/vnd.github+json"
    assert ask.headers["X-GitHub-Api-Version"] == "2022-11-28"
    claims = jwt.decode(ask.headers["Authorization"].removeprefix("Bearer "), RSA).claims
    assert (claims["iss"], claims["iat"], claims["exp"]) == ("Iv1.x", NOW - 60, NOW + 480)


@pytest.mark.parametrize(
    ("auth", "header", "scheme"),
    [
        ("preset: github-token, token: abc", "Authorization", "Bearer"),
        ("preset: gitlab-token, token: abc", "PRIVATE-TOKEN", ""),
        ("preset: planet, api_key: abc", "Authorization", "api-key"),
    ],
)
def test_a_token_from_the_vendors_pages_goes_where_the_vendor_looks_for_it(reader, auth, header, scheme):
    grant = preset_route(reader, auth).grant
    assert grant == Static(header=header, scheme=scheme, token=SecretStr("abc"))


def test_an_atlassian_token_stands_in_the_passwords_place(reader):
    grant = preset_route(reader, "preset: atlassian-api-token, email: a@example.com, token: abc").grant
    assert grant == Basic(username="a@example.com", password=SecretStr("abc"))


# ── a route's keys that a preset brings ──────────────────────────────────────────────────────────


def test_an_upstream_that_a_preset_brings_is_the_last_that_counts(reader):
    auth = "auth: {preset: planet, api_key: abc}"
    assert reader.route(auth).upstream == "https://api.planet.com"
    assert reader.route(f"upstream: https://mine.example\n{auth}").upstream == "https://mine.example"


def test_nothing_but_a_preset_with_one_host_brings_an_upstream(reader):
    fault = reader.route_fault("auth: {preset: gitlab-token, token: abc}")
    assert "upstream: is required (" in fault


@pytest.mark.parametrize(
    ("upstream", "more", "says"),
    [
        ("https://api.sa.up42.com", "", None),
        ("https://API.sa.up42.com/v2", "", None),
        ("https://api.up42.com", ", auth_host: auth.up42.com", None),
        (
            "https://api.up42.com",
            "",
            "tokens for api.up42.com come from auth.up42.com, not from auth.sa.up42.com",
        ),
        ("https://api.sa.up42.com", ", auth_host: auth.up42.com", "set `auth_host: auth.sa.up42.com`"),
        (
            "https://mirror.example",
            "",
            "tokens from auth.sa.up42.com are for api.sa.up42.com, not for mirror.example",
        ),
        ("https://mirror.example", ", token_url: 'https://other.example/t'", None),
        ("https://auth.sa.up42.com", "", None),  # for what its clients ask there, such as who they are
    ],
)
def test_up42s_hosts_belong_together(reader, upstream, more, says):
    warnings = preset_route(reader, f"preset: up42, {LOGIN}{more}", upstream).warnings
    assert [says in each for each in warnings] == ([True] if says else [])


# ── presets are read when they are named ─────────────────────────────────────────────────────────


def test_what_is_no_preset_is_none():
    assert presets().get("README") is None
    assert "up42" in presets()
    assert len(presets()) == len(list(presets()))


# ── the user's keys win ──────────────────────────────────────────────────────────────────────────


def test_a_mapping_of_the_users_is_laid_over_the_presets(reader):
    auth = f"preset: password-login, {LOGIN}, form: {{grant: x, username: other}}, response: {{token: /t}}"
    grant = preset_route(reader, auth).grant
    assert {name: value.get_secret_value() for name, value in grant.form.items()} == {
        "username": "other",
        "password": "hunter2",
        "grant": "x",
    }
    assert (grant.response.token, grant.response.expires_in) == ("/t", "/expires_in")


def test_null_takes_away_what_the_preset_brings(reader):
    grant = preset_route(reader, "preset: password-login, form: null, json: {u: '{username}'}").grant
    assert grant.form is None
    assert grant.json == {"u": "{username}"}  # no placeholder: the user wrote it


def test_a_form_may_have_other_names(reader):
    auth = "preset: password-login, form: {username: null, password: null, user: joe, pass: hunter2}"
    assert first_step(preset_route(reader, auth).grant).body == b"user=joe&pass=hunter2"


def test_null_takes_a_presets_default_away(reader):
    assert preset_route(reader, f"preset: up42, {LOGIN}, client_id: null").grant.client_id is None


def test_a_keys_braces_stay_as_they_are(reader):
    grant = preset_route(reader, "preset: code42-user, username: '{base}', password: '{username}'").grant
    assert (grant.basic.username, grant.basic.password.get_secret_value()) == ("{base}", "{username}")


def test_a_users_url_wins(reader):
    grant = preset_route(reader, f"preset: code42-user, {LOGIN}, url: 'https://other/jwt'").grant
    assert grant.url == "https://other/jwt"


def test_a_routes_allow_wins_key_by_key(reader):
    keys = f"upstream: https://x\nauth: {{preset: code42-basic, {LOGIN}}}\n"
    allow = reader.route(f"{keys}allow: {{methods: [GET]}}").allow
    assert (allow.methods, len(allow.paths)) == (("GET",), 4)
    assert reader.route(f"{keys}allow: {{paths: [/**]}}").allow.paths == ("/**",)
    assert reader.route(f"{keys}allow: null").allow is None


def test_the_defaults_win_over_the_presets_route(reader):
    keys = f"upstream: https://x\nauth: {{preset: code42-basic, {LOGIN}}}"
    assert reader.route(keys, "defaults: {allow: {paths: [/x]}}").allow.paths == ("/x",)


def test_a_base_path_of_the_upstream_stays(reader):
    grant = preset_route(reader, f"preset: code42-user, {LOGIN}", "https://x/base/").grant
    assert grant.url == "https://x/base/api/v3/auth/jwt?useBody=true"


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


def test_what_a_preset_lacks_is_told_with_its_meaning(reader):
    preset = presets()["code42-user"]
    source = f"see {preset.docs}, and `authproxy presets show code42-user`"
    assert reader.route_faults("upstream: https://x\nauth: {preset: code42-user}") == [
        f"auth.password: preset code42-user needs password: the user's password; {source}",
        f"auth.username: preset code42-user needs username: the user's name; {source}",
    ]


def test_a_fault_in_what_the_preset_brings_points_at_auth(reader):
    auth = "auth: {preset: code42-user, username: a, password: b}"
    text = f"routes:\n  - {{name: a, upstream: http://x,\n    {auth}}}\n"
    assert [fault.split(": ")[:2] for fault in reader.faults(text)] == [
        ["2:25", "routes[0].upstream"],
        ["3:11", "routes[0].auth.url"],
    ]


def test_a_fault_in_the_users_value_points_at_the_value(reader):
    auth = "auth: {preset: code42-user, username: 5, password: b}"
    text = f"routes:\n  - {{name: a, upstream: https://x,\n    {auth}}}\n"
    told = "should be a string; put it in quotes: YAML reads a number"
    assert reader.fault(text) == f"3:43: routes[0].auth.username: {told}"


def test_a_mapping_in_the_place_of_a_string_is_told(reader):
    fault = reader.route_fault(
        "upstream: https://x\nauth: {preset: code42-user, username: {a: b}, password: b}"
    )
    assert (
        fault == "auth.username: should be a string: if it is one, put it in quotes, as a { begins a mapping"
    )


def test_an_unknown_key_is_told_with_the_presets_own_keys(reader):
    fault = reader.route_fault(f"upstream: https://x\nauth: {{preset: code42-user, {LOGIN}, topt: x}}")
    assert fault == "auth.topt: unknown key; did you mean `totp`?"


# ── the data ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_every_placeholder_of_a_preset_is_one_of_its_keys_and_every_key_is_used(preset):
    used = set(re.findall(r"\{(\w+)\}", str({k: v for k, v in preset.auth.items() if k != "hints"})))
    assert used - {"base"} == set(preset.keys)


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_a_login_that_is_answered_here_is_where_the_preset_gets_its_token(preset):
    base = preset.route.get("upstream", "{base}")
    url = str(preset.auth.get("token_url", preset.auth.get("url"))).partition("?")[0]
    for login in preset.route.get("stand_in", ()):
        assert url in {f"{server}{login['path']}" for server in (base, "https://{auth_host}")}
        assert login.get("methods", ["POST"]) == [preset.auth.get("method", "POST")]


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_what_a_preset_sets_for_programs_is_public(preset):
    variables = preset.route.get("env", {})
    fields = {field for value in variables.values() for field in fields_of(template(value))}
    assert fields <= {"url", "placeholder"}
    assert ("placeholder" in fields) == bool(variables), "no tool that wants an address wants no token"


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_a_preset_prints_itself_as_it_stands_in_the_package(preset):
    document = yaml.safe_load(preset.as_yaml())
    assert document[preset.name]["auth"] == preset.auth
    assert document[preset.name]["title"] == preset.title


def test_what_is_not_given_takes_its_entry_with_it():
    preset = Preset(
        name="p",
        title="",
        docs="",
        keys={"a": PresetKey(help=""), "b": PresetKey(help="", default="B")},
        auth={
            "grant": "none",
            "one": "{a}",
            "two": {"x": "{a}", "y": "1"},
            "three": "{base}/{b}",
            "four": ["{a}"],
        },
    )
    item, faults = preset.expand(Item(None, "f").made({"preset": "p"}, "auth"), "https://x")
    assert (plain(item), faults) == ({"grant": "none", "three": "https://x/B", "four": ["{a}"]}, [])


@pytest.mark.parametrize(
    ("totp", "fault"),
    [
        (
            "${NOBODY}",
            "environment variable NOBODY is not set (reference ${NOBODY}); " + UNSET,
        ),
        ("not!base32", "should be base32: letters and the digits 2 to 7"),
        (
            "12345",
            "should be a one-time code of 6 to 8 digits, or the secret (base32)",
        ),
        (
            "123 456",
            "should be a one-time code of 6 to 8 digits, or the secret (base32)",
        ),
    ],
)
def test_a_value_around_which_a_preset_builds_more_is_told_once_where_it_was_written(reader, totp, fault):
    keys = f"preset: code42-user\n  username: joe\n  password: hunter2\n  totp: '{totp}'"
    text = reader.with_route(f"upstream: https://x\nauth:\n  {keys}")
    line = text[: text.index("totp")].count("\n") + 1
    assert reader.fault(text) == f"{line}:13: routes[0].auth.totp: {fault}"


# ── where a person finds the values ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_each_open_key_says_where_its_value_is_found(preset):
    open_keys = {name for name, key in preset.keys.items() if key.default is None}
    wanted = open_keys | ({"upstream"} if "${" in preset.upstream else set())
    assert wanted <= preset.where.keys() <= preset.keys.keys() | {"upstream"}
    for sentence in preset.where.values():
        assert sentence.strip() == sentence != ""
        assert "\n" not in sentence
        assert not sentence.endswith(".")


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_a_preset_knows_an_upstream_to_begin_with(preset):
    assert re.fullmatch(r"https://[^\s/]\S*[^\s/]", preset.upstream)
    assert "\n" not in preset.docs
