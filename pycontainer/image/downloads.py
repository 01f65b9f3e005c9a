"""ROOT/downloads, where `pull` puts what arrives: HEX.partial, and HEX when all of it is there (registry/pull.py).

What a pull that was interrupted has left there serves the next one; here it is removed, unless a pull is at work on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from pycontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PARTIAL = ".partial"


def directory_of(root: str) -> str:
    """Where downloads are, below the store's root."""
    return f"{root}/downloads"


def remove_idle(root: str, wanted: Callable[[float], bool]) -> list[tuple[str, int]]:
    """Remove what no pull is at work on, of those `wanted` by their last change (seconds since 1970); names and bytes.

    Raises OSError.
    """
    removed = []
    directory = directory_of(root)
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    for name in names:
        with (
            contextlib.suppress(FileNotFoundError, BlockingIOError, IsADirectoryError),
            contextlib.ExitStack() as stack,
        ):
            path = f"{directory}/{name}"
            status = os.lstat(path)
            if not wanted(status.st_mtime):
                continue
            if not name.endswith(PARTIAL):
                # Who puts a finished one to use has locked its name as a partial one.
                partial = _lock(stack, f"{path}{PARTIAL}", os.O_CREAT)
                stack.callback(_forget, f"{path}{PARTIAL}", os.fstat(partial).st_ino)
            descriptor = _lock(stack, path, 0)
            found = os.fstat(descriptor)
            # A pull that has fetched it has a link of its own until the image is in the store.
            if found.st_nlink == 1 and found.st_ino == os.stat(path).st_ino:
                files.unlink(path)
                removed.append((name, found.st_size))
    return removed


def _lock(stack: contextlib.ExitStack, path: str, flags: int) -> int:
    """The file, locked until `stack` is closed. Raises BlockingIOError where a pull has it, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    stack.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _forget(path: str, inode: int) -> None:
    """Take the name away that was made for its lock. What has arrived under it before stays."""
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(path)
        if status.st_ino == inode and not status.st_size:
            files.unlink(path)
