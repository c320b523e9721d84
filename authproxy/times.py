"""Moments as documents tell them: RFC 3339, in UTC."""

from datetime import UTC, datetime

END = 253402300800  # the year 10000, in epoch seconds


def rfc3339(moment: float | None) -> str | None:
    """Return `moment`, in epoch seconds, to the millisecond; None for none, or one that no calendar has."""
    if moment is None or not 0 <= moment < END:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
