"""Times as Docker writes them: RFC 3339 in UTC, nine digits of a second."""

from __future__ import annotations

import time


def rfc3339(seconds: float) -> str:
    """`2026-01-02T15:04:05.123456789Z` for seconds since the epoch."""
    return rfc3339_ns(nanoseconds(seconds))


def nanoseconds(seconds: float) -> int:
    """Seconds in nanoseconds, as precisely as they are."""
    # Whole and fraction apart, because their product with 10^9 has more digits than a float.
    whole, fraction = divmod(seconds, 1)
    return int(whole) * 1_000_000_000 + int(fraction * 1e9)


def rfc3339_ns(count: int) -> str:
    """The same for nanoseconds since the epoch."""
    seconds, fraction = divmod(count, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09}Z"
