"""A system whose sockets are bound to nothing."""

import errno


class System:
    """What `bind` would say: a port of its own for port 0, unless `taken` or `lacking` speaks against it."""

    def __init__(self):
        self.taken = set()
        self.lacking = set()
        self.opened = []
        self.next_port = 1000

    def socket(self, family, place, *, share, alone, listens):
        host, port, *_ = place
        if family in self.lacking:
            raise OSError(errno.EADDRNOTAVAIL, "no such address")
        if port == 0:
            self.next_port += 1
            port = self.next_port
        if (host, port) in self.taken:
            raise OSError(errno.EADDRINUSE, "in use")
        sock = Socket(family, host, port, alone, share=share, listens=listens)
        self.opened.append(sock)
        return sock


class Socket:
    def __init__(self, family, host, port, alone, *, share, listens):
        self.family, self.share, self.listens = family, share, listens
        self.shared_since = []
        self.place = (host, port)
        self.alone = alone
        self.closed = False

    def getsockname(self):
        return self.place

    def setsockopt(self, *option):
        self.shared_since.append(option)

    def close(self):
        self.closed = True
