"""Compares authproxy with other proxies, in one run on one machine.

    load (wrk, or this program) ──► proxy ──► origin (nginx, or origin.py)
    └───── the other CPUs ──────┘  CPU 0     └───── the other CPUs ─────┘

Each round starts every proxy once a scenario, afresh, and the rounds alternate between them, so that a busy
moment of the machine does not fall on one alone. bench/README.md says how to read the result.
"""

import argparse
import contextlib
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import report
import results
import trustme
from processes import Command, Failed, free_port, running
from proxies import AUTHORIZATION, HERE, PROXIES, Missing, Proxy, Setup, Unsupported, before, origin_nginx
from results import Results, Sample
from scenarios import SCENARIOS, Launch, Scenario, shares_of_cpus

MAX_FILES = 65536  # for the idle connections; the proxies inherit it
MAIN = ("authproxy", "authproxy before", "nginx", "Envoy", "Go", "pooled Go")


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands while the rounds go on: the origins by name, a folder, the CPUs."""

    folder: Path
    origin_ports: dict[str, int]
    ca_file: Path
    cpus: list[int]


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start the origins; stop them when the block ends."""
    cpus = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="authproxy-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        ports = {each: free_port() for each in ("nginx", "tls", "own", "expiring")}
        ca_file = folder / "authority.pem"
        nginx = origin_nginx(Setup(ports["nginx"], 0, folder), ports["tls"], *_certificate(folder, ca_file))
        own = [sys.executable, str(HERE / "origin.py")]
        commands = {
            "nginx": nginx,
            "own": Command([*own, str(ports["own"]), AUTHORIZATION]),
            "expiring": Command([*own, str(ports["expiring"]), AUTHORIZATION, "expiring"]),
        }
        _, others = shares_of_cpus(cpus, 1)
        for role, command in commands.items():
            stack.enter_context(running(command, ports[role], folder / f"origin-{role}.log", cpus=others))
        os.sched_setaffinity(0, others)
        yield Stage(folder, ports, ca_file, cpus)


def _certificate(folder: Path, ca_file: Path) -> tuple[Path, Path]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    issued = authority.issue_cert("localhost", "127.0.0.1")
    file, key = folder / "origin.pem", folder / "origin.key"
    file.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return file, key


