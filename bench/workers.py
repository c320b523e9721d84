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
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import loads
from compare import stage
from processes import family, free_port, running, wait_until_answering
from proxies import PROXIES, Missing, Setup

PERIOD, SHARE = 10_000, 2_000  # µs: a fifth of a CPU
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
            for pid in (group / "cgroup.procs").read_text().split():
                (root / "cgroup.procs").write_text(pid)
            group.rmdir()


def main() -> int:
    """Measure in rounds, and print the medians."""
    parser = argparse.ArgumentParser(description="What one more worker brings.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load a measurement")
    options = parser.parse_args()
    seen: dict[tuple[str, int], list[float]] = {}
    try:
        with stage() as place:
            for number in range(options.rounds):
                for name in PEERS if number % 2 else reversed(PEERS):
                    for workers in WORKERS:
                        rate = _requests_a_second(
                            name, workers, place.origin_ports["nginx"], place.folder, options
                        )
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


def _requests_a_second(
    name: str, workers: int, origin_port: int, folder: Path, options: argparse.Namespace
) -> float:
    proxy = next(each for each in PROXIES if each.name == name)
    setup = Setup(free_port(), origin_port, folder, workers=workers)
    first, *others = sorted(os.sched_getaffinity(0) | {0})
    load = loads.wrk(connections=100)
    with running(proxy.command(setup), setup.port, folder / f"{name}.log", cpus={first}) as pid:
        wait_until_answering(setup.port)
        load(setup.port, 0.5, set(others))
        with held_back(family(pid)):
            load(setup.port, 0.5, set(others))
            return load(setup.port, options.seconds, set(others)).figures["rps"]


if __name__ == "__main__":
    sys.exit(main())
