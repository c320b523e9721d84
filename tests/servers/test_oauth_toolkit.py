"""OAuth 2.0 from django-oauth-toolkit: earned, refreshed, revoked, refused."""

import asyncio
from collections import Counter
from itertools import cycle, islice

from tests.servers.django_project.accounts import MACHINE, PEOPLE, USER, USER_PASSWORD
from tests.support.async_command import authproxy, running_proxy

PERSON = {**PEOPLE, "username": USER, "password": USER_PASSWORD}


def route(django, grant, *, name="api", path="/", **keys):
    auth = {"grant": grant, "token_url": django.token_url, **keys}
    return {"name": name, "path": path, "upstream": django.url, "auth": auth}


def oauth(django, grant, **keys):
    return {"routes": [route(django, grant, **keys)]}


async def statuses(requests):
    return Counter(reply.status for reply in await asyncio.gather(*requests))


async def refresh_token(django, client):
    """Log in by hand, as somebody would who then configures the refresh token."""
    reply = await client.post(django.token_url, data={"grant_type": "password", **PERSON})
    return reply.document["refresh_token"]


# ── each grant ───────────────────────────────────────────────────────────────────────────────────


async def test_a_client_with_awkward_characters_passes_as_form_encoded_basic_and_in_the_body(django, client):
    styles = ("client_secret_basic", "client_secret_post", "client_secret_basic_raw")
    routes = [
        route(django, "client_credentials", name=name, path=f"/{name}", client_auth=style, **MACHINE)
        for name, style in zip(("basic", "post", "raw"), styles, strict=True)
    ]
    async with running_proxy({"routes": routes}, "--no-admin") as proxy:
        basic = await client.get(f"{proxy.url}/basic/api/resource/")
        post = await client.get(f"{proxy.url}/post/api/resource/")
        raw = await client.get(f"{proxy.url}/raw/api/resource/")
    assert basic.status == post.status == 200
    assert basic.document["authorization"].startswith("Bearer ")
    assert raw.status == 502, "this server decodes what it gets"
    assert raw.document["error"] == "invalid_client"
    by_basic, by_post, by_raw = await django.token_requests()  # no style was tried in place of another
    assert by_basic.form == by_raw.form == {"grant_type": "client_credentials"}
    assert by_basic.authorization.startswith("Basic ")
    assert by_post.form == {"grant_type": "client_credentials", **MACHINE}
    assert by_post.authorization is None


async def test_a_password_and_a_refresh_token_earn_tokens_for_their_user(django, client):
    given = await refresh_token(django, client)
    routes = [
        route(django, "password", name="password", path="/password", scope="read", **PERSON),
        route(django, "refresh_token", name="refresh", path="/refresh", refresh_token=given, **PEOPLE),
    ]
    async with running_proxy({"routes": routes}, "--no-admin") as proxy:
        replies = [await client.get(f"{proxy.url}/{name}/api/resource/") for name in ("password", "refresh")]
    assert [(reply.status, reply.document["user"]) for reply in replies] == [(200, USER)] * 2
    _by_hand, by_password, by_refresh = await django.token_requests()
    login = {"grant_type": "password", "username": USER, "password": USER_PASSWORD, "scope": "read"}
    assert by_password.form == login
    assert by_refresh.form == {"grant_type": "refresh_token", "refresh_token": given}


async def test_the_endpoints_are_found_by_the_issuer(django, client):
    auth = {"grant": "client_credentials", "issuer": f"{django.url}/o", **MACHINE}
    config = {"routes": [{"name": "api", "upstream": django.url, "auth": auth}]}
    async with running_proxy(config, "--no-admin") as proxy:
        assert await statuses([client.get(f"{proxy.url}/api/resource/") for _ in range(5)]) == {200: 5}
    assert len(await django.token_requests()) == 1


# ── how often the server is asked ────────────────────────────────────────────────────────────────


