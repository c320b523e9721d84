"""The stand-ins on their sockets: what they say arrived, what they count, what they forget."""

import asyncio
import json
import shlex
from hashlib import sha256
from urllib.parse import urlsplit

import pytest

from authproxy.demo import FIRST_PORT, announced, stand_ins
from authproxy.demo.accounts import PASSWORD, USERNAME
from authproxy.demo.standin import EXPIRE, REVOKE
from authproxy.demo.systems import SYSTEMS

ROUTES = {
    "code42": "code42-api-client",
    "code42-user": "code42-user",
    "code42-basic": "code42-basic",
    "incydr": "incydr-api-client",
    "calendar42": "calendar42-user-token",
    "calendar42-action": "calendar42-action-token",
    "calendar42-oauth": "calendar42-oauth",
    "calendar42-silent": "calendar42-silent-oauth",
    "up42": "up42",
    "login": "password-login",
    "copernicus": "copernicus-dataspace",
    "sentinel-hub": "sentinel-hub",
    "planet": "planet",
    "keycloak": "keycloak",
    "auth0": "auth0-m2m",
    "okta": "okta-m2m",
    "entra": "entra-client-credentials",
    "google": "google-service-account",
    "github": "github-token",
    "github-app": "github-app",
    "gitlab": "gitlab-token",
    "atlassian": "atlassian-api-token",
    "salesforce": "salesforce-jwt",
    "spotify": "spotify-client-credentials",
    "zoom": "zoom-server-to-server",
}


async def login(client, demo):
    form = {"username": USERNAME, "password": PASSWORD}
    async with client.post(f"{demo.systems['login']}/authorization", data=form) as reply:
        return f"Bearer {(await reply.json())['access_token']}"


