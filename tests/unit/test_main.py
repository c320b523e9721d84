import runpy

from authproxy import cli


def test_python_m_authproxy_is_the_command(monkeypatch):
    called = []
    monkeypatch.setattr(cli, "main", lambda: called.append("main"))
    runpy.run_module("authproxy", run_name="__main__")
    assert called == ["main"]


def test_an_import_starts_nothing(monkeypatch):
    monkeypatch.setattr(cli, "main", lambda: 1 / 0)
    runpy.run_module("authproxy.__main__", run_name="authproxy.__main__")
