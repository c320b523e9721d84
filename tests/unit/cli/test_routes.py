"""`authproxy routes`: what the configuration comes to, secrets masked."""

import json


def test_the_table_names_each_route_with_its_mount_its_upstream_and_its_grant(write, run):
    head, _, *rows = run("routes", "-c", write()).stdout.strip().splitlines()
    assert head.split() == ["NAME", "MOUNTED", "AT", "UPSTREAM", "AUTH", "SETTINGS"]
    assert [row.split()[:4] for row in rows] == [
        ["fixed", "/fixed", "https://fixed.example", "static"],
        ["plain", "/plain", "https://plain.example", "none"],
        ["person", "/person", "https://person.example", "authorization_code"],
    ]


def test_no_secret_is_shown_neither_in_the_table_nor_in_json(write, run):
    for flags in ([], ["--json"]):
        output = run("routes", "-c", write(), *flags).output
        assert "the-token" not in output
        assert "•" in output or "\\u2022" in output


def test_json_has_every_route_after_presets_and_defaults(write, run):
    found = json.loads(run("routes", "--json", "-c", write()).stdout)
    assert [route["name"] for route in found] == ["fixed", "plain", "person"]
    assert found[2]["auth"]["client_id"] == "me"


def test_a_host_stands_before_the_path_and_a_preset_in_place_of_its_grant(write, run):
    config = write(
        "routes: [{{name: a, host: api.localhost, path: /x, upstream: 'https://a.example', "
        "auth: {{grant: static, token: t}}}}]"
    )
    assert "api.localhost/x" in run("routes", "-c", config).stdout


def test_a_long_line_is_not_cut_where_nobody_sees_a_terminal(write, run):
    name = "long" * 60
    config = write(
        f"routes: [{{{{name: a, upstream: 'https://{'a' * 60}.example/{name}', auth: {{{{grant: none}}}}}}}}]"
    )
    assert name in run("routes", "-c", config).stdout
