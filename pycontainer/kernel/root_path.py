"""Paths inside a root file system that is not ours: openat2(2) with RESOLVE_IN_ROOT.

A container can put a symbolic link anywhere in its root, at any moment. So a path in it is resolved by the kernel, as
if that root were `/`, and from then on used through its descriptor, never by name again (CVE-2021-30465,
CVE-2025-31133).
"""

from __future__ import annotations

import errno
import os
import struct

from pycontainer.kernel import files, record
from pycontainer.kernel.syscalls import decode, syscall

O_PATH = os.O_PATH
RESOLVE_NO_MAGICLINKS = 2
RESOLVE_NO_SYMLINKS = 4
RESOLVE_IN_ROOT = 0x10

_RESOLVE_NAMES = {
    "RESOLVE_NO_MAGICLINKS": RESOLVE_NO_MAGICLINKS,
    "RESOLVE_NO_SYMLINKS": RESOLVE_NO_SYMLINKS,
    "RESOLVE_IN_ROOT": RESOLVE_IN_ROOT,
}


def open_in_root(root: int, path: str, flags: int, *, symlinks: bool = True, recorded: bool = True) -> int:
    """Open `path` with the directory `root` as `/`; without `symlinks` ELOOP where one is on the way. Raises OSError.

    Nothing may be mounted on `root` itself: the kernel would step up to it at a "..".
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (0 if symlinks else RESOLVE_NO_SYMLINKS)
    flags |= os.O_CLOEXEC
    how = struct.pack("QQQ", flags, 0, resolve)
    shown = {
        0: record.descriptor,
        2: lambda _: f"{{flags={files.open_flags(flags)}, resolve={decode(resolve, _RESOLVE_NAMES)}}}",
    }
    for _ in range(32):
        try:
            descriptor = syscall(
                "openat2", root, os.fsencode(path), how, len(how), path=path, shown=shown if recorded else None
            )
            record.name(descriptor, path)
            return descriptor
        except InterruptedError:
            continue
        except OSError as error:
            # EAGAIN: something was renamed during the walk, so that the kernel cannot vouch for ".."
            if error.errno != 11:
                raise
    raise OSError(11, "the path kept changing while it was resolved", path)


def make_directories(root: int, path: str, *, symlinks: bool = True) -> int:
    """An O_PATH descriptor of the directory `path` in `root`; what is missing is made, 0755. Raises OSError."""
    missing: list[str] = []
    # In a loop, because how deep it is was somebody else's choice.
    while True:
        try:
            descriptor = open_in_root(root, path, O_PATH | os.O_DIRECTORY, symlinks=symlinks)
            break
        except FileNotFoundError:
            missing.append(path.rstrip("/"))
            path = missing[-1].rpartition("/")[0] or "/"
    while missing:
        path = missing.pop()
        name = path.rpartition("/")[2]
        try:
            if name not in ("", ".", ".."):
                files.mkdir(name, 0o755, dir_fd=descriptor)
        except FileExistsError:
            pass
        finally:
            os.close(descriptor)
        # A dangling symbolic link cannot be made into a directory: this raises ENOENT or ENOTDIR for it.
        descriptor = open_in_root(root, path, O_PATH | os.O_DIRECTORY, symlinks=symlinks)
    return descriptor


def make_file(root: int, path: str, *, symlinks: bool = True) -> int:
    """An O_PATH descriptor of `path` in `root`, made as an empty file, 0644, if it is missing. Raises OSError.

    Where a symbolic link leads nowhere, its target is made: images have /etc/resolv.conf that way.
    """
    for _ in range(8):
        try:
            return open_in_root(root, path, O_PATH, symlinks=symlinks)
        except FileNotFoundError:
            parent_path, _, name = path.rstrip("/").rpartition("/")
        parent = make_directories(root, parent_path or "/", symlinks=symlinks)
        try:
            os.close(files.open(name, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent))
        except OSError as error:
            if error.errno != errno.ELOOP or not symlinks:
                raise
            # Resolved in the root again, as every path: "/" is the root's wherever the link stands.
            path = os.path.join(parent_path or "/", os.readlink(name, dir_fd=parent))
        finally:
            os.close(parent)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def read_in_root(root: int, path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file in `root`. Raises OSError; EINVAL where it is no regular file."""
    # O_NONBLOCK, because a FIFO of the container's would hold us for ever.
    descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not (os.fstat(descriptor).st_mode & 0o170000) == 0o100000:
            raise OSError(22, "not a regular file", path)
        chunks = []
        while limit > 0 and (chunk := os.read(descriptor, min(limit, 1 << 16))):
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)
