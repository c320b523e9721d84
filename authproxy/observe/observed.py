"""What is known of requests and routes beyond one configuration: a reload replaces the site, but not this."""

from dataclasses import dataclass, field

from authproxy.observe.counters import Counters
from authproxy.observe.record import BodyBudget
from authproxy.observe.standing import Standings


@dataclass(frozen=True, slots=True)
class Observed:
    """How routes stand with their upstreams, how much of bodies is kept, and what is counted."""

    standings: Standings = field(default_factory=Standings)
    bodies: BodyBudget = field(default_factory=BodyBudget)
    counters: Counters = field(default_factory=Counters)