async def exchange(url, *lines, body=b""):
    """Send a request as it is written here; return the status and the document."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = "\r\n".join([*lines, "Host: demo", "Connection: close", "", ""])
    writer.write(head.encode() + body)
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, document = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(document)


async def test_an_api_says_what_it_received(client, demo):
    bearer = await login(client, demo)
    headers = {"Authorization": bearer, "X-Team": "geo"}
    url = f"{demo.systems['login']}/any/path?q=1"
    async with client.patch(url, headers=headers, data=b"0123456789") as reply:
        assert reply.status == 200
        document = await reply.json()
    shown = document.pop("headers")
    assert document == {
        "system": "login",
        "method": "PATCH",
        "path": "/any/path?q=1",
        "body": {"length": 10, "sha256": sha256(b"0123456789").hexdigest()},
    }
    assert shown["X-Team"] == "geo"
    assert shown["Authorization"] == f"{bearer[:13]}…"
    assert bearer not in json.dumps(shown)


async def test_a_target_is_told_as_it_stood_on_the_wire(client, demo):
    bearer = await login(client, demo)
    for target in ("/a/../%2e%2E/b%2Fc//d?x=%41&x=+;", "/%0d%0a", "*"):
        status, document = await exchange(
            demo.systems["login"], f"OPTIONS {target} HTTP/1.1", f"Authorization: {bearer}"
        )
        assert (status, document["path"]) == (200, target)


async def test_a_compressed_body_is_counted_as_it_arrived(client, demo):
    bearer = await login(client, demo)
    status, document = await exchange(
        demo.systems["login"],
        "POST / HTTP/1.1",
        f"Authorization: {bearer}",
        "Content-Encoding: gzip",
        "Content-Length: 5",
        body=b"12345",
    )
    assert (status, document["body"]["length"]) == (200, 5)


async def test_a_body_over_many_chunks_is_counted(client, demo):
    async def chunks():
        for _ in range(300):
            yield b"x" * 10_000

    headers = {"Authorization": await login(client, demo)}
    async with client.put(f"{demo.systems['login']}/big", headers=headers, data=chunks()) as reply:
        assert (await reply.json())["body"]["length"] == 3_000_000


async def test_a_second_authorization_header_is_400(client, demo):
    bearer = await login(client, demo)
    status, _ = await exchange(
        demo.systems["login"], "GET / HTTP/1.1", f"Authorization: {bearer}", f"Authorization: {bearer}"
    )
    assert status == 400


async def test_head_has_no_body(client, demo):
    headers = {"Authorization": await login(client, demo)}
    async with client.head(f"{demo.systems['login']}/", headers=headers) as reply:
        assert (reply.status, await reply.read()) == (200, b"")


async def test_requests_are_counted_and_the_last_token_request_is_kept(client, demo):
    assert demo.last_token_request == {}
    bearer = await login(client, demo)
    for authorization in (bearer, "Bearer made-up"):
        async with client.get(
            f"{demo.systems['login']}/items", headers={"Authorization": authorization}
        ) as reply:
            await reply.read()
    none = dict.fromkeys(demo.systems, 0)
    assert demo.token_requests == none | {"login": 1}
    assert demo.api_requests == none | {"login": 2}
    last = demo.last_token_request["login"]
    assert (last.method, last.path_qs) == ("POST", "/authorization")
    assert last.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert last.form == {"username": USERNAME, "password": PASSWORD}
    assert PASSWORD not in repr(last)


async def test_revoked_tokens_are_refused(client, demo):
    bearer = await login(client, demo)
    demo.revoke("login")
    async with client.get(f"{demo.systems['login']}/", headers={"Authorization": bearer}) as reply:
        assert reply.status == 401


async def test_tokens_handed_out_by_hand_can_be_revoked(client, demo):
    token = next(route for route in demo.config()["routes"] if route["name"] == "calendar42")["auth"]["token"]
    demo.revoke("calendar42")
    headers = {"Authorization": f"Token {token}"}
    async with client.get(f"{demo.systems['calendar42']}/", headers=headers) as reply:
        assert reply.status == 403


async def test_a_shorter_lifetime_is_told_and_kept(client, clock):
    async with stand_ins(lifetime=0.5, clock=clock) as demo:
        form = {"username": USERNAME, "password": PASSWORD}
        async with client.post(f"{demo.systems['login']}/authorization", data=form) as reply:
            document = await reply.json()
        assert document["expires_in"] == 0.5
        clock.advance(0.6)
        headers = {"Authorization": f"Bearer {document['access_token']}"}
        async with client.get(f"{demo.systems['login']}/", headers=headers) as reply:
            assert reply.status == 401


async def test_the_configuration_has_one_route_a_preset(demo):
    routes = demo.config()["routes"]
    assert {route["name"]: route["auth"]["preset"] for route in routes} == ROUTES
    assert [route["path"] for route in routes] == [f"/{name}" for name in ROUTES]
    assert {route["upstream"] for route in routes} == set(demo.systems.values())
    up42 = next(route for route in routes if route["name"] == "up42")
    assert up42["auth"]["token_url"].startswith(demo.systems["up42"])


async def test_the_configuration_is_plain_data(demo):
    assert json.loads(json.dumps(demo.config())) == demo.config()


@pytest.mark.parametrize("proxy_url", ["http://127.0.0.1:8080", "http://127.0.0.1:8080/"])
async def test_each_route_has_a_command_to_paste(demo, proxy_url):
    lines = dict(demo.curl_lines(proxy_url))
    assert lines.keys() | set(demo.login_routes) == ROUTES.keys()
    assert demo.login_routes == ["calendar42-oauth"]
    assert lines["up42"] == "curl http://127.0.0.1:8080/up42/v2/assets"
    for route, line in lines.items():
        command, url = shlex.split(line)
        assert command == "curl"
        assert url.startswith(f"http://127.0.0.1:8080/{route}/")


async def test_the_ports_are_closed_afterwards(client):
    async with stand_ins() as demo:
        systems = demo.systems
        assert len(set(systems.values())) == len(SYSTEMS)
    for base_url in systems.values():
        parts = urlsplit(base_url)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(parts.hostname, parts.port)


async def test_a_request_that_comes_again_with_another_token_is_told_so(client, demo):
    async def ask(path, bearer):
        async with client.get(demo.systems["login"] + path, headers={"Authorization": bearer}) as reply:
            return reply.status, await reply.json()

    async def control(path):
        async with client.post(demo.systems["login"] + path) as reply:
            return reply.status

    for path in (REVOKE, EXPIRE):
        before = await login(client, demo)
        assert (await ask("/items", before))[0] == 200
        assert await control(path) == 200
        assert (await ask("/items", before))[0] == 401
        after = await login(client, demo)
        assert "401" in (await ask("/items", after))[1]["repeated"]
        assert "repeated" not in (await ask("/items", after))[1]
        assert (await ask("/items", before))[0] == 401
        assert "repeated" not in (await ask("/other", after))[1]


async def test_only_a_post_makes_tokens_useless(client, demo):
    bearer = await login(client, demo)
    url = demo.systems["login"] + REVOKE
    for _ in range(2):
        async with client.get(url, headers={"Authorization": bearer}) as reply:
            assert reply.status == 200


@pytest.mark.parametrize(
    "header", [("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
)
async def test_no_web_page_makes_tokens_useless(client, demo, header):
    bearer = await login(client, demo)
    for path in (REVOKE, EXPIRE):
        async with client.post(demo.systems["login"] + path, headers=[header]) as reply:
            assert reply.status == 403
    async with client.get(demo.systems["login"] + "/items", headers={"Authorization": bearer}) as reply:
        assert reply.status == 200


def test_what_is_announced_is_what_is_served_from_the_first_port_on():
    ports = [urlsplit(url).port for url in announced().systems.values()]
    assert ports == list(range(FIRST_PORT, FIRST_PORT + len(SYSTEMS)))


async def test_a_port_that_is_taken_is_no_reason_to_fail():
    async with stand_ins() as other:
        taken = min(urlsplit(url).port or 0 for url in other.systems.values())
        async with stand_ins(first_port=taken) as demo:
            assert not set(demo.systems.values()) & set(other.systems.values())


def test_the_commands_of_a_repeat_can_be_pasted():
    lines = [line for _, line in announced().repeat_lines("http://127.0.0.1:1")]
    assert lines == [
        "curl -X POST http://127.0.0.1:1/up42/demo/revoke",
        "curl -X POST http://127.0.0.1:1/up42/demo/expire",
        "curl http://127.0.0.1:1/up42/v2/assets",
    ]


def test_a_unix_socket_is_called_by_curls_option():
    line = dict(announced().curl_lines("unix:/run/a b"))["up42"]
    assert line == "curl --unix-socket '/run/a b' http://localhost/up42/v2/assets"
