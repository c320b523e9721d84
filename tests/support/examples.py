"""How many examples hypothesis makes up: fewer for `make unit`, which runs while one types."""

from hypothesis import settings

QUICK = "quick"
SHARE = 10

settings.register_profile(QUICK, max_examples=settings().max_examples // SHARE)


def examples(number: int) -> int:
    """Return `number`, or the share of it with `--hypothesis-profile=quick`."""
    return number // SHARE if settings.get_current_profile_name() == QUICK else number
