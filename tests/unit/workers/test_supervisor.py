"""The supervisor, the system under it faked: who is started, replaced, told to end, and in which order."""

import signal
from types import SimpleNamespace

import pytest

from authproxy.capabilities import WNOHANG, Capability
from authproxy.errors import AuthproxyError
from authproxy.workers import supervisor as module
from authproxy.workers.supervisor import (
    LOOK_SECONDS,
    QUICK_DEATH,
    WATCHED,
    Child,
    Supervisor,
    worker_count,
)

OLD_AGE = 3600.0  # seconds
EXIT = 256  # of a status of `waitpid`: exit code 1


class Left(BaseException):
    """Somebody left the process with a code."""


class System:
    """Forks without a process, and delivers the signals of a script: each entry tells what happens next."""

    def __init__(self):
        self.now = 0.0
        self.pids = iter(range(101, 200))
        self.dead = []  # (pid, status), not reaped yet
        self.killed = []
        self.forks = []
        self.slept = []
        self.masks = []
        self.script = []
        self.taken = []
        self.has_terminal = True

    def fork(self):
        assert self.masks == [(signal.SIG_BLOCK, WATCHED)], "a signal must not reach a child too early"
        self.forks.append(next(self.pids))
        return self.forks[-1]

    def waitpid(self, pid, options):
        assert (pid, options) == (-1, WNOHANG)
        return self.dead.pop(0) if self.dead else (0, 0)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def sigwait(self, watched):
        assert watched == WATCHED
        assert self.script, "it waits for ever"
        return self.script.pop(0)()

    def signalled(self, number):
        return lambda: number

    def dies(self, *pids, status=0, after=OLD_AGE):
        def happen():
            self.now += after
            self.dead += [(pid, status) for pid in pids]
            return signal.SIGCHLD

        return happen


class Socket:
    closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def system(monkeypatch):
    made = System()
    monkeypatch.setattr(
        module,
        "os",
        SimpleNamespace(
            waitpid=made.waitpid,
            kill=lambda pid, number: made.killed.append((pid, number)),
            waitstatus_to_exitcode=lambda status: status // EXIT,
        ),
    )
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep))
    monkeypatch.setattr(module, "fork", made.fork)
    monkeypatch.setattr(module, "pthread_sigmask", lambda *what: made.masks.append(what))
    monkeypatch.setattr(module, "sigwait", made.sigwait)
    monkeypatch.setattr(module, "terminal_watch", lambda: lambda: not made.has_terminal)
    return made


@pytest.fixture
def run(system):
    """Run a supervisor of a broker (101) and two workers (102, 103) through what happens."""

    def run(*script, sockets=()):
        system.script += script
        children = [Child(name, lambda: 0) for name in ("broker", "worker 1", "worker 2")]
        system.supervisor = Supervisor(children, lambda: list(sockets), lambda: system.taken.append(True))
        system.ready = []
        return system.supervisor.run(lambda: system.ready.append(list(system.forks)))

    return run


def end(system):
    """Return an orderly end of the first three processes."""
    return system.signalled(signal.SIGTERM), system.dies(102, 103), system.dies(101)


# ── a life ───────────────────────────────────────────────────────────────────────────────────────


def test_all_are_started_before_it_says_that_it_is_ready(system, run):
    assert run(*end(system)) == 0
    assert system.ready == [[101, 102, 103]]


def test_another_process_takes_the_place_of_one_that_dies(system, run, caplog):
    caplog.set_level("ERROR")
    code = run(
        system.dies(102, status=3 * EXIT),
        system.signalled(signal.SIGTERM),
        system.dies(104, 103),
        system.dies(101),
    )
    assert code == 0  # what happened before the end was mended
    assert system.forks == [101, 102, 103, 104]
    assert system.supervisor.children[1].name == "worker 1"
    [record] = caplog.records
    assert record.getMessage() == "process died"
    assert record.facts == {"process": "worker 1", "status": 3}


def test_the_broker_is_replaced_too(system, run):
    run(system.dies(101), system.signalled(signal.SIGTERM), system.dies(102, 103), system.dies(104))
    assert system.forks == [101, 102, 103, 104]
    assert (104, signal.SIGTERM) in system.killed
    assert (101, signal.SIGTERM) not in system.killed


def test_all_who_died_behind_one_signal_are_replaced(system, run):
    run(
        system.dies(102, 103),
        system.signalled(signal.SIGTERM),
        system.dies(104, 105),
        system.dies(101),
    )
    assert system.forks == [101, 102, 103, 104, 105]


