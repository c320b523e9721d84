"""`authproxy schema`."""

import json

from authproxy.config.json_schema import json_schema


def test_the_schema_is_printed_as_json_and_needs_no_configuration(run):
    assert json.loads(run("schema").stdout) == json_schema()
