"""Stand-ins for the APIs that the presets are for: token endpoints and upstreams, on loopback.

For `authproxy demo`, and for tests. They hand out random tokens, check them, and say what arrived;
nothing in here is an account anywhere, and nothing leaves the machine.
"""

from authproxy.demo.serve import FIRST_PORT, Demo, announced, stand_ins

__all__ = ["FIRST_PORT", "Demo", "announced", "stand_ins"]
