"""Health checks: a command that is run in the container now and then, and what follows from how it ends.

The states, their rules and the JSON shape are Docker's (State.Health): a check that ends with 0 makes the container
healthy; `retries` failures in a row make it unhealthy, those within the start period not counted.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
OUTPUT = 4096  # bytes of a check's output that are kept
_KEPT = 5  # results
TIMED_OUT = -1  # in place of an exit status


class HealthCheck:
    """test: the arguments to execute; the times in seconds."""

    __slots__ = ("interval", "retries", "start_interval", "start_period", "test", "timeout")

    def __init__(
        self,
        test: list[str],
        interval: float = 30.0,
        timeout: float = 30.0,
        retries: int = 3,
        start_period: float = 0.0,
        start_interval: float = 5.0,
    ) -> None:
        self.test = test
        self.interval = interval
        self.timeout = timeout
        self.retries = retries
        self.start_period = start_period
        self.start_interval = start_interval

    def to_json(self) -> dict[str, Any]:
        """The arguments that make it again."""
        return {name: getattr(self, name) for name in self.__slots__}


class Health:
    """What the checks of one run have found so far. Times are seconds since the epoch."""

    def __init__(self, check: HealthCheck, started: float) -> None:
        self.check = check
        self.status = STARTING
        self.failing_streak = 0
        self._started = started
        self._log: list[dict[str, Any]] = []

    def next_delay(self, now: float) -> float:
        """Seconds from the end of one check, or from the start, to the next."""
        if self.status == STARTING and now - self._started < self.check.start_period:
            return min(self.check.start_interval, self.check.interval)
        return self.check.interval

    def add(self, start: str, end: str, now: float, exit_status: int, output: str) -> bool:
        """Take a result; whether the status has changed. `start` and `end` are RFC 3339, `output` is cut already."""
        self._log = [
            *self._log[-_KEPT + 1 :],
            {"Start": start, "End": end, "ExitCode": exit_status, "Output": output},
        ]
        before = self.status
        if exit_status == 0:
            self.failing_streak = 0
            self.status = HEALTHY
        elif before != STARTING or now - self._started >= self.check.start_period:
            self.failing_streak += 1
            if self.failing_streak >= self.check.retries:
                self.status = UNHEALTHY
        return self.status != before

    def to_json(self) -> dict[str, Any]:
        """Docker's State.Health."""
        return {"Status": self.status, "FailingStreak": self.failing_streak, "Log": self._log}
