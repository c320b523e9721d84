"""The keys of `tls`; how they are read is in config/test_route.py."""

import pytest

from authproxy.net.tls_settings import TLSSettings, host_name


def test_the_files_are_those_that_are_named():
    assert TLSSettings(verify=False, server_name="a.example").files == []
    assert TLSSettings(ca_file="/ca", cert_file="/c", key_file="/k").files == ["/ca", "/c", "/k"]


def test_a_key_goes_with_a_certificate():
    with pytest.raises(ValueError, match="key_file needs cert_file"):
        TLSSettings(key_file="/k")


@pytest.mark.parametrize("name", ["A.Example", "api_v2.example.", "[::1]"])
def test_a_host_is_named_in_lower_case(name):
    assert host_name(name) == name.lower()


@pytest.mark.parametrize("name", ["", "https://a", "a:1", "a/b", "-a", "[::1", "a b"])
def test_what_is_no_host_is_refused(name):
    with pytest.raises(ValueError, match="should be a host name"):
        host_name(name)
