"""The counts as Prometheus reads them; its own parser judges the text."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from authproxy.admin.metrics import exposition
from authproxy.admin.status import STATES
from authproxy.observe.counters import BOUNDS, Counters, total
from tests.support.records import record


def samples(counters=None, **more):
    """Return what a scrape finds: the value of each sample, by its name and labels."""
    text = exposition(counters or Counters(), **({"expiries": {}} | more)).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_kind_of_count_has_its_name_and_its_labels():
    counters = Counters()
    counters.request(record())
    counters.request(record())
    counters.token_requests["up42", "ok"] += 3
    counters.retries["up42", "helped"] += 4
    counters.refused["no route",] += 5
    found = samples(counters)
    route = ("route", "up42")
    assert found["authproxy_requests_total", ("method", "GET"), route, ("status", "200")] == 2
    assert found["authproxy_token_requests_total", ("outcome", "ok"), route] == 3
    assert found["authproxy_retries_total", ("outcome", "helped"), route] == 4
    assert found["authproxy_refused_total", ("reason", "no route")] == 5


def test_a_bucket_holds_all_requests_that_were_as_fast_and_the_last_one_holds_all():
    counters = Counters()
    for seconds in (0.0005, 0.1, 0.1, 3, 3600):
        counters.request(record(seconds=seconds))
    found, name = samples(counters), "authproxy_request_duration_seconds"
    within = [
        found[f"{name}_bucket", ("le", bound), ("route", "up42")] for bound in [*map(str, BOUNDS), "+Inf"]
    ]
    assert within == sorted(within)
    assert (within[0], within[BOUNDS.index(0.1)], within[BOUNDS.index(5.0)], within[-1]) == (1, 3, 4, 5)
    assert found[f"{name}_count", ("route", "up42")] == 5
    assert found[f"{name}_sum", ("route", "up42")] == pytest.approx(3603.2005)


def test_a_tokens_end_and_the_connections_are_shown_as_they_are_now():
    found = samples(expiries={"up42": 1.7e9}, connections=[("up42", "idle", 2), ("up42", "busy", 1)])
    route = ("route", "up42")
    assert found["authproxy_token_expiry_timestamp_seconds", route] == 1.7e9
    assert found["authproxy_upstream_connections", route, ("state", "idle")] == 2
    assert found["authproxy_upstream_connections", route, ("state", "busy")] == 1


def test_a_name_with_quotes_stays_one_label():
    counters = Counters()
    counters.refused['a "quoted"\nreason\\',] += 1
    assert samples(counters)["authproxy_refused_total", ("reason", 'a "quoted"\nreason\\')] == 1


def test_the_same_counts_make_the_same_text_in_whatever_order_they_came():
    one, other = Counters(), Counters()
    for counters, names in ((one, "ab"), (other, "ba")):
        for name in names:
            counters.request(record(route=name))
    assert exposition(one, expiries={"a": 1, "b": 2}) == exposition(other, expiries={"b": 2, "a": 1})


def test_before_anything_was_counted_there_is_a_text_all_the_same():
    assert samples() == {}


def test_of_all_states_a_route_is_in_one():
    found = samples(states=[("up42", "refused"), ("hello", "valid")])
    for route, current in (("up42", "refused"), ("hello", "valid")):
        there = {
            state: found["authproxy_route_state", ("route", route), ("state", state)] for state in STATES
        }
        assert there == {state: state == current for state in STATES}


@pytest.mark.parametrize("failed", [True, False])
def test_when_the_configuration_was_loaded_and_whether_the_last_one_was_is_told(failed):
    found = samples(reload=(1.7e9, failed))
    assert found["authproxy_config_reload_timestamp_seconds",] == 1.7e9
    assert found["authproxy_config_reload_failed",] == failed
    assert ("authproxy_config_reload_failed",) not in samples()


def test_tunnels_are_counted_and_those_that_are_open_are_a_gauge():
    counters = Counters()
    counters.tunnels["tunnelled",] += 2
    counters.tunnel_bytes["in",] += 7
    counters.tunnels_open[()] += 1
    other = Counters()
    other.tunnels_open[()] += 3
    found = samples(total([counters.snapshot(), other.snapshot()]))
    assert found["authproxy_tunnels_total", ("outcome", "tunnelled")] == 2
    assert found["authproxy_tunnel_bytes_total", ("direction", "in")] == 7
    assert found["authproxy_tunnels_open",] == 4
