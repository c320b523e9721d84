"""What every layer of a stack leaves to the one behind it."""

from authproxy.tokens.source import Innermost, Layer
from authproxy.tokens.token import Token

A = Token("a")


class Behind:
    def __init__(self):
        self.heard = []

    async def token(self, *, instead_of=None):
        self.heard.append(("token", instead_of))
        return A

    async def ready(self):
        self.heard.append("ready")

    async def adopt(self, token):
        self.heard.append(("adopt", token))

    async def close(self):
        self.heard.append("close")


async def test_a_layer_leaves_everything_to_the_source_behind_it():
    behind = Behind()
    layer = Layer(Layer(behind))
    assert await layer.token(instead_of=Token("old")) is A
    await layer.ready()
    await layer.adopt(A)
    await layer.close()
    assert behind.heard == [("token", Token("old")), "ready", ("adopt", A), "close"]


async def test_the_innermost_source_may_be_asked_at_any_time_and_has_nothing_to_keep_or_stop():
    source = Innermost()
    assert await source.ready() is None
    assert await source.adopt(A) is None
    assert await source.close() is None
