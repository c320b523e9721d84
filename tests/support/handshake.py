"""TLS between two ends in memory."""

import ssl


def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str | None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return the client's and the server's end once they agree; raise what stands in the way."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def strict(roots: bytes) -> ssl.SSLContext:
    """Return a client that trusts `roots`, PEM, alone, and is as strict as Python can be."""
    context = ssl.create_default_context(cadata=roots.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