@pytest.mark.parametrize(("age", "pause"), [(QUICK_DEATH / 2, [QUICK_DEATH]), (QUICK_DEATH, []), (600, [])])
def test_who_dies_quickly_is_not_started_again_at_once(system, run, age, pause):
    run(
        system.dies(102, after=age),
        system.signalled(signal.SIGTERM),
        system.dies(104, 103),
        system.dies(101),
    )
    assert system.slept == pause


def test_a_stranger_among_the_dead_is_nobodys_business(system, run):
    assert run(system.dies(4711, status=EXIT), *end(system)) == 0
    assert system.forks == [101, 102, 103]


# ── the service manager ──────────────────────────────────────────────────────────────────────────


class Beats:
    """Heartbeats of which each answer is in a script."""

    def __init__(self, answers, seconds):
        self.answers = list(answers)
        self.seconds = seconds

    def all_beat(self):
        return self.answers.pop(0)


@pytest.fixture
def told(system, monkeypatch):
    """Run a supervisor whose timer goes off for each of `answers`; return what is told, and each timer."""

    def run(answers, *, seconds, beats=True, afterwards=()):
        said, timer = [], []
        notify = SimpleNamespace(alive=lambda: said.append("alive"), stopping=lambda: said.append("stopping"))
        monkeypatch.setattr(module, "setitimer", lambda *what: timer.append(what[1:]))
        system.script += [lambda: signal.SIGALRM] * len(answers)
        stopped, *dying = end(system)
        system.script += [stopped, *afterwards, *dying]
        children = [Child(name, lambda: 0) for name in ("broker", "worker 1", "worker 2")]
        made = Supervisor(children, list, print, notify, Beats(answers, seconds) if beats else None)
        assert made.run(lambda: said.append("ready"), lambda: said.append("serving")) == 0
        return said, timer

    return run


def test_it_serves_once_every_child_does_and_lives_as_long_as_all_of_them(told):
    said, timer = told([False, False, True, True, False, True], seconds=5.0)
    assert said == ["ready", "serving", "alive", "alive", "stopping"]
    assert timer == [(LOOK_SECONDS, LOOK_SECONDS), (5.0, 5.0)]


def test_without_a_watchdog_nobody_looks_any_more_once_it_serves(told):
    assert told([False, True], seconds=None) == (
        ["ready", "serving", "stopping"],
        [(LOOK_SECONDS, LOOK_SECONDS), (0, 0)],
    )


def test_who_is_told_to_stop_before_all_serve_never_serves(told):
    said, _ = told([False], seconds=5.0, afterwards=[lambda: signal.SIGALRM])
    assert said == ["ready", "stopping"]


def test_without_a_service_manager_nobody_looks_at_all(told):
    assert told([], seconds=None, beats=False) == (["ready", "stopping"], [])


# ── the end ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_workers_are_told_first_and_the_broker_once_the_last_of_them_has_ended(system, run, number):
    told = []

    def note(event):
        def happen():
            told.append(list(system.killed))
            return event()

        return happen

    script = (
        system.signalled(number),
        note(system.dies(102)),
        note(system.dies(103)),
        note(system.dies(101)),
    )
    assert run(*script) == 0
    workers = [(102, number), (103, number)]
    assert told == [workers, workers, [*workers, (101, signal.SIGTERM)]]


def test_at_the_end_nobody_is_put_in_the_place_of_who_ends_and_nothing_is_listened_on(system, run):
    sockets = [Socket(), Socket()]

    def look():
        assert all(each.closed for each in sockets)
        return system.dies(102, 103)()

    assert run(system.signalled(signal.SIGTERM), look, system.dies(101), sockets=sockets) == 0
    assert system.forks == [101, 102, 103]


def test_a_second_signal_goes_to_all_that_are_left(system, run):
    run(
        system.signalled(signal.SIGTERM),
        system.dies(102),
        system.signalled(signal.SIGINT),
        system.dies(103),
        system.dies(101),
    )
    assert system.killed[2:4] == [(101, signal.SIGINT), (103, signal.SIGINT)]


@pytest.mark.parametrize("pid", [101, 102])
def test_one_that_fails_at_the_end_makes_the_whole_fail(system, run, pid):
    first, second = (102, 103), (101,)
    code = run(
        system.signalled(signal.SIGTERM),
        *(system.dies(each, status=EXIT if each == pid else 0) for each in (*first, *second)),
    )
    assert code == 1


