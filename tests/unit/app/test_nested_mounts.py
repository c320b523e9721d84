"""Which mounts below another one an upstream's answers must not lead to."""

import pytest

from authproxy.app.nested_mounts import NestedMounts
from authproxy.config.read import parse

OWN = "auth: {grant: static, token: own-token}"
OTHER = "auth: {grant: static, token: other-token}"


def below(*others, mount="/"):
    lines = [f"- {{name: me, path: {mount}, upstream: 'https://me.example/v2', {OWN}}}"]
    lines += [f"- {{name: r{number}, {keys}}}" for number, keys in enumerate(others)]
    routes = parse("routes:\n" + "\n".join(lines), "proxy.yaml", environ={}).routes
    return NestedMounts(routes).below(routes[0], routes[0])


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (f"path: /bank, upstream: 'https://bank.example', {OTHER}", {("bank",)}),
        (f"path: /a/bank, upstream: 'https://bank.example', {OTHER}", {("a", "bank")}),
        (f"path: /bank, upstream: 'https://me.example:444', {OTHER}", {("bank",)}),
        (f"path: /bank, upstream: 'https://me.example/b', {OTHER}", set()),  # it is meant
        (f"path: /bank, upstream: 'https://me.example:443', {OTHER}", set()),
        (f"path: /bank, upstream: 'https://bank.example', {OWN}", set()),
        (f"path: /bank, host: h.example, upstream: 'https://bank.example', {OTHER}", set()),
        (f"listen: '127.0.0.1:9', upstream: 'https://bank.example', {OTHER}", set()),
    ],
)
def test_a_mount_below_is_closed_where_it_adds_another_credential_elsewhere(keys, found):
    assert below(keys) == found


def test_steps_are_those_behind_the_mount():
    bank = f"path: /a/bank, upstream: 'https://bank.example', {OTHER}"
    beside = f"path: /ab, upstream: 'https://bank.example', {OTHER}"
    above = f"path: /, upstream: 'https://bank.example', {OTHER}"
    assert below(bank, beside, above, mount="/a") == {("bank",)}
