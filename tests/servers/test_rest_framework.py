"""Tokens handed out by hand, in front of Django REST framework: what Calendar42 is built on."""

from tests.servers.django_project.accounts import ACTION_USER, USER
from tests.support.async_command import running_proxy


def calendar42(upstream, token, *, kind="user", **more):
    auth = {"preset": f"calendar42-{kind}-token", "token": token}
    return {"name": kind, "path": f"/{kind}", "upstream": upstream, "auth": auth, **more}


async def test_each_kind_of_token_goes_out_under_its_own_scheme(django, client):
    user, action = await django.new_key(USER), await django.new_key(ACTION_USER)
    routes = [calendar42(django.url, user), calendar42(django.url, action, kind="action")]
    async with running_proxy({"routes": routes}, "--no-admin") as proxy:
        events = await client.get(f"{proxy.url}/user/api/events/?from=2024-01-01&zone=%2B02")
        actions = await client.post(f"{proxy.url}/action/api/actions/", json={"rsvp": "yes"})
        wrong_kind = await client.get(f"{proxy.url}/user/api/actions/")
    assert events.status == 200
    assert events.document["authorization"] == f"Token {user}"
    assert events.document["user"] == USER
    assert events.document["target"] == "/api/events/?from=2024-01-01&zone=%2B02"
    assert actions.status == 200
    assert actions.document["authorization"] == f"ActionToken {action}"
    assert actions.document["user"] == ACTION_USER
    assert actions.document["body"] == '{"rsvp": "yes"}'
    assert wrong_kind.status == 401
    assert wrong_kind.headers["WWW-Authenticate"] == "ActionToken"


async def test_a_wrong_token_brings_the_servers_own_answer_and_is_sent_once(django, client):
    async with running_proxy({"routes": [calendar42(django.url, "not-a-key")]}, "--no-admin") as proxy:
        unauthorized = await client.get(f"{proxy.url}/user/api/events/")
        forbidden = await client.get(f"{proxy.url}/user/api/calendars/")
        assert await proxy.stop() == 0
        assert "not-a-key" not in proxy.log()
    assert unauthorized.status == 401
    assert unauthorized.headers["WWW-Authenticate"] == "Token"
    assert forbidden.status == 403
    for reply in (unauthorized, forbidden):
        assert reply.document == {"detail": "Invalid token."}
        told = f'authproxy; received-status={reply.status}; details="a static token"'
        assert reply.headers["Proxy-Status"] == told
    assert [each.status for each in await django.api_requests()] == [401, 403]


async def test_a_token_rotated_in_its_file_is_picked_up_at_the_next_refusal(django, client, tmp_path):
    file = tmp_path / "token"
    old = await django.new_key(USER)
    file.write_text(f"{old}\n")
    routes = [calendar42(django.url, f"${{file:{file}}}")]
    async with running_proxy({"routes": routes}, "--no-admin") as proxy:
        url = f"{proxy.url}/user/api/events/"
        assert (await client.get(url)).status == 200
        new = await django.new_key(USER)
        assert (await client.get(url)).status == 401, "the file still holds the old one"
        file.write_text(f"{new}\n")
        reply = await client.post(url, data=b"kept for the repetition")
        assert (await client.get(url)).status == 200
        assert await proxy.stop() == 0
        assert proxy.log().count("retried=yes") == 1
    assert reply.status == 200
    assert reply.document["body"] == "kept for the repetition"
    seen = [(each.authorization.removeprefix("Token "), each.status) for each in await django.api_requests()]
    assert seen == [(old, 200), (old, 401), (old, 401), (new, 200), (new, 200)]


async def test_with_403_among_the_retry_statuses_it_is_repeated_like_a_401(django, client, tmp_path):
    file = tmp_path / "token"
    file.write_text("not-a-key")
    routes = [calendar42(django.url, f"${{file:{file}}}", retry={"statuses": [401, 403]})]
    async with running_proxy({"routes": routes}, "--no-admin") as proxy:
        url = f"{proxy.url}/user/api/calendars/"
        assert (await client.get(url)).status == 403
        key = await django.new_key(USER)
        file.write_text(key)
        reply = await client.get(url)
    assert reply.status == 200
    assert reply.document["authorization"] == f"Token {key}"
    assert [each.status for each in await django.api_requests()] == [403, 403, 200]
