"""Mounts: mount(2), umount2(2), pivot_root(2), open_tree(2), move_mount(2), mount_setattr(2)."""

from __future__ import annotations

import ctypes
import os
import struct

from pycontainer.kernel import record
from pycontainer.kernel.syscalls import PLAIN, call, decode, syscall

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2

AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

AT_FDCWD = record.AT_FDCWD

_MS_NAMES = {name: value for name, value in list(globals().items()) if name.startswith("MS_")}
_ATTR_NAMES = {
    name: value for name, value in list(globals().items()) if name.startswith("MOUNT_ATTR_") and "__" not in name
}
_AT_NAMES = {"AT_EMPTY_PATH": AT_EMPTY_PATH, "AT_RECURSIVE": AT_RECURSIVE}
_OPEN_TREE_NAMES = {"OPEN_TREE_CLONE": 1, "OPEN_TREE_CLOEXEC": OPEN_TREE_CLOEXEC, **_AT_NAMES}
_MOVE_MOUNT_NAMES = {
    "MOVE_MOUNT_F_EMPTY_PATH": MOVE_MOUNT_F_EMPTY_PATH,
    "MOVE_MOUNT_T_EMPTY_PATH": MOVE_MOUNT_T_EMPTY_PATH,
}


def mount_flags(flags: int) -> str:
    """mount(2) flags as strace prints them."""
    return decode(flags, _MS_NAMES)


def attribute_flags(flags: int) -> str:
    """mount_setattr(2) attributes as strace prints them."""
    return decode(flags, _ATTR_NAMES)


_MOUNT = {3: mount_flags}
_UMOUNT = {1: lambda flags: decode(flags, {"MNT_DETACH": MNT_DETACH})}
_OPEN_TREE = {0: record.descriptor, 2: lambda flags: decode(flags, _OPEN_TREE_NAMES)}
_MOVE_MOUNT = {0: record.descriptor, 2: record.descriptor, 4: lambda flags: decode(flags, _MOVE_MOUNT_NAMES)}


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None) -> None:
    """mount(2). Raises OSError with `target`; EINVAL where `data` is longer than the 4,095 bytes the kernel reads."""
    encoded = os.fsencode(data) if data is not None else None
    if encoded is not None and len(encoded) > 4095:
        # because the kernel cuts the options silently at a page
        raise OSError(22, "mount options are longer than 4095 bytes", target)
    call(
        "mount",
        os.fsencode(source) if source is not None else None,
        os.fsencode(target),
        os.fsencode(fstype) if fstype is not None else None,
        ctypes.c_ulong(flags),
        encoded,
        path=target,
        shown=_MOUNT,
    )


def umount2(target: str, flags: int) -> None:
    """umount2(2). Raises OSError."""
    call("umount2", os.fsencode(target), flags, path=target, shown=_UMOUNT)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2). Raises OSError."""
    syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), path=new_root, shown=PLAIN)


def open_tree(directory: int, path: str, flags: int) -> int:
    """open_tree(2): a descriptor of the mount at `path`, with OPEN_TREE_CLONE of a detached copy. Raises OSError."""
    tree = syscall("open_tree", directory, os.fsencode(path), flags, path=path, shown=_OPEN_TREE)
    record.name(tree, f"detached {path or record.descriptor(directory).partition('<')[2][:-1]}")
    return tree


def move_mount(tree: int, directory: int, path: str) -> None:
    """move_mount(2): attach the detached mount `tree` at `path` (`directory` itself where it is empty).

    A symbolic link at the end of `path` is not followed. Raises OSError.
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if path else MOVE_MOUNT_T_EMPTY_PATH)
    syscall("move_mount", tree, b"", directory, os.fsencode(path), flags, path=path, shown=_MOVE_MOUNT)


def mount_setattr(tree: int, flags: int, set_: int = 0, clear: int = 0, propagation: int = 0, userns: int = 0) -> None:
    """mount_setattr(2) on the mount `tree` itself; `flags` may hold AT_RECURSIVE. `userns` goes with MOUNT_ATTR_IDMAP.

    Raises OSError; EINVAL where the file system has no ID-mapped mounts.
    """
    attributes = struct.pack("QQQQ", set_, clear, propagation, userns)
    shown = {
        0: record.descriptor,
        2: lambda flags: decode(flags, _AT_NAMES),
        3: lambda _: _attributes(set_, clear, propagation, userns),
    }
    syscall("mount_setattr", tree, b"", flags | AT_EMPTY_PATH, attributes, len(attributes), shown=shown)


def _attributes(set_: int, clear: int, propagation: int, userns: int) -> str:
    """struct mount_attr, without the members that are 0."""
    parts = [f"attr_set={attribute_flags(set_)}"] if set_ else []
    parts += [f"attr_clr={attribute_flags(clear)}"] if clear else []
    parts += [f"propagation={mount_flags(propagation)}"] if propagation else []
    parts += [f"userns_fd={record.descriptor(userns)}"] if set_ & MOUNT_ATTR_IDMAP else []
    return f"{{{', '.join(parts)}}}"


def set_propagation(tree: int, flags: int) -> None:
    """Make `tree` MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, with MS_REC all below too. Raises OSError."""
    mount_setattr(tree, AT_RECURSIVE if flags & MS_REC else 0, propagation=flags & ~MS_REC)


PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572


def file_system_type(descriptor: int) -> int:
    """The magic number of the file system that a descriptor is on: fstatfs(2). Raises OSError."""
    # struct statfs has at most 120 bytes and begins with f_type, a machine word, on x86-64 and on arm64.
    buffer = ctypes.create_string_buffer(256)
    call("fstatfs", descriptor, buffer)
    return int(struct.unpack_from("q", buffer)[0])
