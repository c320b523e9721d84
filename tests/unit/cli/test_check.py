"""`authproxy check`: one line a fault, to stdout, and 2 if there is any."""

import pytest

ROUTE = "{{name: a, upstream: 'https://a.example', auth: {{grant: static, token: s3cr3t}}"


def test_a_good_configuration_is_ok_and_nothing_is_made(write, run, tokens):
    config = write()
    result = run("check", "-c", config)
    assert (result.stdout, result.stderr) == (f"{config}: ok, 3 routes\n", "")
    assert not tokens.exists()


def test_one_route_is_one(write, run):
    config = write(f"routes: [{ROUTE}}}}}]")
    assert run("check", "-c", config).stdout == f"{config}: ok, 1 route\n"


def test_each_fault_has_a_line_with_its_place(write, run):
    config = write(f"listne: 1\nroutes:\n  - {ROUTE}, pathh: 1}}}}\n")
    result = run("check", "-c", config, exits=2)
    lines = result.stdout.splitlines()
    assert [line.split(":")[:2] for line in lines] == [[config, "1"], [config, "3"]]
    assert "listne" in lines[0]
    assert "pathh" in lines[1]
    assert result.stderr == ""
    assert "s3cr3t" not in result.stdout


def test_a_file_that_is_not_there_is_a_fault(tmp_path, run):
    ended = run("check", "-c", str(tmp_path / "no.yaml"), exits=2)
    assert ended.stdout == f"authproxy: {tmp_path}/no.yaml: cannot be read: No such file or directory\n"
    assert "authproxy demo" in ended.stderr


def test_a_certificate_that_cannot_be_used_is_found_before_run_does(write, run, tmp_path):
    (tmp_path / "c.pem").write_text("no certificate")
    config = write(f"tls: {{{{cert_file: c.pem, key_file: c.pem}}}}\nroutes: [{ROUTE}}}}}]")
    assert f"{config}:" in run("check", "-c", config, exits=2).stdout


def test_a_token_store_that_cannot_be_had_is_a_fault(write, run, monkeypatch):
    monkeypatch.setattr("authproxy.tokens.stores.file.state_directory", lambda: None)
    config = write("token_store: {{type: file}}\nroutes: [{{name: a, upstream: 'https://a.example', auth: "
                   "{{grant: client_credentials, token_url: 'https://id.example/t', client_id: a, "
                   "client_secret: b}}}}]")  # fmt: skip
    (line,) = run("check", "-c", config, exits=2).stdout.splitlines()
    assert line.startswith(f"{config}:1:14: token_store: tokens cannot be stored")
    assert "XDG_STATE_HOME" in line


@pytest.mark.parametrize("verb", ["check", "routes"])
def test_what_is_hardly_meant_is_a_warning_and_no_fault(write, run, verb):
    config = write(
        "routes: [{{name: a, upstream: 'https://a.example', auth: {{grant: static, token: $TOKEN}}}}]"
    )
    result = run(verb, "-c", config)
    said = result.stdout if verb == "check" else result.stderr  # what was asked for is the table
    assert said.startswith(f"{config}:1:")
    assert ": warning: " in said.splitlines()[0]
