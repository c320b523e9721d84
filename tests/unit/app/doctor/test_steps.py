"""Steps are timed, cleaned, told and kept."""

from dataclasses import replace

from authproxy.app.doctor.steps import Step, Steps, failed, passed, skipped


class Told:
    def __init__(self):
        self.heard = []

    def begins(self, name):
        self.heard.append(name)

    def ended(self, step):
        self.heard.append(step)


async def verdict(found):
    return found


async def test_a_step_is_told_before_and_after():
    told = Told()
    steps = Steps(told)
    assert await steps.take("dns", verdict(passed("192.0.2.1"))) == passed("192.0.2.1")
    name, step = told.heard
    assert name == step.name == "dns"
    assert step.ms >= 0
    assert steps.taken == [step]


async def test_what_is_kept_and_told_is_clean():
    told = Told()
    steps = Steps(told, lambda each: replace(each, detail="clean"))
    steps.note("token", passed("dirty"))
    assert steps.taken[0].verdict.detail == told.heard[0].verdict.detail == "clean"
    steps.note("program", passed(), 12.5)
    assert [step.ms for step in steps.taken] == [0.0, 12.5]


def test_only_a_failure_makes_it_fail():
    steps = Steps(Told())
    steps.note("a", passed())
    steps.note("b", skipped("not asked"))
    assert steps.ok
    steps.note("token tcp", failed("cause", "next"))
    assert not steps.ok
    assert steps.failed_at("token ")
    assert not steps.failed_at("b")


def test_a_document_has_every_key():
    document = Step("dns", 1.26, failed("cause", "next")).document()
    assert document == {
        "name": "dns", "ok": False, "ms": 1.3, "detail": None, "cause": "cause", "next": "next",
    }  # fmt: skip
