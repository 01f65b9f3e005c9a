"""What a container may use of the machine."""

from __future__ import annotations

import os

from pycontainer.engine.config.quantity import integer, optional, parse_size
from pycontainer.errors import UsageError
from pycontainer.kernel import rlimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class Resources:
    """Limits, None where none was asked for.

    memory, swap   bytes; swap counts both together, -1 for no limit
    cpus           processors' worth of time, 1.5 for one and a half
    cpuset_cpus    a list as in cpuset(7), "" for every processor
    ulimits        (RLIMIT_* name, soft, hard), -1 for no limit
    """

    __slots__ = ("cpus", "cpuset_cpus", "memory", "pids_limit", "swap", "ulimits")

    def __init__(self, values: Values) -> None:
        # 0 is no limit, as docker has it.
        self.memory: int | None = optional(parse_size, "--memory", values.get("memory")) or None
        self.swap: int | None = optional(parse_size, "--memory-swap", values.get("memory_swap")) or None
        self.cpus: float | None = optional(_cpus, "--cpus", values.get("cpus")) or None
        self.cpuset_cpus: str = values.get("cpuset_cpus") or ""
        self.pids_limit: int | None = optional(integer, "--pids-limit", values.get("pids_limit"))
        # By name, because config.json may hold each only once; the last one counts.
        ulimits = {limit[0]: limit for limit in map(_ulimit, values.get("ulimit") or [])}
        self.ulimits = list(ulimits.values())
        self._check_memory()

    def check_machine(self) -> None:
        """Raise UsageError for what this machine cannot give."""
        self._check_processors()
        self._check_descriptors()

    def _check_processors(self) -> None:
        available = os.cpu_count() or 1
        if self.cpus is not None and self.cpus > available:
            hint = f"anything from 0.01 to {available}, such as 0.5; 0 is no limit"
            cause = f"this machine has only {available} processor{'s' if available > 1 else ''}"
            raise UsageError("--cpus", repr(f"{self.cpus:g}"), cause, hint)
        if self.cpuset_cpus:
            online = _online()
            missing = _processors("--cpuset-cpus", self.cpuset_cpus) - online
            if missing:
                cause = f"this machine has no processor {_ranges(missing)}"
                raise UsageError("--cpuset-cpus", repr(self.cpuset_cpus), cause, f"there are {_ranges(online)}")

    def _check_descriptors(self) -> None:
        for name, soft, _ in self.ulimits:
            if name == "RLIMIT_NOFILE" and 0 <= soft < 3:
                cause = "standard input, output and error are three files already"
                hint = "such as nofile=1024; a program with shared libraries needs 4 at least"
                raise UsageError("--ulimit", f"nofile={soft}", cause, hint)

    def _check_memory(self) -> None:
        if self.memory is not None and self.memory < 0:
            raise UsageError("--memory", "-1", "not a size", "leave it out, or write 0, for no limit")
        if self.memory is not None and self.memory < 6 << 20:
            hint = "6m is the least in which a program can start"
            raise UsageError("--memory", str(self.memory), "too little memory", hint)
        if self.swap is not None and self.swap != -1:
            if self.memory is None:
                raise UsageError("--memory-swap", str(self.swap), "needs --memory as well", "-m 64m --memory-swap 128m")
            if self.swap < self.memory:
                hint = "it counts memory and swap together; the same value as --memory means no swap"
                raise UsageError("--memory-swap", str(self.swap), "is less than --memory", hint)


def _cpus(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # At once larger than any machine, and not infinite.
    if not (value == 0 or 0.01 <= value < 1 << 20):
        raise UsageError(flag, repr(text), "not a number of processors", "0.01 at least, such as 0.5; 0 is no limit")
    return value


def _processors(flag: str, text: str) -> set[int]:
    """The numbers in "0-2,4": cpuset(7). Raises UsageError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        good = all(number.isascii() and number.isdigit() and len(number) < 6 for number in (first, last))
        if not good or int(first) > int(last):
            raise UsageError(flag, repr(text), "not a list of processors", "numbers and ranges, such as 0-2,4")
        found.update(range(int(first), int(last) + 1))
    return found


def _online() -> set[int]:
    """The numbers of the processors that this machine has: sysfs-devices-system-cpu. Raises OSError."""
    with open("/sys/devices/system/cpu/online") as file:
        return _processors("online", file.read().strip())


def _ranges(numbers: set[int]) -> str:
    """The numbers as cpuset(7) lists them: "0-2,4"."""
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    begins = sorted(number for number in numbers if number - 1 not in numbers)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(begins, ends, strict=True))


def _ulimit(text: str) -> tuple[str, int, int]:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    hint = "--ulimit nofile=1024:2048, soft limit before the hard one, -1 for no limit"
    try:
        values = int(soft), int(hard or soft)
        if not all(-1 <= value < 1 << 63 for value in values):
            raise ValueError
    except ValueError:
        raise UsageError("--ulimit", repr(text), "not NAME=SOFT[:HARD]", hint) from None
    if f"RLIMIT_{name.upper()}" not in rlimit.NUMBERS:
        raise UsageError("--ulimit", repr(name), "no such limit", "nofile, nproc, core, fsize, memlock, stack …")
    if values[1] != -1 and (values[0] > values[1] or values[0] == -1):
        raise UsageError("--ulimit", repr(text), "the soft limit is above the hard one", hint)
    return f"RLIMIT_{name.upper()}", *values
