"""Flags that a file system keeps for a file beside its mode: ioctl_iflags(2), what chattr(1) sets."""

from __future__ import annotations

import errno
import fcntl
import os
import sys

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_TOPDIR_FL = 0x00020000

# The kernel reads and writes an int, though the request's number says long.
_SIZE = 4


def spread_subdirectories(path: str) -> None:
    """Have each new directory in `path` begin in another part of the disk, where the file system knows that.

    Because ext4 looks at every inode of a block group that was freed lately before it takes one for a new file, and
    puts a directory's files into its group. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = int.from_bytes(fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8))[:_SIZE], sys.byteorder)
        if not flags & FS_TOPDIR_FL:
            wanted = (flags | FS_TOPDIR_FL).to_bytes(_SIZE, sys.byteorder)
            fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, wanted + bytes(8 - _SIZE))
    except OSError as error:
        # Others have no such flag, or no flags at all, and find free inodes in another way.
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