async def test_a_crowd_on_two_routes_costs_one_token_request_at_first_and_one_after_a_revocation(
    django, client
):
    routes = [
        route(django, "client_credentials", name=name, path=f"/{name}", **MACHINE) for name in ("one", "two")
    ]
    async with running_proxy({"routes": routes}, "--no-admin") as proxy:
        urls = [f"{proxy.url}/{name}/api/resource/" for name in ("one", "two")] * 10
        assert await statuses(map(client.get, urls)) == {200: 20}
        assert len(await django.token_requests()) == 1
        await django.revoke_access_tokens()
        assert await statuses(map(client.get, urls)) == {200: 20}
        assert len(await django.token_requests()) == 2


# ── refresh with rotation ────────────────────────────────────────────────────────────────────────


async def keep_asking(urls, client, *, until):
    """Let eight clients ask without a pause until `until` comes true, or one fails; count the statuses."""
    enough = asyncio.Event()

    async def watch():
        while not (enough.is_set() or await until()):
            await asyncio.sleep(0.1)
        enough.set()

    async def ask(url):
        seen = Counter()
        while not enough.is_set():
            status = (await client.get(url)).status
            seen[status] += 1
            if status != 200:
                enough.set()
        return seen

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(watch())
        askers = [group.create_task(ask(url)) for url in islice(cycle(urls), 8)]
    return sum((asker.result() for asker in askers), Counter())


async def test_clients_never_notice_that_two_second_tokens_and_their_refresh_tokens_rotate(
    hasty_django, client
):
    """A refresh revokes the access token that is in use; a refresh token used twice would end its family."""
    given = await refresh_token(hasty_django, client)
    routes = [
        route(hasty_django, "password", name="password", path="/password", **PERSON),
        route(hasty_django, "refresh_token", name="refresh", path="/refresh", refresh_token=given, **PEOPLE),
    ]

    async def refreshed_often():
        families = Counter(each["family"] for each in await hasty_django.refresh_tokens())
        return len(families) == 2 and min(families.values()) > 3

    async with running_proxy({"routes": routes}, "--no-admin") as proxy:
        urls = [f"{proxy.url}/{name}/api/resource/" for name in ("password", "refresh")]
        seen = await keep_asking(urls, client, until=refreshed_often)
    assert set(seen) == {200}
    _by_hand, *asked = await hasty_django.token_requests()
    assert {each.status for each in asked} == {200}
    assert Counter(each.form["grant_type"] for each in asked) == {
        "password": 1,
        "refresh_token": len(asked) - 1,
    }
    used = [each.form["refresh_token"] for each in asked if "refresh_token" in each.form]
    assert used.count(given) == 1
    assert len(set(used)) == len(used), "each was used once"
    good = [each["family"] for each in await hasty_django.refresh_tokens() if each["good"]]
    assert len(good) == len(set(good)) == 2, "the newest of each family is good"


# ── revoked ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_with_a_revoked_token_is_repeated_once_with_a_new_one(django, client):
    async with running_proxy(oauth(django, "client_credentials", **MACHINE), "--no-admin") as proxy:
        url = f"{proxy.url}/api/resource/"
        first = await client.get(url)
        await django.revoke_access_tokens()
        second = await client.post(url, json="body é")
        assert await proxy.stop() == 0
        assert proxy.log().count("retried=yes") == 1
    assert second.status == 200
    assert second.document["body"] == r'"body \u00e9"'
    assert second.document["authorization"] != first.document["authorization"]
    assert [each.status for each in await django.api_requests()] == [200, 401, 200]
    assert len(await django.token_requests()) == 2


async def test_a_token_revoked_with_its_refresh_token_falls_back_to_the_password(django, client):
    async with running_proxy(oauth(django, "password", **PERSON), "--no-admin") as proxy:
        url = f"{proxy.url}/api/resource/"
        assert (await client.get(url)).status == 200
        await django.start_anew()
        reply = await client.get(url)
    assert reply.status == 200
    asked = [(each.form["grant_type"], each.status) for each in await django.token_requests()]
    assert asked == [("refresh_token", 400), ("password", 200)]


