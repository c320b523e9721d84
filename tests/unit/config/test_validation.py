"""A mapping becomes a dataclass, or every fault in it."""

from pathlib import Path

from authproxy.config.document import compose
from authproxy.config.route import HeaderRules
from authproxy.config.validation import Validation
from authproxy.grants.static import Basic
from authproxy.net.tls_settings import TLSSettings


def make(kind, text, *besides, **known):
    validation = Validation(Path("/etc/authproxy"))
    return validation.make(kind, compose(text, "a.yaml"), *besides, **known), validation


def test_a_mapping_becomes_a_dataclass():
    made, validation = make(TLSSettings, "{verify: false, name: a}", "name")
    assert made == TLSSettings(verify=False)
    assert (validation.faults, validation.warnings) == ([], [])


def test_every_fault_is_collected_and_nothing_is_made():
    made, validation = make(TLSSettings, "{verify: perhaps, servername: x}")
    assert made is None
    assert sorted(fault.key for fault in validation.faults) == ["servername", "verify"]


def test_keys_that_are_read_elsewhere_are_known():
    _, validation = make(HeaderRules, "{sett: {}, auth: {}}", "auth", known=["settings"])
    (fault,) = validation.faults
    assert fault.message == "unknown key; did you mean `set`?"


def test_texts_are_judged():
    _, validation = make(HeaderRules, '{set: {X-A: "a\\r"}}')
    assert len(validation.faults) == 1
    made, validation = make(Basic, "{username: joe, password: 'x '}")
    assert made is not None
    (warning,) = validation.warnings
    assert warning.message.startswith("ends in whitespace")


def test_what_the_schema_calls_secret_is_collected():
    _, validation = make(Basic, "{username: joe, password: hunter2}")
    (leaf,) = validation.secrets
    assert (leaf.place.key, leaf.value.get_secret_value()) == ("password", "hunter2")


def test_what_nothing_could_be_made_of_may_be_secret():
    _, validation = make(TLSSettings, "{verify: perhaps, server_name: x}")
    assert [leaf.place.key for leaf in validation.secrets] == ["verify", "server_name"]
