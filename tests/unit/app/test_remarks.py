"""What is said of a configuration that is no fault; nothing is logged here."""

import pytest

from authproxy.app import remarks as module
from authproxy.app.remarks import remarks
from authproxy.config.command_line import from_command_line
from authproxy.config.read import parse
from authproxy.logs import LEVELS
from authproxy.net.own_listeners import OwnListeners

STATIC = "auth: {grant: static, token: t0k3n}"
OWN = OwnListeners(["127.0.0.1:8080"])


def said(keys, *, top=""):
    route = f"routes: [{{name: api, upstream: 'https://up.example', {STATIC}{keys}}}]"
    config = parse(f"{top}\n{route}", "proxy.yaml", environ={})
    return list(remarks(config, OWN))


@pytest.fixture(autouse=True)
def _no_proxy_and_descriptors_enough(monkeypatch):
    monkeypatch.setattr(module, "affordable_connections", lambda config: config.limits.connections)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_nothing_is_said_of_what_is_in_order():
    assert said("") == []


def test_too_few_descriptors_are_told_with_how_many_connections_there_can_be(monkeypatch):
    monkeypatch.setattr(module, "affordable_connections", lambda _config: 50)
    [remark] = said("", top="limits: {connections: 100}")
    assert (remark.level, remark.facts["wanted"], remark.facts["possible"]) == (LEVELS["warning"], 100, 50)


def test_a_certificate_that_nobody_looks_at_is_a_warning():
    [remark] = said(", tls: {verify: false}")
    assert (remark.level, remark.facts) == (LEVELS["warning"], {"route": "api"})
    assert "not verified" in remark.event


def test_an_http_proxy_is_told_without_its_password():
    [remark] = said(", http_proxy: 'http://joe:s3cr3t@proxy.example:3128'")
    assert remark.level == LEVELS["info"]
    assert "proxy.example" in str(remark.facts["proxy"])
    assert "s3cr3t" not in str(remark)


def test_an_http_proxy_that_is_authproxy_itself_is_told(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:8080")
    [remark] = said("")
    assert "is authproxy itself" in remark.event


def test_what_stands_on_the_command_line_has_no_line():
    made = from_command_line("https://x", settings=["grant=static", "token=abc"], environ={})
    (remark,) = remarks(made, OwnListeners())
    assert remark.facts["place"] == "command line"


def test_what_is_hardly_meant_is_told_at_its_place():
    [remark] = said(", headers: {set: {X-Of: $NAME_OF_IT}}")
    assert remark.facts["place"].startswith("proxy.yaml:2:")