async def test_refusals_that_no_other_token_mends_do_not_wear_out_the_token_endpoint(django, client):
    async with running_proxy(
        oauth(django, "client_credentials", scope="write", **MACHINE), "--no-admin"
    ) as proxy:
        too_little_scope = [await client.get(f"{proxy.url}/api/resource/") for _ in range(3)]
        assert len(await django.token_requests()) == 1
        another_scheme = [await client.get(f"{proxy.url}/api/events/") for _ in range(5)]
    assert [reply.status for reply in too_little_scope] == [403] * 3
    assert [reply.status for reply in another_scheme] == [401] * 5
    for reply in too_little_scope + another_scheme:
        own = f'authproxy; received-status={reply.status}; details="a token '
        assert reply.headers["Proxy-Status"].startswith(own), "each answer is the server's own"
    assert len(await django.token_requests()) == 2
    assert len(await django.api_requests()) == 3 + 5 + 1, "one request was repeated, the first with a 401"


# ── refused ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_wrong_secret_or_password_is_tried_once_however_often_clients_ask(django, client):
    wrong_secret = {"client_id": MACHINE["client_id"], "client_secret": "wr:ong é"}
    wrong_password = {**PERSON, "password": "wr:ong é"}
    routes = [
        route(django, "client_credentials", name="secret", path="/secret", **wrong_secret),
        route(django, "password", name="password", path="/password", **wrong_password),
    ]
    async with running_proxy({"routes": routes}, "--no-admin") as proxy:
        by_secret = [await client.get(f"{proxy.url}/secret/api/resource/") for _ in range(10)]
        by_password = [await client.get(f"{proxy.url}/password/api/resource/") for _ in range(10)]
        assert await proxy.stop() == 0
        assert "wr:ong" not in proxy.log()
    for name, cause, (first, *others) in (
        ("secret", "invalid_client", by_secret),
        ("password", "invalid_grant", by_password),
    ):
        assert first.status == 502
        assert first.headers["Content-Type"] == "application/problem+json"
        assert first.headers["Proxy-Status"].startswith("authproxy; error=proxy_configuration_error")
        assert (first.document["status"], first.document["title"]) == (502, "Credential rejected")
        assert (first.document["route"], first.document["error"]) == (name, cause)
        assert django.token_url in first.document["detail"]
        for reply in others:
            assert reply.status == 503
            assert reply.headers["Content-Type"] == "application/problem+json"
            assert int(reply.headers["Retry-After"]) > 0
            assert reply.document["error"] == cause
            assert "wr:ong" not in reply.text
    assert "client_secret" in by_secret[0].document["hint"]
    assert "Invalid credentials given" in by_password[0].document["detail"], "the server's own words"
    assert len(await django.token_requests()) == 2
    assert await django.api_requests() == []


async def test_a_secret_corrected_in_its_file_ends_the_waiting_at_once(django, client, tmp_path):
    file = tmp_path / "secret"
    file.write_text("wrong")
    keys = {"client_id": MACHINE["client_id"], "client_secret": f"${{file:{file}}}"}
    async with running_proxy(oauth(django, "client_credentials", **keys), "--no-admin") as proxy:
        url = f"{proxy.url}/api/resource/"
        assert [(await client.get(url)).status for _ in range(2)] == [502, 503]
        file.write_text(MACHINE["client_secret"] + "\n", "utf-8")
        assert (await client.get(url)).status == 200
    assert [each.status for each in await django.token_requests()] == [401, 200]


# ── authproxy token ──────────────────────────────────────────────────────────────────────────────


async def test_the_verb_token_prints_what_the_server_takes_and_nothing_else(django, client):
    bare, line = await asyncio.gather(
        authproxy("token", "api", config=oauth(django, "client_credentials", **MACHINE)),
        authproxy("token", "api", "--header", config=oauth(django, "password", **PERSON)),
    )
    assert (bare.returncode, bare.stderr) == (line.returncode, line.stderr) == (0, "")
    name, _, value = line.stdout.removesuffix("\n").partition(": ")
    for headers in ({"Authorization": f"Bearer {bare.stdout.removesuffix(chr(10))}"}, {name: value}):
        reply = await client.get(f"{django.url}/api/resource/", headers=headers)
        assert reply.status == 200
    assert reply.document["user"] == USER


async def test_the_verb_token_ends_with_1_and_the_cause_when_the_secret_is_wrong(django):
    config = oauth(django, "client_credentials", client_id=MACHINE["client_id"], client_secret="wr:ong é")
    ended = await authproxy("token", "api", config=config)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "invalid_client" in ended.stderr
    assert "wr:ong" not in ended.stderr
