"""The counts in the Prometheus text format, for `/metrics`."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from authproxy.admin.status import STATES, State
from authproxy.observe.counters import BOUNDS, Counters

FAMILIES = (
    ("requests", "authproxy_requests", "Requests answered.", ("route", "method", "status")),
    ("token_requests", "authproxy_token_requests", "Token requests.", ("route", "outcome")),
    ("retries", "authproxy_retries", "Requests repeated with another token.", ("route", "outcome")),
    ("refused", "authproxy_refused", "Requests that were not forwarded.", ("reason",)),
    ("tunnels", "authproxy_tunnels", "What became of CONNECT at the forward proxy.", ("outcome",)),
    ("tunnel_bytes", "authproxy_tunnel_bytes", "Bytes through blind tunnels.", ("direction",)),
)


def exposition(
    counters: Counters,
    *,
    expiries: Mapping[str, float],
    connections: Iterable[tuple[str, str, int]] = (),
    states: Iterable[tuple[str, State]] = (),
    reload: tuple[float, bool] | None = None,
) -> bytes:
    """Return the metrics as text.

    `expiries` is each route's token's end in epoch seconds; `connections` are (route, state, number),
    `states` (route, state); `reload` is when the configuration was loaded, and whether the last one failed.
    """
    registry = CollectorRegistry()
    registry.register(_Collected(counters, dict(expiries), list(connections), list(states), reload))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(
        self,
        counters: Counters,
        expiries: dict[str, float],
        connections: list[tuple[str, str, int]],
        states: list[tuple[str, State]],
        reload: tuple[float, bool] | None,
    ) -> None:
        self._states = states
        self._reload = reload
        self._tally = counters
        self._expiries = expiries
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        for name, metric, text, labels in FAMILIES:
            counted = CounterMetricFamily(metric, text, labels=labels)
            for key, count in sorted(getattr(self._tally, name).items()):
                counted.add_metric(list(key), count)
            yield counted
        durations = HistogramMetricFamily(
            "authproxy_request_duration_seconds", "From a request to the end of its answer.", labels=["route"]
        )
        for route, counts in sorted(self._tally.buckets.items()):
            durations.add_metric([route], _cumulated(counts), self._tally.seconds[route,])
        yield durations
        ends = GaugeMetricFamily(
            "authproxy_token_expiry_timestamp_seconds", "When the cached token expires.", labels=["route"]
        )
        for route, moment in sorted(self._expiries.items()):
            ends.add_metric([route], moment)
        yield ends
        used = GaugeMetricFamily(
            "authproxy_upstream_connections", "Connections to upstreams.", labels=["route", "state"]
        )
        for route, state, number in sorted(self._connections):
            used.add_metric([route, state], number)
        yield used
        stands = GaugeMetricFamily(
            "authproxy_route_state", "Whether a route is in a state.", labels=["route", "state"]
        )
        for route, current in sorted(self._states):
            for each in STATES:
                stands.add_metric([route, each], int(each == current))
        yield stands
        tunnels = GaugeMetricFamily("authproxy_tunnels_open", "Blind tunnels that are open.", labels=())
        for open_now in self._tally.tunnels_open.values():
            tunnels.add_metric([], open_now)
        yield tunnels
        if self._reload is not None:
            loaded_at, failed = self._reload
            yield GaugeMetricFamily(
                "authproxy_config_reload_timestamp_seconds", "When the configuration was loaded.", loaded_at
            )
            yield GaugeMetricFamily(
                "authproxy_config_reload_failed", "Whether the last reload changed nothing.", int(failed)
            )


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    """Return the buckets as Prometheus wants them: each with all those below it."""
    found: list[tuple[str, float]] = []
    within = 0
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], counts, strict=True):
        within += count
        found.append((bound, within))
    return found
