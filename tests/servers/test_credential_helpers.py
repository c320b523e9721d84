"""`authproxy token` as the credential helper of programs that nobody here wrote: git, and docker's client."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.test_git import BasicGit, Desk
from tests.support.command import running_proxy
from tests.support.installed import need
from tests.support.launch import COMMAND, environment, write_config
from tests.support.wire import Tokens

PASSPHRASE = "a long passphrase"


def program(directory: Path, name: str, config: Path, *arguments: str) -> Path:
    """Write a program that runs `authproxy` with `arguments` and its own; return its path."""
    variables = [f"{key}={value}" for key, value in environment(directory).items() if key != "PATH"]
    command = shlex.join(["env", *variables, *COMMAND, *arguments, "-c", str(config)])
    file = directory / name
    file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    file.chmod(0o755)
    return file


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    need("git")
    root, work = tmp_path / "served", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    with Tokens() as tokens, BasicGit(root, tokens) as server:
        config = {
            "token_store": {"type": "file", "path": str(tmp_path / "tokens"), "key": PASSPHRASE},
            "routes": [
                {
                    "name": "git", "upstream": server.url,
                    "auth": {
                        "grant": "client_credentials", "token_url": f"{tokens.url}/token",
                        "client_id": "me", "client_secret": "the-clients-secret",
                    },
                }
            ],
        }  # fmt: skip
        file = write_config(tmp_path, config)
        helper = program(tmp_path, "git-helper", file, "token", "git", "--format", "git-credential")
        with running_proxy(config) as proxy:  # as `Desk` has one; nothing goes through it here
            desk = Desk(work, proxy, server, tokens)
            desk.git("config", "--global", f"credential.{server.url}.helper", str(helper))
            desk.git("config", "--global", "init.defaultBranch", "main")
            desk.git("init", "-q", "--bare", str(desk.bare))
            yield desk


def test_git_clones_with_the_token_and_after_a_refusal_with_another(desk: Desk) -> None:
    url = f"{desk.server.url}/project.git"
    desk.git("clone", "-q", url, "first")
    assert len(desk.tokens.requests) == 1
    desk.git("clone", "-q", url, "second")
    assert len(desk.tokens.requests) == 1  # it is stored
    desk.tokens.revoke()
    refused = desk.git("clone", "-q", url, "third", check=False)
    assert refused.returncode != 0  # git asks a helper once, and has what was refused erased
    assert len(desk.tokens.requests) == 2
    desk.git("clone", "-q", url, "third")
    assert len(desk.tokens.requests) == 2


def test_git_gives_the_token_to_no_other_host(desk: Desk) -> None:
    helper = desk.read("config", "--global", f"credential.{desk.server.url}.helper")
    desk.git("config", "--global", "credential.helper", helper)
    with Tokens() as tokens, BasicGit(desk.server.root, tokens) as other:
        assert desk.git("clone", "-q", f"{other.url}/project.git", "mine", check=False).returncode != 0
        assert all("Basic" not in (head.one("Authorization") or "") for head in other.refused)
        assert other.calls == []
    assert desk.tokens.requests == []


def test_dockers_client_gets_the_token_of_its_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("docker")
    import docker.credentials  # noqa: PLC0415 - only where it is installed

    with Tokens() as tokens:
        config = {
            "routes": [
                {
                    "name": "registry", "upstream": "https://registry.example.com",
                    "auth": {
                        "grant": "client_credentials", "token_url": f"{tokens.url}/token",
                        "client_id": "me", "client_secret": "the-clients-secret",
                    },
                }
            ],
        }  # fmt: skip
        file = write_config(tmp_path, config)
        arguments = ("token", "registry", "--format", "docker-credential")
        program(tmp_path, "docker-credential-authproxy", file, *arguments)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        store = docker.credentials.Store("authproxy")
        given = store.get("registry.example.com")
        assert (given["Username"], given["Secret"]) == ("oauth2", tokens.issued.every[-1])
        assert store.list() == {"https://registry.example.com": "oauth2"}
        store.store("registry.example.com", "me", "else")
        store.erase("registry.example.com")
        with pytest.raises(docker.credentials.errors.CredentialsNotFound):
            store.get("registry.other.example")
