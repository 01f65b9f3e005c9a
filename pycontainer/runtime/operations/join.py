"""The ways into a container that runs. The order in which they are gone is runtime/join.py's."""

from __future__ import annotations

from pycontainer.kernel import namespace, process, record
from pycontainer.kernel.operation import Operation
from pycontainer.runtime.operations import parent


class CloneJoiner(parent.Clone):
    """The process that enters the container: (pid, pidfd) in the parent, (0, -1) in the child."""

    step = "clone a process into the container's cgroup"
    hint = "is the container's limit of processes or of memory reached?"

    def __init__(self, cgroup_path: str) -> None:
        super().__init__(0, cgroup_path)
        self.path = cgroup_path
        self.reason = "it will enter the container; born in its cgroup, so that its limits hold from the first moment"

    def shell(self) -> str:
        return f"echo $$ > {self.cgroup_path}/cgroup.procs" if self.cgroup_path else ""


class EnterNamespaces(Operation):
    """All namespaces in which the container's first process is and this one is not, at once: setns(2) of a pidfd."""

    group = "namespaces"
    step = "enter the container's namespaces"
    hint = "is the kernel older than 5.8?"

    def __init__(self, pid: int, pidfd: int, flags: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.flags = flags
        self.reason = "by a descriptor of its first process, since the number may be another's by now"

    def shell(self) -> str:
        kinds = [name for name, flag in namespace.TYPES.items() if self.flags & flag]
        return f"nsenter --target {self.pid} {' '.join(f'--{_OPTIONS.get(kind, kind)}' for kind in kinds)} …"

    def execute(self) -> None:
        record.name(self.pidfd, f"pid:{self.pid}")
        namespace.setns(self.pidfd, self.flags)


_OPTIONS = {"network": "net"}


class CloneProgram(parent.Clone):
    """The process that executes the program, the caller's child: (pid, pidfd) in this one, (0, -1) in the new one."""

    step = "clone the program's process"
    hint = CloneJoiner.hint

    def __init__(self) -> None:
        super().__init__(process.CLONE_PARENT, "")
        self.reason = "only a new process is in the PID namespace: the first of ours that the container can see"

    def shell(self) -> str:
        return ""
