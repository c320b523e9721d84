"""`authproxy trust`: what it shows, what it asks, and that it changes all or nothing."""

import json
from datetime import timedelta

import pytest
from cryptography import x509

from authproxy.app import local_authority
from authproxy.app.local_authority import LocalAuthority
from authproxy.app.trust.store import NotChanged
from authproxy.cli import trust as module

YES = {"input": "y\n"}


class Store:
    """A trust store in memory."""

    by_curl = False

    def __init__(self, name, *, command=None):
        self.name = name
        self.trusted = []
        self.refuses = None
        self.takes = True
        self.command = command

    def has(self, root):
        return root.pem in self.trusted

    def lack(self, root, *, adding):
        return self.command and f"{self.command} {'add' if adding else 'remove'} {root.mark}"

    def add(self, root):
        if self.refuses is not None:
            raise NotChanged(self.refuses)
        self.trusted += [root.pem] * self.takes

    def remove(self, root):
        self.trusted = [each for each in self.trusted if each != root.pem]


@pytest.fixture
def kept(monkeypatch, tmp_path):
    monkeypatch.setattr(local_authority, "state_directory", lambda: tmp_path / "state")
    return LocalAuthority(tmp_path / "state" / "authority", keyring=lambda: None)


@pytest.fixture
def stores(monkeypatch):
    """A system with a store of its own, and one of a browser."""
    found = [Store("the system"), Store("a browser")]
    monkeypatch.setattr(module, "trust_stores", lambda: found)
    return found


@pytest.fixture
def terminal(monkeypatch):
    """Somebody who can be asked."""

    def prepare():
        monkeypatch.setattr(module, "is_asked", lambda: True)

    return prepare


def test_before_there_is_one_it_is_said_how_it_is_made(run, kept, stores):
    assert "there is no local authority yet: `tls: auto` makes it" in run("trust").stdout
    assert json.loads(run("trust", "--json").stdout) is None
    assert "there is no local authority yet" in str(failed(run, "trust", "--print"))
    assert not kept.directory.exists()


