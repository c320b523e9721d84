"""`authproxy run`: what the command line says over the file. Nothing is served."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from authproxy.capabilities import WORKERS
from authproxy.cli import authproxy
from authproxy.cli import run as run_module
from tests.support.systems import needs

from .conftest import PLAIN


@pytest.fixture
def served(monkeypatch):
    """Return what was to be served, and how; it ends with 7."""
    served = []

    def serve(config, *, notify, passed, **settings):
        assert (bool(notify), passed) == (False, [])
        served.append((config, SimpleNamespace(**settings)))
        return 7

    monkeypatch.setattr(run_module, "serve", serve)
    return served


def test_without_options_the_file_is_served_as_it_is(write, run, served):
    config = write()
    run("run", "-c", config)
    ((found, how),) = served
    assert (found.file, found.listen, found.admin) == (config, ("127.0.0.1:8080",), None)
    assert (how.retry_rejected, how.watches) == (False, False)


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        (
            ["--listen", "127.0.0.1:1", "--listen", "[::1]:1"],
            lambda config: config.listen,
            ("127.0.0.1:1", "[::1]:1"),
        ),
        (["--admin", "127.0.0.1:9"], lambda config: config.admin.listen, "127.0.0.1:9"),
        pytest.param(["--workers", "3"], lambda config: config.workers, 3, marks=needs(WORKERS)),
        (["--workers", "auto"], lambda config: config.workers, "auto"),
        (["--log-level", "debug"], lambda config: (config.log.level, config.log.format), ("debug", "json")),
        (["--log-format", "text"], lambda config: (config.log.level, config.log.format), ("error", "text")),
    ],
)
def test_an_option_goes_before_the_file_and_leaves_the_rest(write, run, served, options, key, value):
    config = write("log: {{level: error, format: json}}\n" + PLAIN)
    run("run", "-c", config, *options)
    assert key(served[0][0]) == value


def test_the_admin_listener_can_be_left_out(write, run, served):
    config = write("admin: {{listen: '127.0.0.1:9'}}\n" + PLAIN)
    run("run", "-c", config)
    run("run", "-c", config, "--no-admin")
    assert [found.admin and found.admin.listen for found, _ in served] == ["127.0.0.1:9", None]


def test_the_exit_code_is_that_of_the_serving(write, served):
    result = CliRunner().invoke(authproxy, ["run", "-c", write()], standalone_mode=False)
    assert (result.return_value, len(served)) == (7, 1)


def test_one_route_needs_no_file(run, served):
    run("run", "--upstream", "https://a.example", "--set", "grant=static", "--set", "token=t",
        "--retry-rejected")  # fmt: skip
    ((config, how),) = served
    assert [
        (route.upstream, route.path, route.grant.token.get_secret_value()) for route in config.routes
    ] == [("https://a.example", "/", "t")]
    assert how.retry_rejected
    assert how.read() == config


def test_what_is_read_again_is_the_file_with_the_options_and_the_environment_of_the_start(
    write, run, served, monkeypatch
):
    monkeypatch.setenv("PLACE", "127.0.0.1:1")
    config = write("listen: '${{PLACE}}'\n" + PLAIN)
    run("run", "-c", config, "--workers", "3", "--watch")
    monkeypatch.setenv("PLACE", "127.0.0.1:2")
    write("limits: {{connections: 7}}\nlisten: '${{PLACE}}'\n" + PLAIN)
    ((before, how),) = served
    after = how.read()
    assert how.watches
    assert (before.limits.connections, after.limits.connections) == (1024, 7)
    assert (after.workers, after.listen) == (3, ("127.0.0.1:1",))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--admin", "127.0.0.1:9", "--no-admin"], "--admin and --no-admin cannot be used together"),
        (["--preset", "bearer"], "--preset and --set need --upstream"),
        (["--set", "a=b"], "--preset and --set need --upstream"),
        (
            ["--upstream", "https://a.example", "-c", "proxy.yaml"],
            "--upstream and --config cannot be used together",
        ),
        (["--log-level", "loud"], "'loud' is not one of"),
    ],
)
def test_options_that_exclude_each_other_are_bad_usage_and_nothing_is_served(run, served, options, says):
    assert says in run("run", *options, exits=2).stderr
    assert not served
