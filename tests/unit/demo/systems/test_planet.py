"""Planet: one key, three ways to send it."""

import pytest

from .talk import basic

KEY = "demo-token-of-planet"


@pytest.mark.parametrize(
    ("authorization", "query", "status"),
    [
        (f"api-key {KEY}", "", 200),
        (basic(KEY, ""), "", 200),
        (None, f"?api_key={KEY}", 200),
        (f"Bearer {KEY}", "", 401),
        ("api-key made-up", "", 401),
        (basic("made-up", ""), "", 401),
        (None, "", 401),
    ],
)
async def test_the_key_is_taken_in_each_way_that_is_documented(client, demo, authorization, query, status):
    headers = {"Authorization": authorization} if authorization else {}
    async with client.get(f"{demo.systems['planet']}/data/v1/item-types{query}", headers=headers) as reply:
        assert reply.status == status
