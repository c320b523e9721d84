"""Every verb, metric and admin path is documented where an operator would look."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from authproxy.admin.application import admin_application
from authproxy.admin.metrics import exposition
from authproxy.cli import VERBS
from authproxy.observe.counters import Counters

ADMIN_API = (Path(__file__).parents[2] / "docs" / "admin-api.md").read_text("utf-8")
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_documented(verb):
    assert f"`authproxy {verb}" in OPERATIONS


def test_every_metric_is_documented_and_no_other():
    text = exposition(Counters(), expiries={}, reload=(0.0, False)).decode()
    families = text_string_to_metric_families(text)
    named = {each.name + ("_total" if each.type == "counter" else "") for each in families}
    assert named == set(re.findall(r"^\| `(authproxy_\w+)`", OPERATIONS, re.MULTILINE))


def test_every_admin_path_is_documented():
    application = admin_application(backend=None, form_seconds=1)
    paths = {route.resource.canonical for route in application.router.routes()}
    assert {"/healthz", "/readyz", "/metrics", "/login/{route}", "/callback", "/api/status"} <= paths
    for path in paths:
        written = path.replace("{route}", "NAME").replace("{name}", "NAME").replace("{id}", "ID")
        assert f"`{written}`" in OPERATIONS
        if path.startswith("/api/"):
            assert re.search(rf"`(GET|POST) {written}`", ADMIN_API)
