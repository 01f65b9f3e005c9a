"""Paths of the root file system that something is mounted on or written to.

An image, or a volume that another container writes, can have a symbolic link anywhere. So a target is resolved in the
root, and then looked at: never the root itself, never inside /proc, where a mount or a write means something else.
"""

from __future__ import annotations

import errno
import os

from pycontainer.kernel import mount
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


def look(root: int, path: str) -> int | None:
    """The mode of a file in the root; None where there is none."""
    try:
        descriptor = open_in_root(root, path, os.O_PATH, recorded=False)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def is_at(root: int, path: str, status: os.stat_result) -> bool:
    """Whether what is at `path`, wherever that leads, is the file of that status."""
    try:
        descriptor = open_in_root(root, path, os.O_PATH, recorded=False)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(descriptor), status)
    finally:
        os.close(descriptor)
