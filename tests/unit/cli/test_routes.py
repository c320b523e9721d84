"""`authproxy routes`: what the configuration comes to, secrets masked."""

import json

import pytest
import yaml

from authproxy.cli import routes as module
from authproxy.cli.calling import URLs
from authproxy.cli.running import Running


def test_the_table_names_each_route_with_its_url_its_upstream_and_its_grant(write, run):
    head, *rows = run("routes", "-c", write()).stdout.strip().splitlines()
    assert head.split() == ["NAME", "URL", "UPSTREAM", "AUTH", "STATE", "SETTINGS"]
    assert [row.split()[:5] for row in rows] == [
        ["fixed", "http://127.0.0.1:8080/fixed", "https://fixed.example", "static", "unknown"],
        ["plain", "http://127.0.0.1:8080/plain", "https://plain.example", "none", "unknown"],
        ["person", "http://127.0.0.1:8080/person", "https://person.example", "authorization_code", "unknown"],
    ]


def test_what_to_say_of_failures_is_no_setting(tmp_path, run):
    path = tmp_path / "a.yaml"
    auth = "{preset: up42, username: me, password: s3cr3t}"
    path.write_text(f"admin: false\nroutes: [{{name: up42, upstream: 'https://a.example', auth: {auth}}}]\n")
    _, row = run("routes", "-c", str(path)).stdout.strip().splitlines()
    assert "client_id=up42-api" in row
    assert "hints=" not in row


@pytest.mark.parametrize("flags", [[], ["--json"], ["fixed"], ["fixed", "--json"]])
def test_no_secret_is_shown_in_no_form(write, run, flags):
    output = run("routes", "-c", write(), *flags).output
    assert "the-token" not in output
    assert "•" in output or "\\u2022" in output


def test_one_route_is_shown_whole_and_one_that_is_not_there_is_told(write, run):
    shown = yaml.safe_load(run("routes", "fixed", "-c", write()).stdout)
    assert (shown["name"], shown["url"], shown["state"]) == (
        "fixed", "http://127.0.0.1:8080/fixed", "unknown",
    )  # fmt: skip
    assert shown["timeouts"]["connect"] == 10
    assert json.loads(run("routes", "fixed", "--json", "-c", write()).stdout)["name"] == "fixed"
    assert "did you mean fixed?" in run("routes", "fixd", "-c", write(), exits=2).stderr


def test_what_the_running_proxy_says_is_shown(write, run, monkeypatch):
    status = {"upstream": "https://fixed.example", "state": "valid", "expires_at": "2030-01-01T00:00:00.000Z"}
    found = Running({"fixed": status}, URLs(("http://127.0.0.1:9",)))
    monkeypatch.setattr(module, "ask_running", lambda _config: found)
    first, second, _ = json.loads(run("routes", "--json", "-c", write()).stdout)
    assert (first["state"], first["expires_at"]) == ("valid", status["expires_at"])
    assert first["url"] == "http://127.0.0.1:9/fixed"
    assert (second["state"], second["expires_at"]) == ("not_loaded", None)


def test_on_a_terminal_it_fits_and_where_it_cannot_urls_stay_whole(write, run, monkeypatch):
    monkeypatch.setattr(module, "is_watched", lambda _descriptor: True)
    monkeypatch.setattr(module, "columns_of", lambda _descriptor: 100)
    assert len(run("routes", "-c", write()).stdout.splitlines()) == 4
    monkeypatch.setattr(module, "columns_of", lambda _descriptor: 60)
    lines = run("routes", "-c", write()).stdout.splitlines()
    assert lines[:2] == [
        "fixed: static, unknown",
        "  http://127.0.0.1:8080/fixed → https://fixed.example",
    ]
    monkeypatch.setattr(module, "columns_of", lambda _descriptor: 40)
    lines = run("routes", "-c", write()).stdout.splitlines()
    assert lines[1:3] == ["  http://127.0.0.1:8080/fixed", "  → https://fixed.example"]


def test_json_has_every_route_after_presets_and_defaults(write, run):
    found = json.loads(run("routes", "--json", "-c", write()).stdout)
    assert [route["name"] for route in found] == ["fixed", "plain", "person"]
    assert found[2]["auth"]["client_id"] == "me"


def test_a_host_is_in_the_url(write, run):
    config = write(
        "admin: false\nroutes: [{{name: a, host: api.localhost, path: /x, upstream: 'https://a.example', "
        "auth: {{grant: static, token: t}}}}]"
    )
    assert "http://api.localhost:8080/x " in run("routes", "-c", config).stdout


def test_a_long_line_is_not_cut_where_nobody_sees_a_terminal(write, run):
    name = "long" * 60
    config = write(
        "admin: false\n"
        f"routes: [{{{{name: a, upstream: 'https://{'a' * 60}.example/{name}', auth: {{{{grant: none}}}}}}}}]"
    )
    assert name in run("routes", "-c", config).stdout


def test_the_forward_proxy_is_told_behind_the_routes(tmp_path, run):
    path = tmp_path / "a.yaml"
    path.write_text(
        "admin: false\nforward: {listen: '0.0.0.0:8899'}\naccess: {tokens: [a-key-of-twenty-characters]}\n"
        "routes: [{name: a, upstream: 'https://a.example', auth: {grant: none}}]\n"
    )
    *_, last = run("routes", "-c", str(path)).stdout.splitlines()
    assert last == "forward  HTTPS_PROXY=http://any:$KEY@127.0.0.1:8899"
    assert len(json.loads(run("routes", "--json", "-c", str(path)).stdout)) == 1
