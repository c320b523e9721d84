"""What would come back to the proxy itself: refused where it is known, and else where it is dialled."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.command import RunningProxy, running_proxy
from tests.support.ports import free_port
from tests.support.wire import Upstream, ask, get, json_reply, request

NONE = {"grant": "none"}
NAME = socket.gethostname()  # which listener it leads to is not known before it is looked up
FAST = {"max_connections": 5, "timeouts": {"connect": "2s", "response": "5s"}}


def where_the_name_leads() -> str:
    address: str = socket.getaddrinfo(NAME, 0, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    return address


@contextmanager
def looping(listener: str, **more: Any) -> Iterator[tuple[RunningProxy, str]]:
    """Run a proxy with a route whose upstream, by name, is `listener`; yield it and where to ask."""
    host = where_the_name_leads()
    port = free_port(host)
    route = {"name": "loop", "upstream": f"http://{NAME}:{port}", "auth": NONE, **FAST}
    addresses = {"listen": f"{host}:0", "admin": {"listen": f"{host}:0"}}
    addresses[listener] = f"{host}:{port}" if listener == "listen" else {"listen": f"{host}:{port}"}
    config = {**addresses, "allow_remote": True, "allowed_hosts": [NAME], "routes": [route], **more}
    with running_proxy(config) as proxy:
        yield proxy, host


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("listener", ["listen", "admin"])
def test_an_upstream_that_turns_out_to_be_a_listener_of_ours_is_502_at_once(
    listener: str, workers: int
) -> None:
    with looping(listener, workers=workers) as (proxy, host):
        for _ in range(6 * workers):
            answer = ask(proxy.url, request(host=host))
            assert (answer.status, answer.proxy_error) == (502, "proxy_loop_detected")
            assert NAME in answer.json["detail"]
            assert "own listeners" in answer.json["detail"]
            assert "`upstream`" in answer.json["hint"]
        log = proxy.wait_for_log("request route=", times=6 * workers)
        assert log.count("request route=") == 6 * workers, "no request came back"


def test_a_token_endpoint_that_turns_out_to_be_a_listener_of_ours_is_502_at_once() -> None:
    """A server's metadata names it; the port is not known before the proxy listens."""
    with Upstream() as issuer, Upstream() as upstream:
        auth = {"grant": "client_credentials", "issuer": issuer.url, "client_id": "a", "client_secret": "b"}
        route = {"name": "api", "upstream": upstream.url, "auth": auth}
        with running_proxy({"routes": [route]}) as proxy:
            metadata = {"issuer": issuer.url, "token_endpoint": f"{proxy.url}/token"}
            issuer.says(json_reply(metadata))
            answer = get(proxy.url)
            assert (answer.status, answer.proxy_error) == (502, "proxy_loop_detected")
            assert "own listeners" in answer.json["detail"]
            assert upstream.requests == []


def test_an_http_proxy_that_turns_out_to_be_a_listener_of_ours_is_502_at_once() -> None:
    host = where_the_name_leads()
    port = free_port(host)
    route = {"name": "api", "upstream": "http://api.invalid", "auth": NONE, **FAST}
    route["http_proxy"] = f"http://{NAME}:{port}"
    config = {"listen": f"{host}:{port}", "allow_remote": True, "admin": False, "routes": [route]}
    with running_proxy(config) as proxy:
        answer = ask(proxy.url, request(host=host))
        assert (answer.status, answer.proxy_error) == (502, "proxy_loop_detected")
        assert "`http_proxy`" in answer.json["hint"]


@pytest.mark.parametrize("spelling", ["127.0.0.1", "127.1", "localhost", "[::ffff:127.0.0.1]"])
def test_the_environments_proxy_is_ignored_where_it_is_the_proxy_itself(spelling: str) -> None:
    """It is set for the tools that are to come here, and we are started from the same shell."""
    port = free_port("127.0.0.1")
    route = {"name": "api", "upstream": "http://api.invalid", "auth": NONE, **FAST}
    with running_proxy(
        {"listen": f"127.0.0.1:{port}", "routes": [route]}, env={"HTTP_PROXY": f"http://{spelling}:{port}"}
    ) as proxy:
        assert get(proxy.url).proxy_error == "dns_error"
        assert "authproxy itself" in proxy.wait_for_log("HTTP proxy")