def failed(run, *arguments, **options):
    """Return the error with which the verb ends."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - as it comes
        run(*arguments, **options)
    return caught.value


def test_it_is_shown_with_what_it_permits_and_where_it_is_installed(run, kept, stores):
    made = kept.get()
    stores[1].trusted.append(made.root_pem)
    said = run("trust").stdout
    digits = made.fingerprint.upper()
    assert f"SHA-256    {':'.join(digits[at : at + 2] for at in range(0, 64, 2))}" in said
    assert "permits    localhost and names below it, 127.0.0.0/8, ::1/128" in said
    assert f"file       {kept.public}" in said
    assert "(364 days left)" in said
    assert "not in     the system\ninstalled  a browser\n" in said


def test_the_same_as_json(run, kept, stores):
    made = kept.get()
    document = json.loads(run("trust", "--json").stdout)
    assert document["sha256"] == made.fingerprint
    assert document["permitted"] == {"names": ["localhost"], "addresses": ["127.0.0.0/8", "::1/128"]}
    assert document["file"] == str(kept.public)
    assert document["installed"] is False
    assert [each["installed"] for each in document["stores"]] == [False, False]


def test_printed_is_the_certificate_and_nothing_else(run, kept, stores):
    made = kept.get()
    said = run("trust", "--print").stdout
    assert x509.load_pem_x509_certificates(said.encode()) == [made.root]
    assert said.encode() == made.root_pem


def test_installing_makes_it_asks_and_puts_it_everywhere(run, kept, stores, terminal):
    terminal()
    said = run("trust", "--install", **YES)
    root = kept.find().root_pem
    assert [each.trusted for each in stores] == [[root]] * 2
    assert "  the system\n  a browser\nHave these trust the local authority" in said.stderr
    assert said.stdout.endswith("installed: the system\ninstalled: a browser\n")
    assert "already installed: the system, a browser" in run("trust", "--install").stdout


@pytest.mark.parametrize("answer", ["n\n", "\n"])
@pytest.mark.parametrize("option", ["--install", "--remove"])
def test_nothing_is_changed_without_a_yes(run, kept, stores, terminal, answer, option):
    terminal()
    root = kept.get().root_pem
    stores[1].trusted.append(root)
    said = run("trust", option, input=answer, exits=1)
    assert "nothing was changed" in said.stderr
    assert [each.trusted for each in stores] == [[], [root]]


@pytest.mark.parametrize("option", ["--install", "--remove"])
def test_where_nobody_can_be_asked_it_is_refused_but_with_yes(run, kept, stores, option):
    root = kept.get().root_pem
    stores[1].trusted.append(root)
    error = failed(run, "trust", option)
    assert (error.detail, error.hint) == ("nobody can be asked: stdin is no terminal", "say so with --yes")
    assert [each.trusted for each in stores] == [[], [root]]
    run("trust", option, "--yes")
    assert [each.trusted for each in stores] == ([[root]] * 2 if option == "--install" else [[], []])


def test_removing_takes_it_out_everywhere_and_those_it_has_followed(run, kept, stores):
    first = kept.get().root_pem
    second = kept.get(lasts=timedelta(days=400)).root_pem
    stores[0].trusted += [b"company", first, second]
    stores[1].trusted += [first]
    run("trust", "--remove", "--yes")
    assert [each.trusted for each in stores] == [[b"company"], []]
    assert "there is nothing to remove" in run("trust", "--remove").stdout


def test_installing_takes_those_out_that_it_has_followed(run, kept, stores):
    first = kept.get().root_pem
    run("trust", "--install", "--yes")
    second = kept.get(lasts=timedelta(days=400)).root_pem
    run("trust", "--install", "--yes")
    assert first != second
    assert [each.trusted for each in stores] == [[second]] * 2


def test_one_that_ends_soon_is_followed_before_it_is_installed(run, kept, stores, monkeypatch):
    first = kept.get().root_pem
    monkeypatch.setattr(module, "ENDS_SOON", timedelta(days=400))
    run("trust", "--install", "--yes")
    assert stores[0].trusted != [first]


@pytest.mark.parametrize("option", ["--install", "--remove"])
def test_where_a_store_takes_more_rights_nothing_is_touched_and_the_command_is_said(
    run, kept, stores, option
):
    root = kept.get().root_pem
    stores[0].command = "sudo do"
    if option == "--remove":
        stores[0].trusted.append(root)
        stores[1].trusted.append(root)
    before = [each.trusted[:] for each in stores]
    said = run("trust", option, "--yes", exits=1).stderr
    assert "this takes more rights; nothing was changed" in said
    assert f"\n  sudo do {option.removeprefix('--').replace('install', 'add')} authproxy-" in said
    assert [each.trusted for each in stores] == before


@pytest.mark.parametrize("how", ["refuses", "takes nothing"])
def test_a_store_that_fails_leaves_the_others_as_they_were(run, kept, stores, how):
    stores[1].refuses, stores[1].takes = ("no such luck", True) if how == "refuses" else (None, False)
    error = failed(run, "trust", "--install", "--yes")
    assert error.detail in {"no such luck", "a browser did not take the certificate, and does not say why"}
    assert [each.trusted for each in stores] == [[], []]


def test_without_any_store_it_is_said_what_to_do(run, kept, monkeypatch):
    monkeypatch.setattr(module, "trust_stores", list)
    error = failed(run, "trust", "--install", "--yes")
    assert error.detail == "no trust store that this system has is known"
    assert str(kept.public) in error.hint


@pytest.mark.parametrize(
    "options",
    [
        ("--print", "--install"),
        ("--install", "--remove"),
        ("--print", "--json"),
        ("--yes",),
        ("--print", "--yes"),
    ],
)
def test_options_that_do_not_go_together(run, kept, stores, options):
    run("trust", *options, exits=2)
    assert not kept.directory.exists()


def test_browsers_whose_database_cannot_be_changed_are_told_of(run, kept, stores, monkeypatch, tmp_path):
    kept.get()
    monkeypatch.setattr(module, "find_program", lambda _name: None)
    monkeypatch.setattr(module, "nss_databases", lambda: [tmp_path])
    assert "Firefox and Chromium have databases of their own" in run("trust").stderr
