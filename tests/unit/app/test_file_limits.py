"""How many connections the file descriptors allow; the system's limits are faked."""

from types import SimpleNamespace

import pytest

from authproxy.app.file_limits import OWN_FILES, affordable_connections, raise_file_limit


def config(clients, upstream, forward=None):
    """Return one with so many connections, of clients and to two upstreams."""
    routes = [SimpleNamespace(max_connections=each) for each in (upstream - upstream // 2, upstream // 2)]
    return SimpleNamespace(limits=SimpleNamespace(connections=clients), routes=routes, forward=forward)


resource = pytest.importorskip("resource")
NONE = resource.RLIM_INFINITY


@pytest.fixture
def system(monkeypatch):
    """Return a maker of a system with a soft and a hard limit; it notes what is asked of it."""

    def make(soft, hard, refuses=None):
        asked = []

        def setrlimit(which, limits):
            assert which == resource.RLIMIT_NOFILE
            asked.append(limits)
            if refuses is not None:
                raise refuses

        monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", setrlimit)
        return asked

    return make


@pytest.mark.parametrize(
    ("soft", "hard", "asked"),
    [
        (1024, 1 << 20, [(2000 + OWN_FILES, 1 << 20)]),
        (1024, 1500, [(1500, 1500)]),  # as far as it goes
        (1024, NONE, [(2000 + OWN_FILES, NONE)]),
        (4096, 1 << 20, []),  # never lowered
        (NONE, NONE, []),
        (1024, 1024, []),
    ],
)
def test_the_soft_limit_is_raised_to_what_is_needed(system, soft, hard, asked):
    heard = system(soft, hard)
    raise_file_limit(config(1500, 500))
    assert heard == asked


@pytest.mark.parametrize("refuses", [OSError("no"), ValueError("no")])
def test_a_system_that_allows_less_than_it_says_stops_nobody(system, refuses):
    heard = system(1024, 4096, refuses)
    raise_file_limit(config(1500, 500))
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("files", "upstream", "possible"),
    [
        (NONE, 100, 1000),
        (10_000, 100, 1000),  # as many as are wanted
        (OWN_FILES + 600, 100, 500),  # each upstream connection takes one too…
        (OWN_FILES + 600, 5000, 300),  # …of which there are no more than clients
        (OWN_FILES, 100, 1),
        (10, 100, 1),
    ],
)
def test_no_more_clients_are_served_than_there_are_descriptors_for(system, files, upstream, possible):
    system(files, files)
    assert affordable_connections(config(1000, upstream)) == possible


@pytest.mark.parametrize(("tunnels", "possible"), [(True, 300), (False, 500)])
def test_each_tunnel_of_the_forward_proxy_takes_a_descriptor_more(system, tunnels, possible):
    system(OWN_FILES + 600, OWN_FILES + 600)
    assert affordable_connections(config(1000, 100, SimpleNamespace(tunnels=tunnels))) == possible
