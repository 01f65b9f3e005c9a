"""Removing a directory tree that a container has written: nothing in it is trusted."""

from __future__ import annotations

import os

_DEEPEST = 50


def remove_tree(path: str) -> None:
    """Remove `path` and all below it; no failure where it is missing. Raises OSError.

    Symbolic links are never followed. A tree deeper than 50 levels is flattened first, so that neither recursion nor
    the number of open descriptors depends on what a container made.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        while _clear(top, top, 0):
            pass
    finally:
        os.close(top)
    os.rmdir(path)


def _clear(directory: int, top: int, depth: int) -> bool:
    """Empty a directory; whether something was moved to `top` and waits there."""
    moved = False
    with os.scandir(directory) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
        elif depth < _DEEPEST:
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                moved = _clear(child, top, depth + 1) or moved
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=directory)
        else:
            os.rename(name, f".pycontainer-{os.urandom(8).hex()}", src_dir_fd=directory, dst_dir_fd=top)
            moved = True
    return moved
