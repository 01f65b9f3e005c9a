"""Paths inside a root file system that is not ours: openat2(2) with RESOLVE_IN_ROOT.

A container can put a symbolic link anywhere in its root, at any moment. So a path in it is resolved by the kernel, as
if that root were `/`, and from then on used through its descriptor, never by name again (CVE-2021-30465,
CVE-2025-31133, CVE-2025-52881).
"""

from __future__ import annotations

import os
import struct

from pycontainer.kernel.syscalls import syscall

O_PATH = os.O_PATH
RESOLVE_NO_MAGICLINKS = 2
RESOLVE_IN_ROOT = 0x10


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` with the directory `root` as `/`. Raises OSError."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    for _ in range(32):
        try:
            return syscall("openat2", root, os.fsencode(path), how, len(how), path=path)
        except InterruptedError:
            continue
        except OSError as error:
            # EAGAIN: something was renamed during the walk, so that the kernel cannot vouch for ".."
            if error.errno != 11:
                raise
    raise OSError(11, "the path kept changing while it was resolved", path)


def describe_open(path: str, flags: str) -> str:
    """`open_in_root` as strace(1) prints it."""
    resolve = "RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT"
    return f'openat2(ROOT, "{path}", {{flags={flags}|O_CLOEXEC, resolve={resolve}}})'


def make_directories(root: int, path: str, mode: int = 0o755) -> int:
    """An O_PATH descriptor of the directory `path` in `root`; what is missing is made. Raises OSError."""
    try:
        return open_in_root(root, path, O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        parent_path, _, name = path.rstrip("/").rpartition("/")
        parent = make_directories(root, parent_path or "/", mode)
    try:
        if name not in ("", ".", ".."):
            try:
                os.mkdir(name, mode, dir_fd=parent)
            except FileExistsError:
                pass
    finally:
        os.close(parent)
    # A dangling symbolic link cannot be made into a directory: this raises ENOENT or ENOTDIR for it.
    return open_in_root(root, path, O_PATH | os.O_DIRECTORY)


def make_file(root: int, path: str, mode: int = 0o644) -> int:
    """An O_PATH descriptor of `path` in `root`, made as an empty file if it is missing. Raises OSError."""
    try:
        return open_in_root(root, path, O_PATH)
    except FileNotFoundError:
        parent_path, _, name = path.rstrip("/").rpartition("/")
    parent = make_directories(root, parent_path or "/")
    try:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent))
    finally:
        os.close(parent)
    return open_in_root(root, path, O_PATH)


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
