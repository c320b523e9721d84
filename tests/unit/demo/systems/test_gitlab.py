"""GitLab: a header of its own."""

import pytest

TOKEN = "demo-token-of-gitlab"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"PRIVATE-TOKEN": TOKEN}, 200),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"PRIVATE-TOKEN": f"Bearer {TOKEN}"}, 401),
        ({"PRIVATE-TOKEN": "made-up"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({}, 401),
    ],
)
async def test_the_token_is_taken_in_its_header_or_as_bearer(client, demo, headers, status):
    async with client.get(f"{demo.systems['gitlab']}/api/v4/user", headers=headers) as reply:
        assert reply.status == status
        assert TOKEN not in await reply.text()
