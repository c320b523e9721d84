"""What an upstream asks for is read from its challenges, however they are written."""

import pytest

from authproxy.proxy.challenge import lacks_scope, schemes_in, wanted_instead


def challenge(*values):
    return [(b"WWW-Authenticate", value.encode("latin-1")) for value in values]


@pytest.mark.parametrize(
    ("values", "schemes"),
    [
        (["Token"], ["Token"]),
        (['Basic realm="a, b", charset="UTF-8"'], ["Basic"]),
        (['Bearer realm="x", error="invalid_token", Token'], ["Bearer", "Token"]),
        (['Basic realm="x"', "Negotiate"], ["Basic", "Negotiate"]),
        (["Negotiate YWJj=="], ["Negotiate"]),
        (['Digest realm="say \\"Token, Bearer\\"", nonce="x"'], ["Digest"]),
        (["Token, Token"], ["Token"]),
        (["", ",", "=x", "x" * 25], []),
        (['Bearer error = "x"'], ["Bearer"]),
    ],
)
def test_schemes_are_told_from_parameters(values, schemes):
    assert schemes_in([(b"X-Other", b"Basic"), *challenge(*values)]) == schemes


@pytest.mark.parametrize(
    ("sent", "values", "instead"),
    [
        ("Bearer", ["Token"], ("Token", "set `scheme: Token`")),
        ("Bearer", ["bearer"], None),
        ("Bearer", ['Basic realm="x"', "Bearer"], None),
        ("Bearer", [], None),
        ("Bearer", ['Basic realm="x"'], ("Basic", "set `grant: basic`")),
        ("Bearer", ["Basic", "Token"], ("Basic or Token", "set `grant: basic` or `scheme: Token`")),
        ("", ["Bearer"], ("Bearer", "set `scheme: Bearer`")),
        (
            "Bearer",
            ["Negotiate"],
            ("Negotiate", "authproxy has no grant for that scheme: is `upstream` right?"),
        ),
    ],
)
def test_another_scheme_comes_with_what_to_set(sent, values, instead):
    assert wanted_instead(sent, challenge(*values)) == instead


@pytest.mark.parametrize(
    "values",
    [
        ['Bearer realm="x", error="insufficient_scope"'],
        ["Bearer error=insufficient_scope"],
        ['bearer ERROR = "insufficient_scope",scope="a"'],
        ['Basic realm="a, b", DPoP algs="ES256", error="insufficient_scope"'],
        ['Negotiate YWJj==, Bearer error="insufficient_scope"'],
        ["Negotiate", 'Bearer error="insufficient\\_scope"'],
        ['Bearer realm="say \\"no\\"", error="insufficient_scope"'],
    ],
)
def test_too_little_scope_is_an_error_of_that_name(values):
    assert lacks_scope([(b"X-Other", b"a"), *challenge(*values)])


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        'Bearer error="invalid_token", error_description="expired; this is not insufficient_scope"',
        'Bearer error="invalid_token", error_description="error=insufficient_scope"',
        'Bearer error="invalid_token", error_description="say \\"no\\", error=insufficient_scope"',
        'Bearer error_description="no end, error=insufficient_scope',
        'Bearer x_error="insufficient_scope"',
        'Bearer error="insufficient_scope_x"',
        'Bearer error="not insufficient_scope"',
        "Bearer error==insufficient_scope",
        "insufficient_scope",
        'Bearer realm="insufficient_scope"',
    ],
)
def test_too_little_scope_is_nothing_that_merely_mentions_it(value):
    assert not lacks_scope(challenge(value))
    assert not lacks_scope([(b"X-Other", b'Bearer error="insufficient_scope"')])
