"""Paths of the root file system that something is mounted on or written to; and, for explanations, what that will do.

An image, or a volume that another container writes, can have a symbolic link anywhere. So a target is resolved in the
root, and then looked at: never the root itself, never inside /proc, where a mount or a write means something else.
"""

from __future__ import annotations

import errno
import os

from pycontainer.errors import printable
from pycontainer.kernel import mount
from pycontainer.kernel.operation import quoted
from pycontainer.kernel.root_path import make_directories, make_file, open_in_root

# Where no symbolic link is followed: what is mounted there is relied upon by name afterwards, here and by programs.
_FIXED = ("proc", "sys", "dev")


def _is_fixed(path: str) -> bool:
    return os.path.normpath("/" + path.lstrip("/")).split("/")[1] in _FIXED


def open_target(root: int, path: str, *, directory: bool) -> int:
    """An O_PATH descriptor of a mount point, made if it is missing. Raises OSError."""
    make = make_directories if directory else make_file
    descriptor = make(root, path, symlinks=not _is_fixed(path))
    try:
        if os.path.samestat(os.fstat(descriptor), os.fstat(root)):
            raise OSError(errno.EBUSY, "it leads to the root itself", path)
        if mount.file_system_type(descriptor) == mount.PROC_SUPER_MAGIC:
            raise OSError(errno.EPERM, "nothing may be mounted inside /proc", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_existing(root: int, path: str, flags: int) -> int:
    """Open what is there; below /proc only what really is procfs (CVE-2025-52881). Raises OSError."""
    descriptor = open_in_root(root, path, flags, symlinks=not _is_fixed(path))
    if (
        os.path.normpath("/" + path.lstrip("/")).startswith("/proc/")
        and mount.file_system_type(descriptor) != mount.PROC_SUPER_MAGIC
    ):
        os.close(descriptor)
        raise OSError(errno.EXDEV, "it is not on procfs", path)
    return descriptor


def describe_open(path: str, flags: str) -> str:
    """The openat2(2) of `open_target` or `open_existing` as strace(1) prints it."""
    symlinks = "RESOLVE_NO_SYMLINKS|" if _is_fixed(path) else ""
    resolve = f"RESOLVE_NO_MAGICLINKS|{symlinks}RESOLVE_IN_ROOT"
    return f"openat2(ROOT, {quoted(path)}, {{flags={flags}|O_CLOEXEC, resolve={resolve}}})"


def look(root: int, path: str) -> int | None:
    """The mode of a file in the root; None where there is none."""
    try:
        descriptor = open_in_root(root, path, os.O_PATH)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def is_at(root: int, path: str, status: os.stat_result) -> bool:
    """Whether what is at `path`, wherever that leads, is the file of that status."""
    try:
        descriptor = open_in_root(root, path, os.O_PATH)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(descriptor), status)
    finally:
        os.close(descriptor)


def describe_target(root: int, path: str, *, directory: bool) -> str:
    """What `open_target` will do, found out by looking: what is missing is made."""
    last = describe_open(path, "O_PATH|O_DIRECTORY" if directory else "O_PATH")
    if look(root, path) is not None:
        return last
    parent, _, name = path.rstrip("/").rpartition("/")
    parent = parent or "/"
    if directory:
        made = f"mkdirat(FD<{printable(parent)}>, {quoted(name)}, 0755)"
    else:
        made = f"openat(FD<{printable(parent)}>, {quoted(name)}, O_WRONLY|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0644)"
    return f"{''.join(describe_missing(root, parent))}{made}\n{last}"


def describe_missing(root: int, path: str) -> list[str]:
    """A line for each directory of `path` that has to be made."""
    lines: list[str] = []
    while path != "/" and look(root, path) is None:
        parent, name = os.path.split(path)
        lines.append(f"mkdirat(FD<{printable(parent)}>, {quoted(name)}, 0755)\n")
        path = parent
    return lines[::-1]


def describe_move(tree: str, path: str) -> str:
    """The line for mount.move_mount to a descriptor of `path`."""
    return f'move_mount({tree}, "", FD<{printable(path)}>, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)'


def describe_propagation(tree: str, propagation: int) -> str:
    """The line for mount.set_propagation; empty without a propagation."""
    if not propagation:
        return ""
    at = "AT_EMPTY_PATH|AT_RECURSIVE" if propagation & mount.MS_REC else "AT_EMPTY_PATH"
    kind = mount.mount_flags(propagation & ~mount.MS_REC)
    return f'\nmount_setattr({tree}, "", {at}, {{propagation={kind}}})'
