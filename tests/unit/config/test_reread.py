"""Files and commands of a credential are read again; the rest stays as it was."""

import asyncio
import pickle

import pytest
from pydantic import SecretStr

from authproxy.config import reread
from authproxy.grants.static import Basic


def from_file(reader, **secrets):
    for name, secret in secrets.items():
        (reader.directory / name).write_text(secret)
    return reader.route("upstream: https://x\nauth: {grant: static, token: '${file:secret}'}")


async def test_an_unchanged_file_gives_an_equal_grant(reader):
    route = from_file(reader, secret="old")
    assert await route.reread() == route.grant


async def test_a_rotated_file_gives_another_grant(reader):
    route = from_file(reader, secret="old")
    from_file(reader, secret="new")
    assert (await route.reread()).token.get_secret_value() == "new"
    assert route.grant.token.get_secret_value() == "old"


async def test_a_file_that_is_gone_gives_none(reader):
    route = from_file(reader, secret="old")
    (reader.directory / "secret").unlink()
    assert await route.reread() is None


async def test_a_secret_that_will_not_do_gives_none(reader):
    (reader.directory / "name").write_text("joe")
    route = reader.route("upstream: https://x\nauth: {grant: basic, username: '${file:name}', password: x}")
    (reader.directory / "name").write_text("jo:e")
    assert await route.reread() is None


async def test_a_token_url_that_turns_to_plain_http_gives_none(reader):
    (reader.directory / "url").write_text("https://x")
    route = reader.route("upstream: https://x\nauth: {grant: token_request, url: '${file:url}'}")
    (reader.directory / "url").write_text("http://x")
    assert await route.reread() is None


async def test_a_command_is_run_again_but_not_within_five_seconds(reader, program, clock, monkeypatch):
    monkeypatch.setattr(reread, "monotonic", clock)
    program("echo x >> count; wc -l < count | tr -d ' '")
    route = reader.route("upstream: https://x\nauth: {grant: static, token: '${command:./program}'}")
    assert route.grant.token.get_secret_value() == "1"
    assert (await route.reread()).token.get_secret_value() == "2"
    clock.advance(4.9)
    assert (await route.reread()).token.get_secret_value() == "2"
    clock.advance(0.2)
    assert (await route.reread()).token.get_secret_value() == "3"


async def test_a_file_is_read_again_while_a_command_beside_it_waits(reader, program):
    (reader.directory / "name").write_text("joe")
    program("echo x >> count; wc -l < count | tr -d ' '")
    route = reader.route(
        "upstream: https://x\n"
        "auth: {grant: basic, username: '${file:name}', password: '${command:./program}'}"
    )
    await route.reread()
    (reader.directory / "name").write_text("jane")
    fresh = await route.reread()
    assert (fresh.username, fresh.password.get_secret_value()) == ("jane", "2")


async def test_the_environment_stays_as_it_was(reader):
    reader.environ = {"NAME": "joe"}
    (reader.directory / "secret").write_text("a")
    route = reader.route(
        "upstream: https://x\nauth: {grant: basic, username: '${NAME}', password: '${file:secret}'}"
    )
    reader.environ["NAME"] = "jane"
    (reader.directory / "secret").write_text("b")
    assert await route.reread() == Basic(username="joe", password=SecretStr("b"))


async def test_reading_again_does_not_hold_up_the_loop(reader, program):
    program(
        "test -e ready || { touch ready; echo old; exit 0; }; until test -e go; do sleep 0.01; done; echo x"
    )
    route = reader.route("upstream: https://x\nauth: {grant: static, token: '${command:./program}'}")
    reading = asyncio.create_task(route.reread())
    await asyncio.sleep(0)
    (reader.directory / "go").touch()
    assert (await reading).token.get_secret_value() == "x"


@pytest.mark.parametrize("auth", ["{grant: static, token: '${PASSWORD}'}", "{grant: static, token: x}"])
def test_there_is_nothing_to_read_again(reader, auth):
    assert reader.route(f"upstream: https://x\nauth: {auth}").reread is None


async def test_a_presets_secrets_are_read_again(reader):
    (reader.directory / "secret").write_text("old")
    route = reader.route(
        "upstream: https://x/\nauth: {preset: password-login, username: a, password: '${file:secret}'}"
    )
    (reader.directory / "secret").write_text("new")
    again = await route.reread()
    assert again.form["password"].get_secret_value() == "new"
    assert again.url == "https://x/authorization"


async def test_another_process_can_read_them_again_too(reader):
    route = from_file(reader, secret="old")
    elsewhere = pickle.loads(pickle.dumps(route))
    from_file(reader, secret="new")
    assert (await elsewhere.reread()).token.get_secret_value() == "new"