def measure(scenario: Scenario, proxy: Proxy, place: Stage, options: argparse.Namespace) -> results.Figures:
    """Start `proxy` as the scenario wants it, measure it, and stop it."""
    folder = place.folder / proxy.name.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    wanted = scenario.setup | ({"ca_file": place.ca_file} if "ca_file" in scenario.setup else {})
    setup = replace(Setup(free_port(), place.origin_ports[scenario.origin], folder), **wanted)
    cpus, load_cpus = shares_of_cpus(place.cpus, setup.workers)
    return scenario.measure(
        Launch(
            proxy.command(setup), setup, folder / "log", cpus, load_cpus,
            seconds=options.seconds, warm_up=options.warm_up,
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """All rounds of a run. The results are saved after each."""

    options: argparse.Namespace
    place: Stage
    found: Results

    def all_rounds(self, proxies: list[Proxy], file: Path) -> None:
        for number in range(1, self.options.rounds + 1):
            for scenario in self.options.scenarios:
                taking_part = [each for each in proxies if _takes_part(each, scenario, self.options.peers)]
                for proxy in taking_part if number % 2 else reversed(taking_part):
                    print(
                        f"round {number}/{self.options.rounds}: {scenario.name}: {proxy.name}",
                        file=sys.stderr,
                    )
                    self._sample(scenario, proxy, number)
            self.found.save(file)

    def _sample(self, scenario: Scenario, proxy: Proxy, number: int) -> None:
        try:
            figures = measure(scenario, proxy, self.place, self.options)
        except Missing as missing:
            self.found.remark(str(missing))
        except Unsupported:
            self.found.remark(f"{proxy.name} is not set up for {scenario.name}")
        except (Failed, OSError, subprocess.CalledProcessError) as error:
            self.found.remark(f"FAILED: {proxy.name} in {scenario.name}, round {number}: {error}")
        else:
            self.found.samples.append(Sample(scenario.name, proxy.name, number, figures))


def run(options: argparse.Namespace, file: Path) -> Results:
    """Set the stage, and run all rounds on it."""
    proxies = [*PROXIES[:1], *([before(options.baseline)] if options.baseline else []), *PROXIES[1:]]
    found = Results(_machine(), _command_line(), {})
    for proxy in proxies:
        with contextlib.suppress(Missing):
            found.versions[proxy.name] = proxy.version()
    with stage() as place:
        Run(options, place, found).all_rounds(proxies, file)
    return found


def _takes_part(proxy: Proxy, scenario: Scenario, peers: list[str] | None) -> bool:
    if proxy.name in scenario.leave_out:
        return False
    if peers is None:
        return scenario.everybody or proxy.name in MAIN
    return proxy.name in (*MAIN[:2], *peers)


def _machine() -> dict[str, str]:
    cpu = [
        line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")
    ]
    memory = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    return {
        "date": time.strftime("%Y-%m-%d"),
        "CPU": f"{len(cpu)} of {cpu[0] if cpu else platform.machine()}",
        "memory": f"{memory / (1 << 20):.0f} GiB",
        "system": f"Linux {kernel}, Python {platform.python_version()}",
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def _command_line() -> str:
    arguments = ["PATH" if Path(each).is_dir() else each for each in sys.argv[1:]]
    return " ".join(["python", "bench/compare.py", *arguments])


# ── the command line ─────────────────────────────────────────────────────────────────────────────


def parse() -> argparse.Namespace:
    """Read the command line."""
    names = [each.name for each in SCENARIOS]
    parser = argparse.ArgumentParser(description="Compare authproxy with other reverse proxies.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load a measurement")
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds of load before that")
    parser.add_argument("--quick", action="store_true", help="one short round: does all of it work?")
    parser.add_argument("--only", type=_list, default=names, metavar="SCENARIO,…", help=", ".join(names))
    parser.add_argument(
        "--peers", type=_list, metavar="NAME,…",
        help=f"of {', '.join(each.name for each in PROXIES[1:])}",
    )  # fmt: skip
    parser.add_argument("--baseline", type=Path, metavar="PATH", help="another checkout of authproxy")
    parser.add_argument(
        "--write-docs", action="store_true", help="tables and charts into docs/performance.md"
    )
    parser.add_argument("--from", type=Path, dest="saved", metavar="FILE", help="show saved results")
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"unknown scenario: {', '.join(unknown)}")
    if unknown := set(options.peers or ()) - {each.name for each in PROXIES}:
        parser.error(f"unknown peer: {', '.join(unknown)}")
    options.scenarios = [each for each in SCENARIOS if each.name in options.only]
    if options.quick:
        options.rounds, options.seconds, options.warm_up = 1, 0.5, 0.25
    return options


def _list(text: str) -> list[str]:
    return text.split(",")


def _end(_signal: int, _frame: object) -> None:
    sys.exit("ended; what was started is stopped")


def main() -> int:
    """Compare, and tell; return 1 where something failed."""
    options = parse()
    if options.saved:
        found = results.load(options.saved)
    else:
        signal.signal(signal.SIGTERM, _end)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MAX_FILES) if most > 0 else MAX_FILES, most))
        file = HERE / "results" / time.strftime("%Y-%m-%d-%H%M.json")
        try:
            found = run(options, file)
        except Missing as missing:
            sys.exit(str(missing))
        print(f"saved in {os.path.relpath(file)}", file=sys.stderr)
    print(report.text(found))
    if options.write_docs:
        report.write_docs(found)
    return int(any(each.startswith("FAILED") for each in found.remarks))


if __name__ == "__main__":
    sys.exit(main())
