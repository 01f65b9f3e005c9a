"""How a process is scheduled, and where. It is done to it from outside: see launch.py and join.py for when."""

from __future__ import annotations

from pycontainer.kernel import scheduling
from pycontainer.kernel.operation import Journal, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class SetScheduler(Operation):
    """Scheduling policy, nice value, priority."""

    group = "privileges"
    step = "set scheduler"
    reason = "when this process runs, compared with all others of the machine"

    def __init__(self, pid: int, attributes: scheduling.Scheduler) -> None:
        self.pid = pid
        self.attributes = attributes
        self.path = attributes.policy
        hints = {
            "SCHED_ISO": "no kernel implements it",
            "SCHED_DEADLINE": "is there so much time left, and may the process run on every processor?",
        }
        self.hint = hints.get(attributes.policy, "a policy of real time needs CAP_SYS_NICE, and its cgroup a share")

    def shell(self) -> str:
        a = self.attributes
        option = a.policy.removeprefix("SCHED_").lower()
        times = ""
        if a.policy == "SCHED_DEADLINE":
            times = f" --sched-runtime {a.runtime} --sched-deadline {a.deadline} --sched-period {a.period}"
        reset = " --reset-on-fork" if "SCHED_FLAG_RESET_ON_FORK" in a.flags else ""
        lines = [f"chrt --{option}{reset}{times} --pid {a.priority} {self.pid}"]
        if a.nice:
            lines.append(f"renice -n {a.nice} -p {self.pid}")
        return "\n".join(lines)

    def execute(self) -> None:
        scheduling.sched_setattr(self.pid, self.attributes)


class SetIoPriority(Operation):
    """Class and priority of what a process reads and writes."""

    group = "privileges"
    step = "set I/O priority"
    reason = "whose reading and writing goes first, where the disk's scheduler regards it"
    hint = "IOPRIO_CLASS_RT needs CAP_SYS_ADMIN or CAP_SYS_NICE"

    def __init__(self, pid: int, io_class: str, priority: int) -> None:
        self.pid = pid
        self.path = io_class
        self.priority = priority

    def shell(self) -> str:
        return f"ionice -c {scheduling.IO_CLASSES[self.path]} -n {self.priority} -p {self.pid}"

    def execute(self) -> None:
        scheduling.ioprio_set(self.pid, self.path, self.priority)


class SetAffinity(Operation):
    """The processors that a process may run on."""

    group = "privileges"
    step = "set processors"
    hint = "are they there, and does the cgroup's cpuset have one of them?"

    def __init__(self, pid: int, cpus: Sequence[int], reason: str) -> None:
        """No `cpus` are all that the cgroup has."""
        self.pid = pid
        self.cpus = cpus or scheduling.ALL_CPUS
        self.path = scheduling.cpu_list(cpus) if cpus else "all"
        self.reason = reason

    def shell(self) -> str:
        cpus = self.path if self.path != "all" else f"0-{len(self.cpus) - 1}"
        return f"taskset --pid --cpu-list {cpus} {self.pid}"

    def execute(self) -> None:
        scheduling.sched_setaffinity(self.pid, self.cpus)


def schedule(
    pid: int, attributes: scheduling.Scheduler | None, io_priority: tuple[str, int] | None, journal: Journal
) -> None:
    """What is said of it. By the parent, because in a user namespace nobody has the right to. Raises StepFailed."""
    if attributes is not None:
        journal.perform(SetScheduler(pid, attributes))
    if io_priority is not None:
        journal.perform(SetIoPriority(pid, *io_priority))
