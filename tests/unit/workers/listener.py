"""Who listens at one end of a line, and a message that is too long for one datagram."""

from authproxy.workers.channel import DATAGRAM, Channel

LONG = {"value": "x" * DATAGRAM * 3}


class Listener:
    """One end of a line, which notes what it hears."""

    def __init__(self, sock):
        self.heard = []
        self.channel = Channel(sock, self._hear)

    def _hear(self, channel, message):
        assert channel is self.channel
        self.heard.append(message)
