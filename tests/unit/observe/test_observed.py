"""What outlives a configuration."""

from authproxy.observe.observed import Observed


def test_two_applications_have_nothing_in_common():
    one, other = Observed(), Observed()
    assert one.standings is not other.standings
    assert one.bodies is not other.bodies
