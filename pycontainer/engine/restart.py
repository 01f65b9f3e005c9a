"""Restart policies: when a container that has ended is started again, and after how long.

The policies and their names are Docker's. The wait doubles from 100 ms up to a minute, and begins anew after a run of
ten seconds, so that a program that cannot start costs little and one that crashed once is back at once.
"""

from __future__ import annotations

from pycontainer.errors import UsageError

_FIRST_DELAY = 0.1  # seconds
_LONGEST_DELAY = 60.0
_STEADY = 10.0

NAMES = ("no", "on-failure", "always", "unless-stopped")


class RestartPolicy:
    """name: one of NAMES; most: how often at most with on-failure, 0 for no bound."""

    __slots__ = ("most", "name")

    def __init__(self, name: str = "no", most: int = 0) -> None:
        self.name = name
        self.most = most

    def applies(self, exit_status: int, restarts: int) -> bool:
        """Whether a program that ended so by itself is started again, after so many restarts."""
        if self.name == "on-failure":
            return exit_status != 0 and (not self.most or restarts < self.most)
        return self.name in ("always", "unless-stopped")

    def applies_at_boot(self, exit_status: int, *, stopped: bool) -> bool:
        """Whether a container that has run before is started when the machine is. `stopped`: a user had ended it."""
        if self.name == "on-failure":
            return exit_status != 0 and not stopped
        return self.name == "always" or (self.name == "unless-stopped" and not stopped)


class Backoff:
    """The wait before each restart, in seconds."""

    def __init__(self) -> None:
        self._delay = 0.0

    def next(self, ran: float) -> float:
        """The wait after a run of `ran` seconds."""
        self._delay = _FIRST_DELAY if ran >= _STEADY or not self._delay else min(self._delay * 2, _LONGEST_DELAY)
        return self._delay


def parse(text: str) -> RestartPolicy:
    """`no`, `on-failure[:MAXIMUM]`, `always`, `unless-stopped`. Raises UsageError."""
    name, colon, most = (text or "no").partition(":")
    hint = "no, on-failure, on-failure:5, always or unless-stopped"
    if name not in NAMES:
        raise UsageError("--restart", repr(text), "no such policy", hint)
    if colon and (name != "on-failure" or not most.isascii() or not most.isdigit() or len(most) > 9):
        raise UsageError("--restart", repr(text), "only on-failure takes a number of retries", hint)
    return RestartPolicy(name, int(most or 0))
