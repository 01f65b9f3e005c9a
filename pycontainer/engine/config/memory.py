"""What a container may use of the memory."""

from __future__ import annotations

from pycontainer.engine.config.quantity import integer, optional, parse_size
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]

_LEAST = 6 << 20  # bytes, as docker has it


class Memory:
    """Limits in bytes, None where none was asked for.

    limit         more is never used: a process is killed
    swap          limit of memory and swap together, -1 for none
    high          above it processes are slowed down and their memory is taken back, but none is killed
    reservation   as long as it uses no more, the memory of others is taken first
    oom_group     where one process is killed for lack of memory, all are
    """

    __slots__ = ("high", "limit", "oom_group", "reservation", "swap")

    def __init__(self, values: Values) -> None:
        # 0 is no limit, as docker has it.
        self.limit: int | None = optional(_size, "--memory", values.get("memory")) or None
        self.swap: int | None = optional(parse_size, "--memory-swap", values.get("memory_swap")) or None
        self.high: int | None = optional(_size, "--memory-high", values.get("memory_high")) or None
        self.reservation: int | None = optional(_size, "--memory-reservation", values.get("memory_reservation")) or None
        self.oom_group = bool(values.get("oom_group"))
        self._check_swap()
        for flag, value in (("--memory-reservation", self.reservation), ("--memory-high", self.high)):
            if self.limit is not None and value is not None and value > self.limit:
                hint = f"it would do nothing; such as -m 128m {flag} 96m"
                raise UsageError(flag, str(value), "is more than --memory", hint)
        _refuse_what_is_gone(values)

    def _check_swap(self) -> None:
        if self.swap is None or self.swap == -1:
            return
        if self.limit is None:
            raise UsageError("--memory-swap", str(self.swap), "needs --memory as well", "-m 64m --memory-swap 128m")
        if self.swap < self.limit:
            hint = "it counts memory and swap together; the same value as --memory means no swap"
            raise UsageError("--memory-swap", str(self.swap), "is less than --memory", hint)


def _size(flag: str, text: str) -> int:
    value = parse_size(flag, text)
    if value < 0:
        raise UsageError(flag, "-1", "not a size", "leave it out, or write 0, for no limit")
    if 0 < value < _LEAST:
        raise UsageError(flag, str(value), "too little memory", "6m is the least in which a program can start")
    return value


def _refuse_what_is_gone(values: Values) -> None:
    """Raise UsageError for what cgroup v1 had and v2 has not; docker drops it with a warning."""
    swappiness = optional(integer, "--memory-swappiness", values.get("memory_swappiness"))
    if swappiness not in (None, -1):
        hint = "the same --memory-swap as --memory keeps it out of swap; sysctl vm.swappiness is the whole machine's"
        raise UsageError("--memory-swappiness", str(swappiness), "cgroup v2 has no such control", hint)
    if values.get("oom_kill_disable"):
        cause = "cgroup v2 cannot have processes wait for memory"
        hint = "--memory-high slows them down and kills none; --oom-score-adj has the kernel take others first"
        raise UsageError("--oom-kill-disable", "", cause, hint)
