"""What is to be seen in a container besides its image."""

from __future__ import annotations

from pycontainer.engine import mounts
from pycontainer.engine.config.quantity import optional, parse_size
from pycontainer.errors import UsageError
from pycontainer.runtime import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class Mounts:
    """Volumes, binds and file systems in memory.

    asked          what -v and --mount say; --tmpfs has a list of its own, because Docker shows it elsewhere
    volumes_from   (container, whether to read only)
    read_only      whether the root is
    shm_size       bytes of /dev/shm
    """

    __slots__ = ("asked", "read_only", "shm_size", "tmpfs", "volumes_from")

    def __init__(self, values: Values) -> None:
        self.asked = [mounts.parse_volume(text) for text in values.get("volume") or []]
        self.asked += [mounts.parse_mount(text) for text in values.get("mount") or []]
        self.tmpfs = [mounts.parse_tmpfs(text) for text in values.get("tmpfs") or []]
        self.volumes_from = [mounts.parse_volumes_from(text) for text in values.get("volumes_from") or []]
        self.read_only = bool(values.get("read_only"))
        self.shm_size: int = optional(_shm_size, "--shm-size", values.get("shm_size")) or defaults.SHM_SIZE
        mounts.check(self.asked + self.tmpfs)

    def check_machine(self) -> None:
        """Raise UsageError for what this machine cannot give."""
        for tmpfs in self.tmpfs:
            mounts.check_tmpfs(tmpfs)


def _shm_size(flag: str, text: str) -> int:
    size = parse_size(flag, text)
    if not 0 <= size < 1 << 63:
        raise UsageError(flag, repr(text), "not a size", f"such as {flag} 256m; 0 is the usual 64m")
    return size
