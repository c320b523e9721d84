"""The one user and the one client that every stand-in knows. All of it is made up."""

from authproxy.demo.standin import same

USERNAME = "demo@example.com"
PASSWORD = "demo password: 100% sure"  # noqa: S105 - made up, and awkward on purpose
CLIENT_ID = "key-demo"
CLIENT_SECRET = "demo+secret/100%"  # noqa: S105 - form-encoded it would be another one
USER_TOKEN = "demo-token-of-a-user"  # noqa: S105 - made up
ACTION_TOKEN = "demo-token-of-an-action"  # noqa: S105 - made up


def is_login(sent: tuple[str, str] | None, name: str, password: str) -> bool:
    """Tell whether `sent` is that name with that password."""
    return sent is not None and same(sent[0], name) and same(sent[1], password)
