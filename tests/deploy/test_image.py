"""The image: its `Dockerfile` checked, its build carried out, and what came of it run as a container would.

There is no base image here: this machine and the Python of the tests stand for it. So the size is what the
image adds.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.launch import GUARD
from tests.support.wire import Upstream, connect, get, reply, request

from .machine import ROOT, Machine, machine, program, wait_until_up

LARGEST = 100 << 20  # bytes over the base image
CONFIGURATION = "/etc/authproxy/config.yaml"
SECRET = "of-the-container"


@dataclass(frozen=True)
class Instruction:
    """A line of the `Dockerfile`, its continuation lines joined."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The words of what is in the form that no shell reads."""
        words: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return words


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found: list[list[Instruction]] = []
    for line in lines:
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, rest.strip()))
    return found


BUILD, FINAL = stages()


def only(name: str) -> Instruction:
    (found,) = [each for each in FINAL if each.name == name]
    return found


def environment() -> dict[str, str]:
    """Return the variables that the image sets, PATH aside."""
    pairs = dict(word.split("=", 1) for word in shlex.split(only("ENV").rest))
    return {name: value for name, value in pairs.items() if name != "PATH"}


# ── read ─────────────────────────────────────────────────────────────────────────────────────────


def test_hadolint_finds_nothing_wrong() -> None:
    command = [program("hadolint"), "--format", "json", str(ROOT / "Dockerfile")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=GUARD, check=False)
    assert (ended.returncode, json.loads(ended.stdout)) == (0, [])


def test_it_runs_as_a_number_that_is_not_root() -> None:
    # Kubernetes' runAsNonRoot cannot look up a name.
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", only("USER").rest)


def test_what_is_copied_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert ignored[0] == "*"
    copied = [word for each in BUILD if each.name == "COPY" for word in each.rest.split()[:-1]]
    assert set(copied) == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((ROOT / word).exists() for word in copied)


# ── built ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carry out the build stage; return what lies at /opt/authproxy then."""
    directory = tmp_path_factory.mktemp("image")
    source, opt = directory / "src", directory / "opt"
    source.mkdir()
    opt.mkdir()
    for each in BUILD:
        if each.name == "COPY":
            *names, _ = each.rest.split()
            for name in names:
                _copy(ROOT / name, source / name)
    steps = " && ".join(each.rest for each in BUILD if each.name == "RUN")
    asked = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HOME", "SSL_"))}
    with machine(
        directory / "machine", ["sh", "-c", f"cd /src && {steps}"],
        binds={"/src": source, "/opt/authproxy": opt}, before=BASE, env=asked, own_network=False,
    ) as made:  # fmt: skip
        assert made.process.wait(600) == 0, made.output() + made.log()
    return opt


BASE = "\n".join(
    [f"ln -sf {shlex.quote(os.path.realpath(sys._base_executable))} usr/local/bin/python"]  # type: ignore[attr-defined]
    + [f"chmod a+x .{parent}" for parent in Path(sys.base_prefix).parents if parent != Path("/")]
)
"""What makes this machine's Python the base image's: where it is, and open to everybody."""


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def test_it_is_smaller_than_a_hundred_megabytes(built: Path) -> None:
    size = sum(path.lstat().st_size for path in built.rglob("*") if not path.is_dir())
    print(f"the image adds {size >> 20} MiB to its base")
    assert size < LARGEST


def test_what_was_installed_needs_no_compiler_and_no_pip(built: Path) -> None:
    assert not list(built.glob("bin/pip*"))
    packages = next(built.glob("lib/python3*/site-packages"))
    assert (packages / "redis").is_dir()
    assert list(packages.glob("authproxy/cli/__pycache__/run.*.pyc")), "each start would compile"


def test_the_last_stage_makes_its_user_and_a_place_for_its_state(tmp_path: Path) -> None:
    steps = " && ".join(each.rest for each in FINAL if each.name == "RUN")
    state = f"{environment()['XDG_STATE_HOME']}/authproxy"
    with machine(tmp_path, ["sh", "-c", f"{steps} && stat --format '%u:%g %a' {state}"]) as made:
        assert made.wait() == 0, made.log()
        assert made.output().strip() == f"{only('USER').rest} 700"


