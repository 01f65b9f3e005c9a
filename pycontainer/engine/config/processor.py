"""What a container may use of the processors."""

from __future__ import annotations

import os

from pycontainer.engine.config.quantity import integer, optional
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]

_PERIOD = 100000  # microseconds, of cpu.max where nothing else is said


class Processor:
    """Limits of processor time and places, None or "" where none was asked for.

    cpus                       processors' worth of time, 1.5 for one and a half
    quota, period              microseconds of each; the quota is -1 for no limit
    shares                     share of the time beside those of others that want it too, 2 to 262,144
    cpuset_cpus, cpuset_mems   processors and memory nodes, lists as in cpuset(7)
    """

    __slots__ = ("cpus", "cpuset_cpus", "cpuset_mems", "period", "quota", "shares")

    def __init__(self, values: Values) -> None:
        # 0 is no limit, as docker has it.
        self.cpus: float | None = optional(_cpus, "--cpus", values.get("cpus")) or None
        self.quota: int | None = optional(_quota, "--cpu-quota", values.get("cpu_quota")) or None
        self.period: int | None = optional(_period, "--cpu-period", values.get("cpu_period")) or None
        self.shares: int | None = optional(_shares, "--cpu-shares", values.get("cpu_shares")) or None
        self.cpuset_cpus: str = values.get("cpuset_cpus") or ""
        self.cpuset_mems: str = values.get("cpuset_mems") or ""
        for flag, value in (("--cpu-quota", self.quota), ("--cpu-period", self.period)):
            if self.cpus is not None and value is not None:
                same = f"--cpus {self.cpus:g} is --cpu-quota {round(self.cpus * _PERIOD)} --cpu-period {_PERIOD}"
                raise UsageError("--cpus", repr(f"{self.cpus:g}"), f"conflicts with {flag}", f"leave out one: {same}")

    def max(self) -> tuple[int, int] | None:
        """Quota and period in microseconds, None where nothing is limited."""
        if self.cpus is not None:
            return round(self.cpus * _PERIOD), _PERIOD
        return None if self.quota in (None, -1) else (self.quota or 0, self.period or _PERIOD)

    def check_machine(self) -> None:
        """Raise UsageError for what this machine cannot give."""
        available = os.cpu_count() or 1
        if self.cpus is not None and self.cpus > available:
            hint = f"anything from 0.01 to {available}, such as 0.5; 0 is no limit"
            cause = f"this machine has only {available} processor{'s' if available > 1 else ''}"
            raise UsageError("--cpus", repr(f"{self.cpus:g}"), cause, hint)
        if self.cpuset_cpus:
            _check_numbers("--cpuset-cpus", self.cpuset_cpus, "processor", _online())
        if self.cpuset_mems:
            _check_numbers("--cpuset-mems", self.cpuset_mems, "memory node", _nodes())


def _cpus(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # At once larger than any machine, and not infinite.
    if not (value == 0 or 0.01 <= value < 1 << 20):
        raise UsageError(flag, repr(text), "not a number of processors", "0.01 at least, such as 0.5; 0 is no limit")
    return value


def _quota(flag: str, text: str) -> int:
    value = integer(flag, text)
    if value not in (-1, 0) and not 1000 <= value < 1 << 44:
        hint = "1000 at least, such as --cpu-quota 50000 for half of a period of 100000; -1 is no limit"
        raise UsageError(flag, repr(text), "not microseconds that the kernel takes", hint)
    return value


def _period(flag: str, text: str) -> int:
    value = integer(flag, text)
    if value and not 1000 <= value <= 1000000:
        hint = "1000 to 1000000, such as --cpu-period 100000"
        raise UsageError(flag, repr(text), "not microseconds that the kernel takes", hint)
    return value


def _shares(flag: str, text: str) -> int:
    value = integer(flag, text)
    if not 0 <= value < 1 << 63:
        hint = "2 to 262144, such as --cpu-shares 512 for half of what others have with 1024; 0 leaves it as it is"
        raise UsageError(flag, repr(text), "not a number of shares", hint)
    return value


def _check_numbers(flag: str, text: str, what: str, there: set[int]) -> None:
    missing = _numbers(flag, text, what) - there
    if missing:
        raise UsageError(
            flag, repr(text), f"this machine has no {what} {_ranges(missing)}", f"there are {_ranges(there)}"
        )


def _numbers(flag: str, text: str, what: str) -> set[int]:
    """The numbers in "0-2,4": cpuset(7). Raises UsageError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        good = all(number.isascii() and number.isdigit() and len(number) < 6 for number in (first, last))
        if not good or int(first) > int(last):
            raise UsageError(flag, repr(text), f"not a list of {what}s", "numbers and ranges, such as 0-2,4")
        found.update(range(int(first), int(last) + 1))
    return found


def _online() -> set[int]:
    """The numbers of the processors that this machine has: sysfs-devices-system-cpu. Raises OSError."""
    with open("/sys/devices/system/cpu/online") as file:
        return _numbers("online", file.read().strip(), "processor")


def _nodes() -> set[int]:
    """The numbers of the memory nodes that this machine has: sysfs-devices-node. Raises OSError."""
    try:
        with open("/sys/devices/system/node/has_memory") as file:
            return _numbers("has_memory", file.read().strip(), "memory node")
    except FileNotFoundError:
        # A kernel without NUMA has one.
        return {0}


def _ranges(numbers: set[int]) -> str:
    """The numbers as cpuset(7) lists them: "0-2,4"."""
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    begins = sorted(number for number in numbers if number - 1 not in numbers)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(begins, ends, strict=True))
