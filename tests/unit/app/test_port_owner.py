"""Who has a port, read from a /proc that is made up."""

import os
import socket
import sys
from ipaddress import ip_address

import pytest

from authproxy.app.port_owner import owner_of

V4, V6 = socket.AF_INET, socket.AF_INET6
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
US = getattr(os, "getuid", lambda: 0)()
SOMEBODY = US + 1
LOOPBACK = [(V4, ("127.0.0.1", 8080))]


def words(address):
    """Return an address as the kernel prints it: in words, each in the machine's order of bytes."""
    raw = ip_address(address).packed
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return raw.hex().upper()


class System:
    """A /proc with sockets and processes."""

    def __init__(self, root):
        self.root = root
        (root / "net").mkdir()
        self.lines = {"tcp": HEAD, "tcp6": HEAD}

    def socket(self, inode, address="127.0.0.1", port=8080, state="0A", user=US):
        name = "tcp6" if ":" in address else "tcp"
        peer = f"{words(address)}:0000"
        local = f"{words(address)}:{port:04X}"
        self.lines[name] += f"0: {local} {peer} {state} 0:0 0:0 0 {user} 0 {inode} 1 0\n"
        (self.root / "net" / name).write_text(self.lines[name])

    def process(self, pid, *inodes, name="nginx", argv=("nginx",), user=US):
        place = self.root / str(pid)
        (place / "fd").mkdir(parents=True)
        (place / "comm").write_text(f"{name}\n")
        (place / "cmdline").write_bytes("\0".join(argv).encode() + b"\0")
        (place / "status").write_text(f"Name:\t{name}\nUid:\t{user}\t0\t0\t0\n")
        for number, inode in enumerate(inodes):
            (place / "fd" / str(number)).symlink_to(f"socket:[{inode}]")

    def owner(self, places=LOOPBACK):
        return owner_of(places, self.root)


@pytest.fixture
def system(tmp_path):
    return System(tmp_path)


def test_who_listens_is_named_with_its_number(system):
    system.socket(7)
    system.process(41, 5)
    system.process(42, 6, 7, name="postgres")
    assert system.owner() == "postgres (pid 42)"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "127.0.0.1"])
def test_every_address_is_in_the_way_of_one(system, address):
    system.socket(7, address)
    system.process(42, 7)
    assert system.owner() == "nginx (pid 42)"


def test_one_is_in_the_way_of_every_address(system):
    system.socket(7, "::1")
    system.process(42, 7)
    assert system.owner([(V6, ("::", 8080, 0, 0))]) == "nginx (pid 42)"


@pytest.mark.parametrize("other", [{"address": "127.0.0.2"}, {"port": 8081}, {"state": "01"}])
def test_who_is_not_in_the_way_is_not_named(system, other):
    system.socket(7, **other)
    system.process(42, 7)
    assert system.owner() is None


@pytest.mark.parametrize(
    "argv", [("/usr/bin/python3", "/usr/bin/authproxy", "run"), ("python3", "-m", "authproxy")]
)
def test_another_authproxy_is_called_so(system, argv):
    system.socket(7)
    system.process(42, 7, name="python3", argv=argv)
    assert system.owner() == "another authproxy (pid 42)"


def test_one_that_keeps_its_descriptors_to_itself_is_known_by_its_command_line(system):
    system.socket(7, user=SOMEBODY)
    system.process(41, argv=("authproxy", "run"), user=US)
    system.process(42, argv=("authproxy", "run"), user=SOMEBODY)
    assert system.owner() == "another authproxy, it seems (pid 42)"


def test_of_another_users_process_only_that_is_known(system):
    system.socket(7, user=SOMEBODY)
    system.process(42)
    assert system.owner() == "a process of another user"


def test_of_one_of_ours_that_has_ended_since_nothing_is_known(system):
    system.socket(7)
    assert system.owner() is None


def test_our_own_listener_is_not_taken_for_another_process(system):
    system.socket(7)
    system.process(os.getpid(), 7)
    assert system.owner() == "this authproxy, for another of its listeners"


def test_without_such_files_nobody_knows(tmp_path):
    assert owner_of(LOOPBACK, tmp_path / "nothing") is None
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(HEAD + "something else altogether\n")
    assert owner_of(LOOPBACK, tmp_path) is None
