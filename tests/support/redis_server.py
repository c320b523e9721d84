"""A real Redis as a process of its own, ended by its process id."""

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.ports import free_port


class RedisServer:
    """A Redis of our own on a free port of the loopback, with a password, keeping nothing on disk."""

    password = "of-the-redis"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--requirepass": self.password,
            "--save": "",
            "--appendonly": "no",
            "--rdbcompression": "no",
            "--dir": str(self.directory),
        }
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [shutil.which("redis-server"), *(word for each in options.items() for word in each)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"Redis did not start:\n{(self.directory / 'log').read_text()}", pytrace=False)

    def stop(self) -> None:
        """End it at once, as a crash would: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
