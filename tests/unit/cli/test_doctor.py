"""`authproxy doctor`: how its steps are shown, and its exit codes."""

import json

import click
import pytest
from click import unstyle

from authproxy.app.doctor.steps import Step, failed, passed, skipped
from authproxy.cli import authproxy
from authproxy.cli.doctor import step_lines

NOWHERE = """\
listen: 127.0.0.1:0
admin: false
routes: [{{name: a, upstream: 'http://127.0.0.1:{port}', auth: {{grant: static, token: the-token}}}}]
"""


@pytest.fixture
def config(tmp_path, unused_tcp_port):
    path = tmp_path / "proxy.yaml"
    path.write_text(NOWHERE.format(port=unused_tcp_port))
    path.chmod(0o600)
    return str(path)


def shown(verdict, **how):
    return [unstyle(line) for line in step_lines(Step("dns", 12.3, verdict), **how)]


def test_a_step_is_a_line_and_a_failure_says_what_to_do():
    assert shown(passed("192.0.2.1"), unicode=True) == ["  ✓ dns            12 ms  192.0.2.1"]
    assert shown(failed("no", "do"), unicode=True) == ["  ✗ dns            12 ms  no", "      next:  do"]
    assert shown(failed("no", "do", "what"), unicode=True)[1] == "      cause: no"
    assert shown(skipped("not asked"), unicode=False) == ["  -      dns            12 ms  not asked"]


def test_a_failure_is_exit_code_1(run, config):
    result = run("doctor", "-c", config, exits=1)
    assert "Connection refused" in result.stdout
    assert result.stdout.endswith("failed: a\n")


def test_a_faulty_file_is_the_configurations_failure_and_not_the_proxys(run, tmp_path):
    file = tmp_path / "proxy.yaml"
    file.write_text("routes: 3")
    assert run("doctor", "-c", str(file), exits=2).stdout.endswith("failed: config\n")


def test_the_document_is_one(run, config):
    document = json.loads(run("doctor", "a", "--json", "-c", config, exits=1).stdout)
    assert [step["name"] for step in document["routes"][0]["steps"]][:4] == [
        "config",
        "secrets",
        "dns",
        "tcp",
    ]
    assert "the-token" not in str(document)


@pytest.mark.parametrize(
    "args", [["b"], ["--path", "x"], ["--path", "/a b"], ["--path", "/#a"], ["--method", "POST"]]
)
def test_bad_usage_is_exit_code_2(run, config, args):
    with pytest.raises(click.UsageError):
        authproxy.main(["doctor", "-c", config, *args], standalone_mode=False)


def test_no_file_is_exit_code_2_and_still_a_document(run):
    document = json.loads(run("doctor", "--json", "-c", "missing.yaml", exits=2).stdout)
    assert "cannot be read" in document["proxy"]["steps"][0]["cause"]
