"""The proxy's listeners, one in another's place."""

import ssl

from authproxy.app.listeners import Listeners
from authproxy.app.served import ServedListener
from authproxy.app.tls import TLSContexts
from tests.support.clock import settle
from tests.unit.app.apps import LISTENER, MACHINE, NOTHING, another, listening, prepare


async def test_a_listener_that_stays_but_speaks_tls_otherwise_is_served_anew(serving):
    made = await serving(MACHINE)
    [(_, old)] = made.served
    place = old.getsockname()
    tls = TLSContexts(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), {})
    await made.commit(await prepare(made, another(made, MACHINE), NOTHING, tls))
    [(address, new)] = made.served
    await settle()
    assert (address, new.getsockname()) == (LISTENER, place)
    assert (old.fileno(), made._listeners._served[0].tls) == (-1, tls.listener)
    slower = another(made, MACHINE, top="limits: {header_timeout: 9s}")
    await made.commit(await prepare(made, slower, NOTHING, tls))
    assert made._listeners._served[0].handshake_seconds == 9
    [(_, kept)] = made.served
    await made.commit(await prepare(made, slower, NOTHING, tls))
    assert made.served == [(LISTENER, kept)]


async def test_a_listener_that_cannot_begin_any_more_is_told(serving, monkeypatch, caplog):
    made = await serving(MACHINE)
    opened = Listeners([("[::1]:0", listening())])
    change = await prepare(made, another(made, MACHINE), opened)

    async def begin(_listener):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(ServedListener, "begin", begin)
    await made.commit(change)
    assert made.site is change.site
    [told] = [record.facts for record in caplog.records if record.getMessage() == "cannot listen"]
    assert told == {"address": "[::1]:0", "cause": "Address already in use"}
