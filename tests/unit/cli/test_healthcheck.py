"""`authproxy healthcheck`: what is asked, and how its answer is told."""

import json

import aiohttp
import pytest

from authproxy.capabilities import Capability
from authproxy.cli import healthcheck as module

from .conftest import PLAIN


class Session:
    """An aiohttp session whose one answer is set beforehand."""

    def __init__(self, asked, status, text, trouble):
        self._asked, self.status, self._text, self._trouble = asked, status, text, trouble

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    def get(self, url):
        if self._trouble is not None:
            raise self._trouble
        self._asked.append(url)
        return self

    @property
    def content(self):
        return self

    async def read(self, _limit):
        said, self._text = self._text, ""
        return said.encode()


@pytest.fixture
def answers(monkeypatch):
    """Return a setter of the answer; it returns the list of what is asked."""

    def answers(status=200, document=None, text=None, trouble=None):
        asked = []
        said = text if text is not None else json.dumps(document or {"ready": True})
        monkeypatch.setattr(
            module.aiohttp, "ClientSession", lambda **_keys: Session(asked, status, said, trouble)
        )
        return asked

    return answers


@pytest.mark.parametrize("url", ["http://a:1", "http://a:1/", "http://a:1/readyz", "http://a:1/readyz/"])
def test_readiness_is_asked_for_at_the_url(run, answers, url):
    asked = answers()
    result = run("healthcheck", url)
    assert asked == ["http://a:1/readyz"]
    assert result.output == ""


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://a:1?route=up42", "http://a:1/readyz?route=up42"),
        ("http://a:1/readyz?route=up42", "http://a:1/readyz?route=up42"),
        ("http://a:1/readyz/?route=up42#x", "http://a:1/readyz?route=up42"),
        ("http://a:1/healthz", "http://a:1/readyz"),
        ("http://a:1/behind/a/prefix", "http://a:1/behind/a/prefix/readyz"),
        ("a:1", "http://a:1/readyz"),
    ],
)
def test_whatever_page_and_query_are_named_readiness_is_asked_for(run, answers, given, url):
    asked = answers()
    run("healthcheck", given)
    assert asked == [url]


def test_a_200_that_is_not_ours_is_not_ready(run, answers):
    answers(200, text="<html>welcome</html>")
    told = run("healthcheck", "http://a:1", exits=1).stderr
    assert "the answer is not from authproxy" in told
    assert "hint: give the URL of the admin listener" in told


def test_a_listener_for_requests_is_not_the_admin_listener(run, answers):
    answers(404, {"title": "No such route", "detail": "no route is mounted there; the routes are: /api"})
    told = run("healthcheck", "http://a:1", exits=1).stderr
    assert "that is a listener for requests, not the admin listener" in told
    assert "`admin.listen`" in told


def test_without_a_url_the_configurations_admin_listener_is_asked(write, run, answers):
    asked = answers()
    config = write("admin: {{listen: '127.0.0.1:9'}}\n" + PLAIN)
    run("healthcheck", "-c", config)
    assert asked == ["http://127.0.0.1:9/readyz"]


def test_without_an_admin_listener_there_is_nobody_to_ask(write, run, answers):
    asked = answers()
    assert "give the URL to ask" in run("healthcheck", "-c", write(), exits=2).stderr
    assert not asked


def test_a_unix_socket_cannot_be_asked_where_there_are_none(run, answers, monkeypatch):
    monkeypatch.setattr(module, "UNIX_SOCKETS", Capability(present=False, lack="there are none here"))
    asked = answers()
    assert (
        "unix:/run/a cannot be asked: there are none here"
        in run("healthcheck", "unix:/run/a", exits=2).stderr
    )
    assert not asked


def test_each_route_in_trouble_is_named_with_its_cause(run, answers):
    trouble = {"state": "rejected", "cause": "wrong password", "hint": None}
    answers(503, {"ready": False, "routes": {"a": trouble, "b": trouble | {"state": "failing"}}})
    assert run("healthcheck", "http://a:1", exits=1).stderr == (
        "authproxy: not ready: a is rejected: wrong password; b is failing: wrong password\n"
    )


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (aiohttp.ServerDisconnectedError(), "the connection was closed without an answer"),
        (TimeoutError(), "nobody answered in time"),
        (aiohttp.InvalidURL("x"), "the URL is not valid"),
    ],
)
def test_nobody_there_is_not_ready(run, answers, trouble, cause):
    answers(trouble=trouble)
    result = run("healthcheck", "http://a:1", exits=1)
    assert f"http://a:1/readyz does not answer: {cause}\n" in result.stderr


def test_another_servers_answer_is_not_ready(run, answers):
    answers(404, text="<html>")
    assert "the answer is not from authproxy" in run("healthcheck", "http://a:1", exits=1).stderr


@pytest.mark.parametrize("url", ["ftp://a:1", "redis://me:s3cr3t@a:1"])
def test_what_is_no_address_of_a_page_is_not_asked(run, answers, url):
    result = run("healthcheck", url, exits=2)
    assert "should begin with http://, https:// or unix:/" in result.stderr
    assert "s3cr3t" not in result.output


def test_a_password_in_the_url_is_not_repeated(run, answers):
    answers(trouble=aiohttp.ClientError())
    result = run("healthcheck", "http://me:s3cr3t@a:1/?key=s3cr3t", exits=1)
    assert "http://a:1/readyz does not answer" in result.output
    assert "s3cr3t" not in result.output


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"routes": {"a": 1, "b": {"state": "failing"}}}',
        '{"detail": "\\u001b[2Jno"}',
        "x" * (2 << 20),
    ],
)
def test_whatever_answers_is_told_without_obeying_it(run, answers, text):
    answers(503, text=text)
    told = run("healthcheck", "http://a:1", exits=1).stderr
    assert told.startswith("authproxy: not ready: ")
    assert "\x1b" not in told
    assert len(told) < 2000
