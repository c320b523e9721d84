"""The limit on open files: raised to what is needed, as far as it goes; and said where it does not."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.command import running_proxy
from tests.support.wire import Upstream, connect, get, request

LOW = 256


@contextmanager
def soft_limit(files: int) -> Iterator[None]:
    """Have processes that are started now begin with a soft limit of `files`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_is_raised_to_what_the_configuration_needs() -> None:
    with Upstream() as upstream:
        routes = [
            {"name": "api", "upstream": upstream.url, "auth": {"grant": "none"}, "max_connections": 100}
        ]
        config = {"log": {"level": "debug"}, "limits": {"connections": 300}, "routes": routes}
        with soft_limit(LOW), running_proxy(config) as proxy:
            proxy.wait_for_log("raised the limit on open files soft=256 now=432")
            assert "descriptors" not in proxy.log()
            assert get(proxy.url).status == 200


def test_a_limit_that_cannot_hold_the_connections_is_warned_of() -> None:
    with Upstream() as upstream:
        routes = [{"name": "api", "upstream": upstream.url, "auth": {"grant": "none"}}]
        with running_proxy({"routes": routes}, files=LOW) as proxy:
            (line,) = [line for line in proxy.log().splitlines() if "descriptors" in line]
            assert " warning " in line
            assert "limits.connections" in line
            assert "wanted=1024 possible=112" in line
            assert get(proxy.url).status == 200
            with ExitStack() as stack:
                for _ in range(112):
                    wire = stack.enter_context(connect(proxy.url))
                    assert wire.send(request()).answer().status == 200
                answer = get(proxy.url)
                assert answer.status == 503
                assert "ulimit -n" in answer.json["hint"]
                assert "limits.connections" not in answer.json["hint"], "which does not set this one"
        with running_proxy({"routes": routes, "limits": {"connections": 100}}, files=LOW) as proxy:
            assert "descriptors" not in proxy.log()
