"""Whether this machine's clock and a server's agree: signed assertions and one-time codes fail if not."""

from authproxy.app.doctor.steps import Verdict, failed, passed
from authproxy.grants.shape import NOTABLE_SKEW


def judge_clock(seconds: float, place: str) -> Verdict:
    """Return what a skew of `seconds` against `place` means."""
    if abs(seconds) <= NOTABLE_SKEW:
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
