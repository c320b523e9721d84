"""What the tests of the systems have in common: asking a stand-in over HTTP."""

import base64

from joserfc.jwk import RSAKey

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME
from authproxy.demo.keys import private_key
from authproxy.grants.signing import read_key, sign

FOREIGN_KEY = RSAKey.generate_key(2048)


def basic(name, password):
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


CLIENT = {"Authorization": basic(CLIENT_ID, CLIENT_SECRET)}
USER = basic(USERNAME, PASSWORD)
CLIENT_FORM = {
    "grant_type": "client_credentials",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
}
LOGIN = {"username": USERNAME, "password": PASSWORD}


async def call(client, demo, system, authorization=None, path="/api/v3/things"):
    """Call the API; return the status and the challenge."""
    headers = {"Authorization": authorization} if authorization else {}
    async with client.get(f"{demo.systems[system]}{path}", headers=headers) as reply:
        return reply.status, reply.headers.get("WWW-Authenticate")


async def ask(client, demo, system, method, path, **request):
    """Ask for a token; return the status and the document."""
    async with client.request(method, f"{demo.systems[system]}{path}", **request) as reply:
        return reply.status, await reply.json()


async def post(client, demo, system, path, form, **request):
    """Ask for a token with a form, without what is None in it; return the status and the document."""
    data = {name: value for name, value in form.items() if value is not None}
    return await ask(client, demo, system, "POST", path, data=data, **request)


async def is_let_in(client, demo, system, token):
    """Tell whether the API takes `token` as Bearer, and that it refuses another, and none, with 401."""
    assert (await call(client, demo, system, "Bearer made-up"))[0] == 401
    assert (await call(client, demo, system))[0] == 401
    return (await call(client, demo, system, f"Bearer {token}"))[0] == 200


def signed(key=None, **claims):
    """Return a JWT with `claims`, signed with the demo's key or with `key`."""
    return sign(
        claims, read_key(private_key()) if key is None else key, now=0, key_id=None, algorithm="RS256"
    )
