"""What a process has from the one that started it, set to what the system's first one has: environ(7).

For a process that outlives its caller and works for others.
"""

from __future__ import annotations

import os
import resource

from pycontainer.kernel import cgroup, rlimit, signals

# Rather than it, the kernel should choose any other process; its containers have scores of their own.
_OOM_SCORE = "-900"


def reset() -> None:
    """Directory, umask, signals, resource limits, priority, processors, OOM score, cgroup. What cannot be, stays."""
    os.chdir("/")
    os.umask(0o022)
    signals.restore_defaults()
    # A write to what nobody reads is an error, and no end.
    signals.ignore([signals.SIGPIPE])
    for step in (_take_limits, _take_scheduling, _protect_from_oom, _leave_cgroup):
        try:
            step()
        except (OSError, ValueError):
            pass


def _take_limits() -> None:
    for number in rlimit.NUMBERS.values():
        try:
            resource.setrlimit(number, resource.prlimit(1, number))
        except (OSError, ValueError):
            # To raise a hard limit takes CAP_SYS_RESOURCE.
            continue


def _take_scheduling() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.sched_setaffinity(0, os.sched_getaffinity(1))


def _protect_from_oom() -> None:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)


def _leave_cgroup() -> None:
    """To the root of the v2 hierarchy, because the caller's cgroup ends with its session, and all that is in it."""
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is not None:
        cgroup.write(f"{hierarchy.mountpoint}/cgroup.procs", "0")
