"""What a container may use of the machine."""

from __future__ import annotations

from pycontainer.engine.config.block_io import BlockIO
from pycontainer.engine.config.memory import Memory
from pycontainer.engine.config.processor import Processor
from pycontainer.engine.config.quantity import integer, optional
from pycontainer.errors import UsageError
from pycontainer.kernel import rlimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class Resources:
    """Limits, None where none was asked for.

    cgroup_parent   the cgroup to make the container's in, from the hierarchy's root; "" for the engine's own
    ulimits         (RLIMIT_* name, soft, hard), -1 for no limit
    """

    __slots__ = ("block_io", "cgroup_parent", "memory", "pids_limit", "processor", "ulimits")

    def __init__(self, values: Values) -> None:
        self.memory = Memory(values)
        self.processor = Processor(values)
        self.block_io = BlockIO(values)
        self.pids_limit: int | None = optional(integer, "--pids-limit", values.get("pids_limit"))
        self.cgroup_parent = _cgroup_parent(values.get("cgroup_parent") or "")
        # By name, because config.json may hold each only once; the last one counts.
        ulimits = {limit[0]: limit for limit in map(_ulimit, values.get("ulimit") or [])}
        self.ulimits = list(ulimits.values())

    def check_machine(self) -> None:
        """Raise UsageError for what this machine cannot give."""
        self.processor.check_machine()
        self.block_io.check_machine()
        self._check_descriptors()

    def _check_descriptors(self) -> None:
        for name, soft, _ in self.ulimits:
            if name == "RLIMIT_NOFILE" and 0 <= soft < 3:
                cause = "standard input, output and error are three files already"
                hint = "such as nofile=1024; a program with shared libraries needs 4 at least"
                raise UsageError("--ulimit", f"nofile={soft}", cause, hint)


def _cgroup_parent(text: str) -> str:
    parts = text.strip("/").split("/")
    good = text.isprintable() and ":" not in text and all(part not in ("", ".", "..") for part in parts)
    # PATH_MAX, with room for the mount point and the container's id.
    if text and not (good and len(text) < 3000 and all(len(part) < 255 for part in parts)):
        raise UsageError("--cgroup-parent", repr(text), "not a cgroup's path", "such as --cgroup-parent /batch/nightly")
    return "/".join(parts)


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
