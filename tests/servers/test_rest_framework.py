"""Tokens handed out by hand, in front of Django REST framework: what Calendar42 is built on."""

from tests.processes import running_proxy
from tests.servers.django_project.accounts import ACTION_USER, USER


def calendar42(upstream, token, *, kind="user", **more):
    auth = {"preset": f"calendar42-{kind}-token", "token": token}
    return {"routes": [{"name": "c42", "path": "/c42", "upstream": upstream, "auth": auth, **more}]}


async def test_a_user_token_goes_out_under_its_scheme(django, client):
    key = await django.new_key(USER)
    async with running_proxy(calendar42(django.url, key)) as proxy:
        reply = await client.get(f"{proxy.url}/c42/api/events/?from=2024-01-01&x=%2F")
    assert reply.status == 200
    assert reply.document["authorization"] == f"Token {key}"
    assert reply.document["user"] == USER
    assert reply.document["target"] == "/api/events/?from=2024-01-01&x=%2F"


async def test_an_action_token_goes_out_under_its_own_scheme(django, client):
    key = await django.new_key(ACTION_USER)
    async with running_proxy(calendar42(django.url, key, kind="action")) as proxy:
        reply = await client.post(f"{proxy.url}/c42/api/actions/", json={"rsvp": "yes"})
    assert reply.status == 200
    assert reply.document["authorization"] == f"ActionToken {key}"
    assert reply.document["user"] == ACTION_USER
    assert reply.document["body"] == '{"rsvp": "yes"}'


async def test_each_kind_of_token_is_refused_where_the_other_is_wanted(django, client):
    key = await django.new_key(USER)
    async with running_proxy(calendar42(django.url, key)) as proxy:
        reply = await client.get(f"{proxy.url}/c42/api/actions/")
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == "ActionToken"


async def test_a_wrong_token_brings_the_servers_own_401_and_challenge(django, client):
    async with running_proxy(calendar42(django.url, "not-a-key")) as proxy:
        reply = await client.get(f"{proxy.url}/c42/api/events/")
        assert await proxy.stop() == 0
        assert "not-a-key" not in proxy.log()
    assert reply.status == 401
    assert reply.document == {"detail": "Invalid token."}
    assert reply.headers["WWW-Authenticate"] == "Token"
    assert "Proxy-Status" not in reply.headers
    assert [each.status for each in await django.api_requests()] == [401], "the same token, sent once"


async def test_a_token_that_the_caller_sent_is_forwarded_untouched(django, client):
    key = await django.new_key(USER)
    async with running_proxy(calendar42(django.url, key)) as proxy:
        headers = {"Authorization": "Token the-callers-own"}
        reply = await client.get(f"{proxy.url}/c42/api/events/", headers=headers)
    assert reply.status == 401
    assert [each.authorization for each in await django.api_requests()] == ["Token the-callers-own"]


async def test_a_token_rotated_in_its_file_is_picked_up_at_the_next_401(django, client, tmp_path):
    file = tmp_path / "token"
    old = await django.new_key(USER)
    file.write_text(f"{old}\n")
    async with running_proxy(calendar42(django.url, f"${{file:{file}}}")) as proxy:
        url = f"{proxy.url}/c42/api/events/"
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


async def test_a_wrong_token_answered_with_403_is_passed_on(django, client):
    async with running_proxy(calendar42(django.url, "not-a-key")) as proxy:
        reply = await client.get(f"{proxy.url}/c42/api/calendars/")
    assert reply.status == 403
    assert reply.document == {"detail": "Invalid token."}
    assert "Proxy-Status" not in reply.headers
    assert len(await django.api_requests()) == 1


async def test_with_403_among_the_retry_statuses_it_is_repeated_like_a_401(django, client, tmp_path):
    file = tmp_path / "token"
    file.write_text("not-a-key")
    config = calendar42(django.url, f"${{file:{file}}}", retry={"statuses": [401, 403]})
    async with running_proxy(config) as proxy:
        url = f"{proxy.url}/c42/api/calendars/"
        assert (await client.get(url)).status == 403
        key = await django.new_key(USER)
        file.write_text(key)
        reply = await client.get(url)
    assert reply.status == 200
    assert reply.document["authorization"] == f"Token {key}"
