"""The plain types of a configuration: what each takes, and what it makes of it."""

from pathlib import Path

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from authproxy import values
from authproxy.values import is_loopback, split_address, split_url
from tests.support.systems import of_unix


def read(kind, value, **context):
    return TypeAdapter(kind).validate_python(value, context=context)


def refused(kind, value):
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    return caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (0, 0),
        (1.5, 1.5),
        ("30", 30),
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5 m", 90),
        ("1h", 3600),
        ("2d", 172800),
    ],
)
def test_a_duration_is_in_seconds(text, seconds):
    assert read(values.Duration, text) == seconds


@pytest.mark.parametrize(
    "text", [-1, True, None, "", "-1s", "5 min", "1h30m", "1e3", float("inf"), float("nan"), [1]]
)
def test_what_is_no_duration_is_refused(text):
    assert "should be a duration" in refused(values.Duration, text)


@pytest.mark.parametrize(
    ("text", "size"), [(0, 0), (17, 17), ("17", 17), ("17B", 17), ("64KiB", 65536), ("1 MiB", 1 << 20)]
)
def test_a_size_is_in_bytes(text, size):
    assert read(values.Size, text) == size


@pytest.mark.parametrize("text", [-1, True, 1.5, "1.5KiB", "1KB", "1k", "", None])
def test_what_is_no_size_is_refused(text):
    assert "should be a size" in refused(values.Size, text)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "https://a.example:8443/base/",
        "https://a.example/token?tenant=1",
        "http://[::1]:8080/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_an_absolute_url_is_taken_as_it_is(url):
    assert read(values.URL, url) == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("a.example/x", "absolute URL"),
        ("//a.example/x", "absolute URL"),
        ("ftp://a.example", "absolute URL"),
        ("https://", "absolute URL"),
        ("https:///path", "absolute URL"),
        ("https://a.example:0", "absolute URL"),
        ("https://a.example:99999", "absolute URL"),
        ("https://a.example:x", "absolute URL"),
        ("https://[::1", "absolute URL"),
        ("https://a.example/a b", "spaces"),
        ("https://a.example/a\nb", "control characters"),
        ("https://a.example\\b", "backslashes"),
        ("https://joe:s3cr3t@a.example", "user information"),
        ("https://@a.example", "user information"),
        ("https://a.example/#x", "fragment"),
        ("https://a.example/#", "fragment"),
        ("https://bücher.example", "xn--"),
    ],
)
def test_what_is_no_url_is_refused(url, says):
    assert says in refused(values.URL, url)


def test_a_url_is_split():
    parts = split_url("https://a.example:8443/base")
    assert (parts.hostname, parts.port, parts.path) == ("a.example", 8443, "/base")


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "x_api.key~1"])
def test_a_header_name_is_a_token(name):
    assert read(values.HeaderName, name) == name


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\n", "grün", "a\0"])
def test_what_is_no_header_name_is_refused(name):
    assert "header name" in refused(values.HeaderName, name)


@pytest.mark.parametrize(
    ("value", "result"), [("", ""), (" a b\t", "a b"), ("grün", "grün"), ("a\tb", "a\tb")]
)
def test_a_header_value_is_stripped(value, result):
    assert read(values.SecretHeaderValue, value) == SecretStr(result)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("a\nb", "line breaks"),
        ("a\r", "line breaks"),
        ("a\0", "control"),
        ("\x7f", "control"),
        ("€", "Latin-1"),
    ],
)
def test_what_a_header_cannot_carry_is_refused(value, says):
    assert says in refused(values.SecretHeaderValue, value)


def test_a_pointer_begins_with_a_slash():
    assert read(values.Pointer, "") == ""
    assert read(values.Pointer, "/data/0") == "/data/0"
    assert "JSON Pointer" in refused(values.Pointer, "data")


def test_a_path_starts_from_the_directory_of_the_configuration(tmp_path):
    assert read(values.LocalPath, "token", directory=tmp_path) == str(tmp_path / "token")
    assert read(values.LocalPath, "/run/token", directory=tmp_path) == "/run/token"
    assert read(values.LocalPath, "~/token", directory=tmp_path) == str(Path.home() / "token")


@pytest.mark.parametrize("path", ["", "a\0b", "~nobody-of-that-name/x"])
def test_what_is_no_path_is_refused(path):
    assert refused(values.LocalPath, path)


def test_a_file_must_be_readable_now(tmp_path):
    (tmp_path / "ca.pem").write_text("x")
    assert read(values.ReadableFile, "ca.pem", directory=tmp_path) == str(tmp_path / "ca.pem")
    with pytest.raises(ValidationError, match="cannot be read: No such file"):
        read(values.ReadableFile, "other.pem", directory=tmp_path)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8080", ("::1", 8080)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        (":8080", ("", 8080)),
        of_unix("unix:/run/proxy.sock", None),
    ],
)
def test_an_address_is_split(address, parts):
    assert split_address(address) == parts
    assert read(values.Address, address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "8080",
        "a:",
        "a:x",
        "a:99999",
        "a:-1",
        "a:٣",
        "::1:80",
        "[x]:1",
        "[::1]",
        "a b:1",
        "unix:x",
        "unix:/\0",
    ],
)
def test_what_is_no_address_is_refused(address):
    assert refused(values.Address, address)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost.",
        "up42.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "[::1]",
        "::ffff:127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7F000001",
        "2130706433",
    ],
)
def test_this_machine_is_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.com",
        "localhost.example.com",
        "notlocalhost",
        "127.0.0.1.example",
        "10.0.0.1",
        "0.0.0.0",
        "::",
        "::2",
        "128.1",
        "0177.0.0.1",  # 127 to some, 177 to others
        "017700000001",
        "127.1.example",
        "127.0.0.1.1",
        "3221225985",
        "0xc0000201",
    ],
)
def test_no_other_host_is_loopback(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "kind",
    [
        values.Duration,
        values.Size,
        values.URL,
        values.HeaderName,
        values.SecretHeaderValue,
        values.Pointer,
        values.Address,
    ],
)
def test_no_message_repeats_a_secret_put_in_the_wrong_place(kind):
    assert "s3cr3t" not in refused(kind, "s3cr3t \n€")
