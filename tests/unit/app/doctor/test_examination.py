"""All steps in their order; one route's fault is not another's."""

import pytest

from authproxy.app.doctor.examination import Examination
from authproxy.app.doctor.upstream import Question
from authproxy.config.salvage import salvage

TEXT = """\
listen: 127.0.0.1:0
admin: false
{top}
routes:
  - name: a
    path: /a
    upstream: http://127.0.0.1:{port}
    timeouts: {{connect: 1h}}
    auth: {{grant: static, token: t}}
  - name: b
    path: /b
    upstream: http://127.0.0.1:{port}
    auth: {{grant: {grant}}}
"""


class View:
    def __init__(self):
        self.seen = []

    def subject(self, title):
        self.seen.append(title)

    def begins(self, name):
        pass

    def ended(self, step):
        self.seen.append(step.name)


@pytest.fixture
def examine(tmp_path, unused_tcp_port):
    async def examine(*, top="", grant="none", route=None):
        path = tmp_path / "authproxy.yaml"
        path.write_text(TEXT.format(top=top, grant=grant, port=unused_tcp_port))
        view = View()
        report = await Examination(salvage(path), Question(), view, route=route).report()
        return report, view.seen

    return examine


async def test_each_route_has_its_steps(examine):
    report, seen = await examine()
    names = [step.name for step in report.routes[0].steps.taken]
    assert names == ["config", "secrets", "dns", "tcp", "token", "upstream"]
    assert [step.name for step in report.routes[1].steps.taken] == [
        "config",
        "secrets",
        "dns",
        "tcp",
        "upstream",
    ]
    assert [each for each in seen if each.startswith("a ")] == [f"a → {seen[3].partition(' → ')[2]}"]
    assert report.exit_code == 1
    assert report.document()["routes"][0]["ok"] is False


async def test_a_faulty_route_is_told_and_the_other_examined(examine):
    report, _ = await examine(grant="nun")
    a, b = report.routes
    assert len(a.steps.taken) == 6
    assert [step.verdict.ok for step in b.steps.taken][:1] == [False]
    assert report.exit_code == 2


async def test_only_the_route_that_is_asked_for(examine):
    report, _ = await examine(route="b")
    assert [each.name for each in report.routes] == ["b"]


async def test_with_a_faulty_top_no_token_is_asked_for(examine):
    report, _ = await examine(top="token_store: {type: nowhere}")
    assert (
        report.routes[0].steps.taken[-1].verdict.detail
        == "not asked for while the top of the file has faults"
    )
