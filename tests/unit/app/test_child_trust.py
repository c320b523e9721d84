"""Which files of roots a program is told to read, and what is in them."""

import base64
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from authproxy.app.child_trust import ADDS, REPLACES, REPLACES_WHERE_SET, trust_variables
from authproxy.app.runtime_files import RuntimeFiles


def pem(text, kind="CERTIFICATE"):
    return f"-----BEGIN {kind}-----\n{base64.b64encode(text.encode()).decode()}\n-----END {kind}-----\n"


OURS, SYSTEM, CORP, OTHER = map(pem, ("ours", "system", "corp", "other"))


class World:
    def __init__(self, directory):
        self.directory = directory
        files = RuntimeFiles()
        files.stage({"ca.pem": OURS.encode(), "bundle.pem": (OURS + SYSTEM).encode()})
        files.publish()
        self.authority = SimpleNamespace(
            root_pem=OURS.encode(),
            files=files,
            cert_file=files.path("ca.pem"),
            bundle_file=files.path("bundle.pem"),
        )

    @property
    def made(self):
        return self.authority.bundle_file.parent

    def file(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def variables(self, **environ):
        return trust_variables(self.authority, environ)

    def contents(self, **environ):
        return {name: Path(path).read_text() for name, path in self.variables(**environ).items()}


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    world = World(tmp_path)
    yield world
    world.authority.files.close()


def test_what_adds_has_ours_alone_and_what_replaces_has_all(world):
    got = world.contents()
    assert {got[name] for name in ADDS} == {OURS}
    assert {got[name] for name in (*REPLACES, "SSL_CERT_FILE")} == {OURS + SYSTEM}
    assert set(got) == {*ADDS, *REPLACES, "SSL_CERT_FILE"}
    assert {path.name for path in world.made.glob("*.pem")} == {"ca.pem", "bundle.pem"}


def test_what_was_configured_before_stays(world):
    corp = world.file("corp.pem", f"# of the company\n{CORP}{pem('k', 'PRIVATE KEY')}{OTHER}")
    got = world.contents(NODE_EXTRA_CA_CERTS=corp, AWS_CA_BUNDLE=corp)
    assert got["NODE_EXTRA_CA_CERTS"] == got["AWS_CA_BUNDLE"] == OURS + CORP + OTHER
    assert got["SSL_CERT_FILE"] == got["GIT_SSL_CAINFO"] == OURS + SYSTEM


def test_different_files_stay_different(world):
    corp, other = world.file("corp.pem", CORP), world.file("other.pem", OTHER)
    got = world.variables(AWS_CA_BUNDLE=corp, PIP_CERT=other, GIT_SSL_CAINFO=corp)
    assert Path(got["AWS_CA_BUNDLE"]).read_text() == OURS + CORP
    assert Path(got["PIP_CERT"]).read_text() == OURS + OTHER
    assert got["GIT_SSL_CAINFO"] == got["AWS_CA_BUNDLE"]


def test_ssl_cert_file_is_in_the_bundle_already(world):
    corp = world.file("corp.pem", CORP)
    assert world.variables(SSL_CERT_FILE=corp)["SSL_CERT_FILE"] == str(world.authority.bundle_file)


@pytest.mark.parametrize(
    ("name", "set_", "corp"),
    [
        ("REQUESTS_CA_BUNDLE", {"CURL_CA_BUNDLE": "corp"}, True),
        ("REQUESTS_CA_BUNDLE", {"CURL_CA_BUNDLE": "other", "REQUESTS_CA_BUNDLE": "corp"}, True),
        ("PIP_CERT", {"REQUESTS_CA_BUNDLE": "corp", "CURL_CA_BUNDLE": "other"}, True),
        ("AWS_CA_BUNDLE", {"REQUESTS_CA_BUNDLE": "corp"}, True),
        ("AWS_CA_BUNDLE", {"CURL_CA_BUNDLE": "corp"}, False),
        ("GIT_SSL_CAINFO", {"REQUESTS_CA_BUNDLE": "corp"}, False),
    ],
)
def test_what_its_reader_would_have_turned_to_is_what_it_gets(world, name, set_, corp):
    files = {"corp": world.file("corp.pem", CORP), "other": world.file("other.pem", OTHER)}
    got = world.contents(**{each: files[value] for each, value in set_.items()})
    assert got[name] == (OURS + CORP if corp else OURS + SYSTEM)


def test_some_are_set_only_where_they_were(world):
    corp = world.file("corp.pem", CORP)
    got = world.contents(**dict.fromkeys(REPLACES_WHERE_SET, corp))
    assert {got[name] for name in REPLACES_WHERE_SET} == {OURS + CORP}


def test_an_empty_variable_is_none(world):
    got = world.contents(CURL_CA_BUNDLE="", NODE_EXTRA_CA_CERTS="", npm_config_cafile="")
    assert got["CURL_CA_BUNDLE"] == got["REQUESTS_CA_BUNDLE"] == OURS + SYSTEM
    assert got["NODE_EXTRA_CA_CERTS"] == OURS
    assert "npm_config_cafile" not in got


def test_a_directory_of_roots_is_read_as_a_whole(world):
    directory = world.directory / "roots"
    directory.mkdir()
    world.file("roots/1.pem", CORP)
    world.file("roots/2.pem", OTHER)
    world.file("roots/README", "nothing")
    (directory / "below").mkdir()
    assert world.contents(REQUESTS_CA_BUNDLE=str(directory))["REQUESTS_CA_BUNDLE"] == OURS + CORP + OTHER


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_file_that_cannot_be_used_does_not_have_more_trusted(world, text, caplog):
    file = world.file("corp.pem", text) if text else str(world.directory / "missing.pem")
    with caplog.at_level(logging.WARNING, "authproxy"):
        assert world.contents(CURL_CA_BUNDLE=file)["CURL_CA_BUNDLE"] == OURS
    assert caplog.records[0].facts == {"variable": "CURL_CA_BUNDLE", "file": file}
    assert "only authproxy's CA is in its place" in caplog.records[0].getMessage()


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_a_bundle_that_cannot_be_used_is_told_of_too(world, text, caplog):
    file = world.file("corp.pem", text) if text else str(world.directory / "missing.pem")
    with caplog.at_level(logging.WARNING, "authproxy"):
        world.variables(SSL_CERT_FILE=file)
    assert {"variable": "SSL_CERT_FILE", "file": file} in [each.facts for each in caplog.records]


def test_where_there_are_no_roots_it_is_told(world, caplog):
    with caplog.at_level(logging.WARNING, "authproxy"):
        world.variables()
        assert not caplog.records
        world.authority.bundle_file.write_text(OURS)
        world.variables()
    assert "SSL_CERT_FILE" in caplog.records[0].facts["hint"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_what_is_made_is_its_owners_alone_and_goes_with_the_authority(world):
    made = Path(world.variables(PIP_CERT=world.file("corp.pem", CORP))["PIP_CERT"])
    assert made.parent == world.made
    assert made.stat().st_mode & 0o777 == 0o600
    world.authority.files.close()
    assert not made.exists()


def test_no_variable_is_told_twice():
    every = [*ADDS, *REPLACES, *REPLACES_WHERE_SET]
    assert len(every) == len(set(every))
    assert all(other in REPLACES for others in REPLACES.values() for other in others)
