"""What one more worker brings, where every worker has an equal and small share of a CPU.

    load ──► 1, 2 or 4 workers ──► origin
    CPU 1        CPU 0             CPU 1

Workers scale as long as they share nothing. To see that needs a CPU each, and others for the load; here
the kernel makes four slow CPUs of one: each worker may run for 2 of every 10 ms. Needs Linux, nginx, wrk,
and root (or a writable cgroup with the cpu controller).

    sudo .venv/bin/python bench/workers.py
"""

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import loads
from compare import Stage, stage
from processes import Command, family, free_port, running, start, stop, wait_until_answering
from proxies import PROXIES, Missing, Setup

PERIOD, SHARE = 10_000, 2_000  # µs: a fifth of a CPU
WARM_UP = 0.5  # seconds, before it is held back and after
AWAKE = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
WORKERS = (1, 2, 4)
PEERS = ("authproxy", "nginx")


@contextlib.contextmanager
def held_back(pids: list[int]) -> Iterator[None]:
    """Let each process have `SHARE` µs of every `PERIOD` until the block ends. Raises `Missing`."""
    first = Path("/sys/fs/cgroup/cpu")  # version 1 has a tree for each controller
    root = first if first.is_dir() else Path("/sys/fs/cgroup")
    made: list[Path] = []
    try:
        for pid in pids:
            group = root / f"authproxy-bench-{pid}"
            group.mkdir()
            made.append(group)
            if root == first:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (group / "cpu.cfs_quota_us").write_text(str(SHARE))
            else:
                (group / "cpu.max").write_text(f"{SHARE} {PERIOD}")
            (group / "cgroup.procs").write_text(str(pid))
        yield
    except PermissionError as error:
        raise Missing(f"no cgroup can be made ({error.filename}): run it as root") from error
    finally:
        for group in made:
            for member in (group / "cgroup.procs").read_text().split():
                (root / "cgroup.procs").write_text(member)
            group.rmdir()


def main() -> int:
    """Measure in rounds, and print the medians."""
    parser = argparse.ArgumentParser(description="What one more worker brings.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load a measurement")
    options = parser.parse_args()
    seen: dict[tuple[str, int], list[float]] = {}
    try:
        with stage() as place, kept_awake(place):
            for number in range(options.rounds):
                for name in PEERS if number % 2 else reversed(PEERS):
                    for workers in WORKERS:
                        rate = _requests_a_second(name, workers, place, options.seconds)
                        seen.setdefault((name, workers), []).append(rate)
    except Missing as missing:
        sys.exit(str(missing))
    print(f"medians of {options.rounds} rounds; a worker has {SHARE / PERIOD:.0%} of a CPU")
    for (name, workers), rates in sorted(seen.items()):
        ratios = [rate / alone for rate, alone in zip(rates, seen[name, 1], strict=True)]
        print(
            f"{name:10} {workers} workers  {statistics.median(rates):8,.0f} requests/s"
            f"  {statistics.median(ratios):.2f} of one ({min(ratios):.2f} … {max(ratios):.2f})"
        )
    return 0


@contextlib.contextmanager
def kept_awake(place: Stage) -> Iterator[None]:
    """Keep the first CPU from going to sleep, from which it returns slowly, whenever nobody else wants it."""
    process = start(Command([sys.executable, "-c", AWAKE]), place.folder / "awake.log", cpus={place.cpus[0]})
    try:
        yield
    finally:
        stop(process)


def _requests_a_second(name: str, workers: int, place: Stage, seconds: float) -> float:
    proxy = next(each for each in PROXIES if each.name == name)
    setup = Setup(free_port(), place.origin_ports["nginx"], place.folder, workers=workers)
    first, *others = place.cpus
    load = loads.wrk(connections=100)
    with running(proxy.command(setup), setup.port, place.folder / f"{name}.log", cpus={first}) as pid:
        wait_until_answering(setup.port)
        load(setup.port, WARM_UP, set(others))
        with held_back(family(pid)):
            load(setup.port, WARM_UP, set(others))
            rate: float = load(setup.port, seconds, set(others)).figures["rps"]
            return rate


if __name__ == "__main__":
    sys.exit(main())
