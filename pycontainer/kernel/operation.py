"""Operations: the steps that touch the kernel, each an object that can explain itself.

An operation holds its real arguments. `execute()` makes the system calls with them and `describe()` prints the same
ones, so an explanation cannot drift from what is done. `Journal.perform` is the only caller of `execute()`: it prints
when `--explain` asks for it, and turns an OSError into a StepFailed that names step and path.
"""

from __future__ import annotations

import os

from pycontainer.errors import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GROUPS = ("image", "cgroup", "namespaces", "mounts", "network", "privileges", "exec")


class Operation:
    """One step. Subclasses set `group` (one of GROUPS) and `step`, and give `reason` and `path` a value.

    step    what is being done, as an error message begins: "mount proc"
    path    the file, directory or object it is done to; may be empty
    reason  one line, why a container needs it, begins lower case, no full stop
    hint    what a user can do when it fails; may be empty
    """

    group = ""
    step = ""
    path = ""
    reason = ""
    hint = ""

    def describe(self) -> str:
        """The system calls with their arguments, one a line, written as strace(1) writes them."""
        raise NotImplementedError

    def shell(self) -> str:
        """A shell command that would do the same; empty where there is none."""
        return ""

    def execute(self) -> object:
        """Make the system calls. Raises OSError."""
        raise NotImplementedError


class Journal:
    """Performs operations, and explains them on the descriptor `out` when there is one."""

    def __init__(self, out: int | None = None) -> None:
        self.out = out
        self.group = ""

    def perform(self, operation: Operation) -> Any:
        """Explain and execute `operation`; its result. Raises StepFailed."""
        if self.out is not None:
            self._explain(operation, self.out)
        try:
            return operation.execute()
        except OSError as error:
            path = operation.path or str(error.filename or "")
            cause = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
            raise StepFailed(operation.step, path, error.errno or 0, operation.hint, cause.lower()) from error

    def _explain(self, operation: Operation, out: int) -> None:
        lines = []
        if operation.group != self.group:
            self.group = operation.group
            lines.append(operation.group)
        lines.extend(f"  {call}" for call in operation.describe().splitlines())
        lines.append(f"      # {operation.reason}")
        if command := operation.shell():
            lines.append(f"      $ {command}")
        # One write, because the container's child writes to the same descriptor.
        os.write(out, ("\n".join(lines) + "\n").encode(errors="surrogateescape"))
