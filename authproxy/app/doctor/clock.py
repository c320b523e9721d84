"""Whether this machine's clock and a server's agree: signed assertions and one-time codes fail if not."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from authproxy.app.doctor.steps import Verdict, failed, passed

TOLERABLE = 30.0  # seconds: what a one-time code lasts, and less than most servers allow an assertion


def skew(headers: Mapping[str, str], asked_at: float, answered_at: float) -> float | None:
    """Return the seconds by which the server's `Date` is ahead of us; None where it does not say.

    The header has whole seconds, and was written somewhere between the question and the answer.
    """
    try:
        date = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        return None
    if date < asked_at - 1:
        return date - asked_at
    return max(0.0, date - answered_at)


def judge_clock(seconds: float, place: str) -> Verdict:
    """Return what a skew of `seconds` against `place` means."""
    if abs(seconds) <= TOLERABLE:
        return passed(f"agrees with {place}")
    side = "behind" if seconds > 0 else "ahead of"
    return failed(
        f"this machine's clock is {shown(abs(seconds))} {side} that of {place}",
        "set this machine's clock (NTP): one-time codes, signed assertions and certificates depend on it",
    )


def shown(seconds: float) -> str:
    """Return a span as one reads it."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}s"
    return f"{seconds:.0f} s"
