"""Who runs when, and on which processors: sched_setattr(2), ioprio_set(2), sched_setaffinity(2)."""

from __future__ import annotations

import os
import struct

from pycontainer.kernel import record
from pycontainer.kernel.syscalls import decode, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# include/uapi/linux/sched.h; SCHED_ISO has a number, and in no kernel of kernel.org's an implementation
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
# include/uapi/linux/ioprio.h
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13

# More than any kernel can have (CONFIG_NR_CPUS): it takes those that there are, and that the cpuset allows.
ALL_CPUS = range(8192)


class Scheduler:
    """struct sched_attr of sched_setattr(2), by the names that the OCI runtime specification has for its members.

    `policy` and `flags` are the kernel's names, the times are in nanoseconds.
    """

    __slots__ = ("deadline", "flags", "nice", "period", "policy", "priority", "runtime")

    def __init__(
        self,
        policy: str,
        *,
        flags: list[str],
        nice: int = 0,
        priority: int = 0,
        runtime: int = 0,
        deadline: int = 0,
        period: int = 0,
    ) -> None:
        self.policy = policy
        self.flags = flags
        self.nice = nice
        self.priority = priority
        self.runtime = runtime
        self.deadline = deadline
        self.period = period

    def mask(self) -> int:
        """The flags as sched_flags."""
        bits = 0
        for name in self.flags:
            bits |= FLAGS[name]
        return bits

    def __str__(self) -> str:
        """As strace(1) prints it."""
        parts = [f"sched_policy={self.policy}", f"sched_flags={decode(self.mask(), FLAGS)}", f"sched_nice={self.nice}"]
        parts.append(f"sched_priority={self.priority}")
        if self.policy == "SCHED_DEADLINE":
            parts.append(f"sched_runtime={self.runtime}, sched_deadline={self.deadline}, sched_period={self.period}")
        return f"{{{', '.join(parts)}}}"


def sched_setattr(pid: int, attributes: Scheduler) -> None:
    """sched_setattr(2); 0 is this process. Raises OSError."""
    # With the two members for utilization clamping, which are 0 and for an older kernel not there.
    size = 56
    data = struct.pack(
        "=IIQiIQQQII",
        size,
        POLICIES[attributes.policy],
        attributes.mask(),
        attributes.nice,
        attributes.priority,
        attributes.runtime,
        attributes.deadline,
        attributes.period,
        0,
        0,
    )
    syscall("sched_setattr", pid, data, 0, shown={1: lambda _: str(attributes)})


def ioprio_set(pid: int, io_class: str, priority: int) -> None:
    """ioprio_set(2) of one process; 0 is this one. Raises OSError."""
    shown = {0: lambda _: "IOPRIO_WHO_PROCESS", 2: lambda _: f"IOPRIO_PRIO_VALUE({io_class}, {priority})"}
    value = IO_CLASSES[io_class] << _IOPRIO_CLASS_SHIFT | priority
    syscall("ioprio_set", IOPRIO_WHO_PROCESS, pid, value, shown=shown)


def ioprio_get(pid: int) -> tuple[int, int]:
    """ioprio_get(2) of one process: (class, priority). Raises OSError."""
    value = syscall("ioprio_get", IOPRIO_WHO_PROCESS, pid)
    return value >> _IOPRIO_CLASS_SHIFT, value & (1 << _IOPRIO_CLASS_SHIFT) - 1


def sched_setaffinity(pid: int, cpus: Sequence[int]) -> None:
    """sched_setaffinity(2); 0 is this process. Raises OSError, EINVAL where it may run on none of `cpus`."""
    record.make(
        "sched_setaffinity", lambda: [str(pid), str(len(cpus)), f"[{_list(cpus)}]"], os.sched_setaffinity, pid, cpus
    )


def _list(cpus: Sequence[int]) -> str:
    return "all" if cpus == ALL_CPUS else cpu_list(cpus)


def cpu_list(cpus: Sequence[int]) -> str:
    """Processors in order as cpuset(7) lists them: "0-3,7"."""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
