"""What the tests of the grants have in common: making one, and holding its conversation by hand."""

import json
from functools import cache
from urllib.parse import parse_qsl

from pydantic import TypeAdapter

from authproxy.grants.steps import Answer
from authproxy.tokens.token import Token

NOW = 1_700_000_000.0
TOKEN_URL = "https://id.example/token"


def make(grant, **keys):
    """Make a grant from its keys, as the configuration does."""
    return _adapter(grant).validate_python(keys)


@cache
def _adapter(grant):
    return TypeAdapter(grant)


def answer(document=None, *, status=200, body=None, headers=None, place=TOKEN_URL):
    """Return what a token endpoint answers."""
    content = body if body is not None else json.dumps(document).encode()
    return Answer(content, NOW, place, status, headers or {})


def refusal(error, *, status=400, **more):
    return answer({"error": error} | more, status=status)


def hold(flow, *answers):
    """Hold a conversation to its end; return the steps it asked for, and the token."""
    steps = [next(flow)]
    for given in answers:
        try:
            steps.append(flow.send(given))
        except StopIteration as end:
            return steps, end.value
    raise AssertionError("the conversation goes on")


def pairs(step):
    """Return the form that a step sends."""
    return parse_qsl(step.body.decode(), keep_blank_values=True, strict_parsing=True)


def expired(refresh_token=None):
    return Token("old", issued_at=NOW - 600, expires_at=NOW - 300, refresh_token=refresh_token)