# ── another configuration ────────────────────────────────────────────────────────────────────────


def test_sighup_is_for_the_broker_alone_and_ends_nobody(system, run):
    assert run(system.signalled(signal.SIGHUP), *end(system)) == 0
    assert system.killed[0] == (101, signal.SIGHUP)
    assert system.forks == [101, 102, 103]


def test_sighup_of_a_terminal_that_has_gone_ends_everybody(system, run):
    system.has_terminal = False
    assert run(system.signalled(signal.SIGHUP), system.dies(102, 103), system.dies(101)) == 0
    assert system.killed == [(102, signal.SIGTERM), (103, signal.SIGTERM), (101, signal.SIGTERM)]


def test_nothing_is_reloaded_at_the_end(system, run):
    assert run(system.signalled(signal.SIGTERM), system.signalled(signal.SIGHUP), *end(system)[1:]) == 0
    assert signal.SIGHUP not in [number for _, number in system.killed]


def test_what_the_broker_has_to_say_is_taken_when_it_says_so(system, run):
    assert run(system.signalled(signal.SIGUSR1), *end(system)) == 0
    assert system.taken == [True]


def test_what_is_listened_on_at_the_end_is_closed_whatever_it_was_at_the_start(system, run):
    sockets = [Socket()]

    def reload():
        sockets[:] = [Socket(), Socket()]
        return signal.SIGUSR1

    assert run(reload, *end(system), sockets=sockets) == 0
    assert all(each.closed for each in sockets)


# ── in a child ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def left(monkeypatch):
    """Leave a test instead of the process; the log is written before."""
    order = []

    def leave(code):
        order.append(code)
        raise Left

    monkeypatch.setattr(module, "os", SimpleNamespace(_exit=leave))
    monkeypatch.setattr(module, "fork", lambda: 0)
    monkeypatch.setattr(module, "stderr", SimpleNamespace(finish=lambda: order.append("log written")))
    monkeypatch.setattr(module, "pthread_sigmask", lambda *what: order.append(what))
    monkeypatch.setattr(module, "terminal_watch", lambda: bool)
    monkeypatch.setattr(signal, "signal", lambda *what: order.append(what))
    return order


def fails(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda: 0, 0),
        (lambda: 7, 7),
        (fails(AuthproxyError("no such file")), 1),
        (fails(RuntimeError("s3cr3t")), 1),
        (fails(KeyboardInterrupt()), 1),
    ],
    ids=["done", "code", "told", "fault", "interrupt"],
)
def test_a_child_hears_signals_does_its_work_and_leaves_with_its_code(left, work, code):
    with pytest.raises(Left):
        Supervisor([Child("worker", work)], list, print).run(lambda: pytest.fail("a child goes no further"))
    # A signal before its loop hears any ends it, with nothing to finish: that is no failure.
    handlers = [(signal.SIGINT, module._leave), (signal.SIGTERM, module._leave)]
    heard = WATCHED - {signal.SIGHUP}  # which waits until somebody can reload
    block, unblock = (signal.SIG_BLOCK, WATCHED), (signal.SIG_UNBLOCK, heard)
    assert left == [block, *handlers, unblock, "log written", code]
    with pytest.raises(Left):
        module._leave(signal.SIGTERM, None)
    assert left[-1] == 0


def test_why_a_child_failed_is_told(left, caplog):
    for error in (AuthproxyError("no such file"), RuntimeError("s3cr3t")):
        with pytest.raises(Left):
            module._end(fails(error))
    assert caplog.records[0].facts == {"cause": "no such file"}
    assert "s3cr3t" not in caplog.records[1].getMessage()
    assert len(left) == 4


# ── how many ─────────────────────────────────────────────────────────────────────────────────────


def test_as_many_workers_as_are_asked_for_or_one_for_each_processor_we_may_use(monkeypatch):
    monkeypatch.setattr(module, "cpu_count", lambda: 3)
    assert worker_count(SimpleNamespace(workers="auto")) == 3
    assert worker_count(SimpleNamespace(workers=2)) == 2


def test_where_processes_cannot_be_forked_as_many_as_possible_is_one(monkeypatch):
    monkeypatch.setattr(module, "WORKERS", Capability(present=False, lack="no fork"))
    assert worker_count(SimpleNamespace(workers="auto")) == 1
