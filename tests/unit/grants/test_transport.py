"""By which TLS whom a grant asks is spoken to."""

from authproxy.grants.transport import USUAL, Transport
from authproxy.net.tls_settings import TLSSettings

OWN = TLSSettings(verify=False)


def test_settings_of_the_grant_hold_for_every_server():
    transport = Transport(None, OWN)
    assert transport.tls_to("https://id.example/t") is OWN
    assert transport.tls_of_its_own(["https://id.example/t"]) is None, "as they stand in the grant already"


def test_settings_of_the_route_hold_for_its_upstreams_host_alone():
    transport = Transport(None, OWN, "api.example")
    assert transport.tls_to("https://API.example:8443/t") is OWN
    assert transport.tls_to("https://api.example.org/t") == USUAL
    assert transport.tls_of_its_own(["https://id.example/t"]) is None
    assert transport.tls_of_its_own(["https://id.example/t", "https://api.example/t"]) is OWN


def test_what_is_as_usual_tells_no_credential_from_another():
    assert Transport(None, TLSSettings(), "api.example").tls_of_its_own(["https://api.example/t"]) is None
