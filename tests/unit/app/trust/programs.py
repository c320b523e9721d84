"""What the tests of trust stores have in common."""

from datetime import UTC, datetime, timedelta

from authproxy.app.local_authority import permitted
from authproxy.app.trust.store import Root, Said
from authproxy.net.authority import make_authority

FINE, FAILS = Said(0, ""), Said(1, "first\nno such luck")


def new_root(directory):
    made = make_authority("test", permitted(), lifetime=timedelta(days=9), now=datetime.now(UTC))
    file = directory / f"{made.fingerprint[:8]}.pem"
    file.write_bytes(made.root_pem)
    return Root.of(made.root, file)


class Programs:
    """Runs nothing: it remembers what it was to run, and says what it is told to."""

    def __init__(self, *said):
        self.ran = []
        self.said = list(said)
        self.does = lambda _command: None

    def __call__(self, command):
        self.ran.append(list(command))
        self.does(command)
        return self.said.pop(0) if self.said else FINE
