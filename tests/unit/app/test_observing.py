"""Who is told of each request, and for whom the last ones are remembered."""

from types import SimpleNamespace

from authproxy.app.application import App
from tests.unit.app.apps import LISTENER, STATIC, listening


async def test_requests_are_remembered_once_there_is_an_admin_listener(app):
    """Where the configuration asks for one, but its default address was not to be had, nobody can ask."""
    made = await app(STATIC)
    async with App(made.config) as alone:
        await alone.start([])
        assert alone.observing.recent.keep == 0
        with listening() as sock:
            alone.admin_opens_at(LISTENER, [sock])
            assert alone.observing.recent.keep == alone.config.admin.keep > 0


async def test_a_watcher_is_told_besides(app):
    made = await app(STATIC)
    await made.start([])
    heard = []
    watcher = SimpleNamespace(answered=heard.append, secured=lambda *told: heard.append(told))
    made.observing.tell(watcher)
    handler = made.observing._handler
    handler.subscribers.all[-1]("a record")
    handler.subscribers.secured("api.example:443", None)
    assert heard == ["a record", ("api.example:443", None)]


async def test_requests_are_remembered_where_another_process_has_the_admin_listener(app):
    made = await app(STATIC)
    await made.start([])
    assert made.observing.recent.keep == made.config.admin.keep > 0
