"""What the tests of the systems have in common: asking a stand-in over HTTP."""

import base64

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME


def basic(name, password):
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


CLIENT = {"Authorization": basic(CLIENT_ID, CLIENT_SECRET)}
USER = basic(USERNAME, PASSWORD)
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
