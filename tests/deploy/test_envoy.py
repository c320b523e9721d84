"""The page on moving from Envoy's credential injector: Envoy is asked about its side of it.

Both proxies get the same upstream, whose token is revoked, and the same token endpoint.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import running_proxy, wait_until
from tests.support.launch import GUARD
from tests.support.ports import free_port
from tests.support.wire import API, Tokens, get, json_reply

from .configurations import DEPLOY, moved
from .machine import ROOT, program

PAGE = (ROOT / "docs/deployment-envoy.md").read_text("utf-8")
SECRET = "of-the-client"


def placed(directory: Path) -> Path:
    """Put Envoy's files into `directory`, and have them name each other there."""
    for name in ("envoy.yaml", "client-secret.yaml"):
        text = (DEPLOY / "envoy" / name).read_text("utf-8")
        (directory / name).write_text(text.replace("/etc/envoy/", f"{directory}/"), encoding="utf-8")
    (directory / "client-secret").write_text(SECRET, encoding="utf-8")
    return directory / "envoy.yaml"


def test_envoy_takes_its_configuration(tmp_path: Path) -> None:
    ended = subprocess.run(
        [program("envoy"), "--mode", "validate", "--config-path", placed(tmp_path)],
        capture_output=True, text=True, timeout=GUARD, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "is contained in proto file" in ended.stderr, "it is no longer work in progress: the page says so"
    assert "work in progress" in PAGE


@pytest.mark.parametrize("name", ["envoy.yaml", "client-secret.yaml", "config.yaml"])
def test_the_page_shows_what_is_shipped(name: str) -> None:
    shipped = re.sub(r"^#.*\n", "", (DEPLOY / "envoy" / name).read_text("utf-8"))
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    if name == "envoy.yaml":  # the part that is about credentials
        filters = yaml.safe_load(shipped)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
        injector = filters[0]["typed_config"]["http_filters"][0]
        assert [injector] in [yaml.safe_load(block) for block in blocks]
    else:
        assert yaml.safe_load(shipped) in [yaml.safe_load(block) for block in blocks]


@contextmanager
def running_envoy(directory: Path, tokens: Tokens, api: API) -> Iterator[str]:
    """Run Envoy as shipped, but for where the upstream and the token endpoint are; yield its URL."""
    file = placed(directory)
    config = yaml.safe_load(file.read_text("utf-8"))
    port = free_port()
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    for cluster, server in zip(config["static_resources"]["clusters"], (api, tokens), strict=True):
        (lb,) = cluster["load_assignment"]["endpoints"]
        lb["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] = {
            "address": "127.0.0.1", "port_value": server.port,
        }  # fmt: skip
        del cluster["transport_socket"]
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    log = directory / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [program("envoy"), "--config-path", file, "--concurrency", "1", "--disable-hot-restart"],
            stdout=written, stderr=written,
        )  # fmt: skip
    try:
        wait_until(lambda: "all dependencies initialized" in log.read_text("utf-8"), log.read_text)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(GUARD)


def ours_for(directory: Path, tokens: Tokens, api: API) -> dict[str, Any]:
    """Return our configuration as shipped, but for where the upstream and the token endpoint are."""
    text = (DEPLOY / "envoy/config.yaml").read_text("utf-8")
    config: dict[str, Any] = yaml.safe_load(moved(text, directory, {"client-secret": SECRET}))
    (route,) = config["routes"]
    route["upstream"] = api.url
    route["auth"]["token_url"] = f"{tokens.url}/oauth/token"
    del config["listen"], config["admin"]
    return config


def test_a_token_that_was_revoked_is_envoys_clients_problem_and_not_ours(tmp_path: Path) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        with running_envoy(tmp_path, tokens, api) as url:
            wait_until(lambda: get(url, "/orders/1").status == 200, "Envoy gets no token")
            tokens.revoke()
            assert [get(url, "/orders/1").status for _ in range(3)] == [401] * 3
        with running_proxy(ours_for(tmp_path, tokens, api)) as proxy:
            assert get(proxy.url, "/orders/1").status == 200
            tokens.revoke()
            assert [get(proxy.url, "/orders/1").status for _ in range(3)] == [200] * 3


def test_both_ask_for_the_token_in_the_same_words(tmp_path: Path) -> None:
    with Tokens() as tokens, API(tokens.issued) as api:
        with running_envoy(tmp_path, tokens, api) as url:
            wait_until(lambda: get(url, "/orders/1").status == 200, "Envoy gets no token")
            theirs = tokens.requests[0]
        tokens.reset()
        with running_proxy(ours_for(tmp_path, tokens, api)) as proxy:
            assert get(proxy.url, "/orders/1").status == 200
        ours = tokens.requests[0]
    assert sorted(ours.body.split(b"&")) == sorted(theirs.body.split(b"&"))
    assert (ours.method, ours.target) == (theirs.method, theirs.target)


def test_a_secret_that_is_refused_is_tried_by_envoy_again_and_again_and_by_us_once(tmp_path: Path) -> None:
    refusal = json_reply({"error": "invalid_client"}, 401)
    with Tokens() as tokens, API(tokens.issued) as api:
        tokens.says(refusal)
        with running_envoy(tmp_path, tokens, api) as url:
            assert get(url, "/orders/1").status == 401
            tokens.wait_for(3)
        tokens.reset()
        tokens.says(refusal)
        with running_proxy(ours_for(tmp_path, tokens, api)) as proxy:
            assert [get(proxy.url, "/orders/1").status for _ in range(3)] == [502, 503, 503]
        assert len(tokens.requests) == 1
    assert api.requests == []
