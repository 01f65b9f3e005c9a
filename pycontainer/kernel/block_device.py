"""Block devices as sysfs knows them: Documentation/ABI/stable/sysfs-block."""

from __future__ import annotations

import errno
import os

_DEVICES = "/sys/dev/block"


def whole_disk(path: str) -> tuple[int, int]:
    """Major and minor number of the disk at `path`, or of the one that the partition at `path` is on.

    The io controller takes nothing but whole disks. Raises OSError; ENOTBLK where it is no block device.
    """
    status = os.stat(path)
    if status.st_mode & 0o170000 != 0o060000:
        raise OSError(errno.ENOTBLK, os.strerror(errno.ENOTBLK), path)
    return _whole(os.major(status.st_rdev), os.minor(status.st_rdev))


def _whole(major: int, minor: int) -> tuple[int, int]:
    directory = os.path.realpath(f"{_DEVICES}/{major}:{minor}")
    if not os.path.exists(f"{directory}/partition"):
        return major, minor
    # A partition's directory is in its disk's.
    with open(f"{os.path.dirname(directory)}/dev") as file:
        first, _, second = file.read().strip().partition(":")
    return int(first), int(second)