# ── run ──────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def container(
    built: Path, directory: Path, config: dict[str, Any] | None, *, before: str = "", **binds: Path
) -> Iterator[Machine]:
    """Run the image as `docker run --read-only` does, with `config` mounted, and `binds` at the root."""
    mounted = {} if config is None else {CONFIGURATION: yaml.safe_dump(config)}
    path = f"/opt/authproxy/bin:{os.environ['PATH']}"
    user = int(only("USER").rest.partition(":")[0])
    with machine(
        directory, [*only("ENTRYPOINT").words, *only("CMD").words], files=mounted,
        binds={"/opt/authproxy": built, **{f"/{name}": path for name, path in binds.items()}},
        before=f"{BASE}\n{before}", user=user,
        env={**environment(), "PATH": path}, read_only=True,
    ) as made:  # fmt: skip
        yield made


def settings(**more: Any) -> dict[str, Any]:
    route = {"name": "api", "upstream": "http://127.0.0.1:9000", "auth": {"grant": "static", "token": SECRET}}
    return {"listen": "0.0.0.0:8080", "allow_remote": True, "routes": [{**route, **more}]}


def command(line: str) -> dict[str, Any]:
    return {"auth": {"grant": "static", "token": f"${{command:{line}}}"}}


def wait_for_listeners(made: Machine) -> None:
    wait_until_up(made, lambda: "admin on" in made.output(), "it does not listen")


def test_without_a_configuration_one_message_says_what_to_mount_where(built: Path, tmp_path: Path) -> None:
    with container(built, tmp_path, None) as made:
        assert made.wait() == 2
        assert made.output() == ""
        told, hint = made.log().splitlines()
    assert told.startswith("authproxy: configuration file: not found; searched ")
    assert hint.startswith("  hint: ")
    assert f"in a container, mount one: docker run --volume ./authproxy.yaml:{CONFIGURATION}:ro" in hint


def test_a_configuration_that_its_user_may_not_read_is_told_with_the_user(
    built: Path, tmp_path: Path
) -> None:
    with container(built, tmp_path, settings(), before=f"chmod 600 .{CONFIGURATION}") as made:
        assert made.wait() == 2
        told, hint = made.log().splitlines()
    assert told == f"authproxy: {CONFIGURATION}: cannot be read: Permission denied"
    assert only("USER").rest.partition(":")[0] in hint


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_is_healthy_and_finishes_what_is_in_flight(
    number: int, built: Path, tmp_path: Path
) -> None:
    with container(built, tmp_path, settings()) as made:
        wait_for_listeners(made)
        with made.network():
            upstream = Upstream(port=9000)
        with upstream, made.network():
            assert get("http://127.0.0.1:8080").status == 200
            assert upstream.last.one("Authorization") == f"Bearer {SECRET}"
            health = made.run(
                "env", f"PATH=/opt/authproxy/bin:{os.environ['PATH']}", *only("HEALTHCHECK").words
            )
            assert (health.returncode, health.stderr) == (0, "")

            def answer(_request: object, _wire: object) -> bytes:
                made.signal(number)
                wait_until_up(made, lambda: not_listening(made), "it goes on listening")
                return reply(body=b"to the end")

            upstream.answer = answer
            with connect("http://127.0.0.1:8080") as wire:
                assert wire.send(request()).answer().body == b"to the end"
        assert made.wait() == 0
        assert "Traceback" not in made.log()


def not_listening(made: Machine) -> bool:
    try:
        with made.network():
            connect("http://127.0.0.1:8080").close()
    except OSError:
        return True
    return False


def test_a_signal_during_the_start_is_not_lost(built: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    marks.chmod(0o777)
    starts = "sh -c 'touch /marks/here; sleep 100'"
    with container(built, tmp_path / "machine", settings(**command(starts)), marks=marks) as made:
        wait_until_up(made, (marks / "here").exists, "the program is not started")
        made.signal(signal.SIGTERM)
        assert made.wait() == 128 + signal.SIGTERM


def test_what_a_program_leaves_behind_is_waited_for(built: Path, tmp_path: Path) -> None:
    leaves = "sh -c 'sleep 0.1 >/dev/null & echo secret'"
    with container(built, tmp_path, settings(**command(leaves))) as made:
        wait_for_listeners(made)
        wait_until_up(
            made, lambda: not any("sleep" in name for name in made.processes()), "nobody waits for it"
        )
        assert set(made.processes().values()) == {"S"}
