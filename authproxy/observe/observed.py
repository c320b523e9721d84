"""What is known of requests and routes beyond one configuration: a reload replaces the site, but not this."""

from dataclasses import dataclass, field

from authproxy.observe.record import BodyBudget
from authproxy.observe.standing import Standings


@dataclass(frozen=True, slots=True)
class Observed:
    """How routes stand with their upstreams, and how much of bodies is kept."""

    standings: Standings = field(default_factory=Standings)
    bodies: BodyBudget = field(default_factory=BodyBudget)
