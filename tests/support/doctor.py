"""What the tests of `authproxy doctor` share: servers that keep all that came, and its two outputs."""

import base64
import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import trustme

from tests.support.command import authproxy
from tests.support.wire import Message, Upstream, Wire, json_reply, reply

ID, SECRET = "client-42", "s3cret/of the-client"
USER, PASSWORD = "maria@example.com", "Pa55-of-maria"
TOKEN = "t0ken-that-is-good"
TOTP_SECRET = "JBSWY3DPEHPK3PXP"
LISTENERS = {"listen": "127.0.0.1:0", "admin": False}
HTML = "Content-Type: text/html; charset=utf-8"
LOGIN_PAGE = b'<!doctype html><form><input name=user><input type="password"></form>'
GOOD = {"access_token": TOKEN, "expires_in": 300, "scope": "read"}


def forms_of(secret: str) -> list[bytes]:
    """Return the spellings in which a secret may be on the wire."""
    pairs = [
        secret,
        f"{ID}:{secret}",
        f"{USER}:{secret}",
        f"{quote_plus(ID)}:{quote_plus(secret)}",
        f"{secret}:{ID}",
    ]
    encoded = [base64.b64encode(each.encode()) for each in pairs[1:]]
    return [secret.encode(), quote_plus(secret).encode(), *encoded]


SECRETS = [form for secret in (SECRET, PASSWORD, TOKEN, TOTP_SECRET) for form in forms_of(secret)]


def carries_credential(request: Message) -> bool:
    whole = request.head + request.body
    return any(form in whole for form in SECRETS) or b"authorization:" in whole.lower()


@dataclass
class Servers:
    """A token endpoint, an API, and a third server that has no business with either."""

    tokens: Upstream
    api: Upstream
    other: Upstream
    stack: ExitStack
    directory: Path
    env: dict[str, str] = field(default_factory=dict)

    def secure(self, certificate: trustme.LeafCert, answer: Any = None) -> Upstream:
        """Return another server, with this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        return self.stack.enter_context(Upstream(answer, tls=context))

    @property
    def auth(self) -> dict[str, Any]:
        return {"grant": "client_credentials", "token_url": f"{self.tokens.url}/token", "client_id": ID,
                "client_secret": SECRET}  # fmt: skip

    def route(self, **keys: Any) -> dict[str, Any]:
        return {"name": "api", "upstream": self.api.url, "auth": self.auth, **keys}


@contextmanager
def running_servers(directory: Path) -> Iterator[Servers]:
    """Run a token endpoint and an API that takes its tokens."""

    def api(request: Message, _wire: Wire) -> bytes:
        is_good = request.one("Authorization") in {f"Bearer {TOKEN}", None}
        if is_good and request.one("Authorization"):
            return json_reply({"ok": True})
        return reply(401, "WWW-Authenticate: Bearer")

    with ExitStack() as stack:
        tokens = stack.enter_context(Upstream(lambda _request, _wire: json_reply(GOOD)))
        yield Servers(
            tokens, stack.enter_context(Upstream(api)), stack.enter_context(Upstream()), stack, directory
        )


def examined(servers: Servers, route: dict[str, Any] | str, *args: str) -> tuple[dict[str, Any], str, int]:
    """Return the document, the text and the exit code of two runs; nothing in them is secret."""
    config = route if isinstance(route, str) else {**LISTENERS, "routes": [route]}
    text = authproxy("doctor", *args, config=config, env=servers.env)
    ended = authproxy("doctor", *args, "--json", config=config, env=servers.env)
    for shown in (text.stdout, text.stderr, ended.stdout, ended.stderr):
        assert "Traceback" not in shown
        assert "internal error" not in shown
        for secret in (SECRET, PASSWORD, TOKEN, TOTP_SECRET, USER, *map(bytes.decode, SECRETS)):
            assert secret not in shown
    assert text.returncode == ended.returncode, text.stderr + ended.stderr
    print(text.stdout)
    return json.loads(ended.stdout), text.stdout, ended.returncode


def steps_of(document: dict[str, Any], route: str = "api") -> dict[str, dict[str, Any]]:
    (found,) = (each for each in document["routes"] if each["name"] == route)
    return {step["name"]: step for step in found["steps"]}
