"""`process.scheduler`, `.ioPriority` and `.execCPUAffinity` of config.json: config.md, "Linux Process"."""

from __future__ import annotations

from pycontainer.kernel.scheduling import FLAGS, IO_CLASSES, POLICIES, Scheduler
from pycontainer.runtime.fields import Fields, shown

_REAL_TIME = ("SCHED_FIFO", "SCHED_RR")
_LAST_CPU = 8191


def scheduler(process: Fields) -> Scheduler | None:
    """None where nothing is said. Raises UsageError for what the kernel would refuse, or not regard."""
    if process.data.get("scheduler") is None:
        return None
    fields = process.object("scheduler")
    policy = fields.text("policy")
    if policy not in POLICIES:
        raise fields.wrong("policy", f"must be one of {', '.join(POLICIES)}")
    flags = fields.texts("flags")
    for flag in flags:
        if flag not in FLAGS:
            raise fields.wrong("flags", f"unknown flag {shown(flag)}")
    nice = fields.number("nice", low=-20, high=19)
    is_real_time = policy in _REAL_TIME
    priority = fields.number("priority", low=1 if is_real_time else 0, high=99 if is_real_time else 0)
    if is_real_time and not priority:
        raise fields.wrong("priority", f"must be 1 to 99 with {policy}")
    times = [fields.number(name, low=0, high=(1 << 63) - 1) for name in ("runtime", "deadline", "period")]
    runtime, deadline, period = times
    if policy != "SCHED_DEADLINE":
        for name, time in zip(("runtime", "deadline", "period"), times, strict=True):
            if time:
                raise fields.wrong(name, f"is for SCHED_DEADLINE, not for {policy}")
    elif not 0 < runtime <= deadline <= (period or deadline):
        raise fields.wrong("runtime", "with SCHED_DEADLINE, 0 < runtime <= deadline <= period")
    return Scheduler(
        policy, flags=flags, nice=nice, priority=priority, runtime=runtime, deadline=deadline, period=period
    )


def io_priority(process: Fields) -> tuple[str, int] | None:
    """(class, priority); None where nothing is said. Raises UsageError."""
    if process.data.get("ioPriority") is None:
        return None
    fields = process.object("ioPriority")
    io_class = fields.text("class")
    if io_class not in IO_CLASSES:
        raise fields.wrong("class", f"must be one of {', '.join(IO_CLASSES)}")
    return io_class, fields.number("priority", low=0, high=7)


def affinity(process: Fields) -> tuple[list[int], list[int]]:
    """The processors at first and in the end; empty where nothing is said. Raises UsageError."""
    fields = process.object("execCPUAffinity")
    return _cpus(fields, "initial"), _cpus(fields, "final")


def _cpus(fields: Fields, name: str) -> list[int]:
    """A list such as "0-3,7"."""
    text = fields.text(name)
    found: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        first, dash, last = (word.strip() for word in part.partition("-"))
        last = last if dash else first
        if not all(word.isascii() and word.isdigit() and len(word) <= 4 for word in (first, last)):
            raise fields.wrong(name, f"must be a list of processors such as 0-3,7, not {shown(text)}")
        if not int(first) <= int(last) <= _LAST_CPU:
            raise fields.wrong(name, f"must be a list of processors such as 0-3,7, not {shown(text)}")
        found.update(range(int(first), int(last) + 1))
    return sorted(found)
