"""A company's network: its hosts have certificates of its own, and names lead somewhere at its proxy alone.

with running_company(directory) as company, Upstream(tls=company.tls("api.corp.test")) as server:
    company.places["api.corp.test:443"] = server.port
    company.run("curl", "https://api.corp.test/")
"""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.forwarder import Forwarder, server_tls
from tests.support.launch import environment


@dataclass(frozen=True)
class Company:
    """Where to be at work: in `directory`, with `variables`."""

    directory: Path
    way: Forwarder
    ca: trustme.CA

    @property
    def places(self) -> dict[str, int]:
        """The ports of this machine that stand for its hosts, by `HOST:PORT`."""
        return self.way.places

    @property
    def roots(self) -> Path:
        """What is trusted there, and nothing else."""
        return self.directory / "company.pem"

    @property
    def variables(self) -> dict[str, str]:
        named = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), str(self.roots))
        return {"HTTPS_PROXY": f"http://127.0.0.1:{self.way.port}", **named}

    def tls(self, name: str) -> ssl.SSLContext:
        return server_tls(self.ca, name)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            words, cwd=self.directory, env=environment(self.directory, self.variables | variables),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip


@contextmanager
def running_company(directory: Path) -> Iterator[Company]:
    """Have that network until the end of the block."""
    with Forwarder({}) as way:
        made = Company(directory, way, trustme.CA())
        made.ca.cert_pem.write_to_path(made.roots)
        yield made
