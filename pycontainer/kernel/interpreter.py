"""The file that this process executes, the interpreter, out of the reach of containers: CVE-2019-5736.

Root in a container without a user namespace is the host's root. If it gets at /proc/PID/exe of one of the engine's
processes, or has the interpreter executed in the place of its own program, it can write to that file as soon as nobody
executes it, and then everything that starts the interpreter is its own. But /proc/PID/exe leads to the mount that a
program was executed from. So that can be one which is read-only, and which is attached nowhere, for anybody to change.
"""

from __future__ import annotations

import os
import sys

from pycontainer.kernel import mount


def is_read_only() -> bool:
    """Whether the mount is read-only that this process was executed from. Raises OSError."""
    return bool(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)


def execute_read_only(args: list[str], env: dict[str, str]) -> None:
    """Execute the interpreter anew, from a mount that is read-only: execve(2). Never returns. Raises OSError."""
    tree = mount.open_tree(mount.AT_FDCWD, sys.executable, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    mount.mount_setattr(tree, 0, mount.MOUNT_ATTR_RDONLY)
    os.execve(f"/proc/self/fd/{tree}", args, env)
