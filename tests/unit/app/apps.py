"""What the tests of the wiring have in common: routes, and having an application change."""

import socket

from authproxy.app.listeners import Listeners, configured_addresses
from authproxy.app.site import NO_TLS
from authproxy.config.read import parse
from authproxy.net.own_listeners import OwnListeners

ISSUER = "https://id.invalid"
STATIC = "auth: {grant: static, token: t0k3n}"
MACHINE = (
    f"auth: {{grant: client_credentials, token_url: {ISSUER}/token, client_id: id, client_secret: s3cr3t-1}}"
)
LOGIN = (
    f"auth: {{grant: authorization_code, authorization_url: {ISSUER}/a, token_url: {ISSUER}/token,"
    " client_id: id}"
)
LISTENER = "127.0.0.1:0"
NOTHING = Listeners([])


def listening():
    return socket.create_server(("127.0.0.1", 0))


def accepts(sock_or_place):
    """Whether anybody listens there."""
    try:
        socket.create_connection(sock_or_place).close()
    except OSError:
        return False
    return True


def another(app, *auths, listen=(LISTENER,), top=""):
    """Return the configuration of `app` with other routes."""
    lines = [
        f"- {{name: r{number}, path: /r{number}, upstream: https://up.example, {auth}}}"
        for number, auth in enumerate(auths)
    ]
    listens = f"listen: [{', '.join(map(repr, listen))}]"
    return parse("\n".join([top, listens, "routes:", *lines]), app.config.file, environ={})


async def prepare(made, config, opened=NOTHING, tls=NO_TLS):
    """Have `made` prepare for `config`, as a reload of this process alone would."""
    kept = [sock for address, sock in made.served if address in config.listen and not made.draining]
    own = OwnListeners(configured_addresses(config), [*kept, *opened.sockets])
    return await made.prepare(config, opened, tls, own)
