"""Who is told of each request, and for whom the last ones are remembered."""

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


async def test_requests_are_remembered_where_another_process_has_the_admin_listener(app):
    made = await app(STATIC)
    await made.start([])
    assert made.observing.recent.keep == made.config.admin.keep > 0
