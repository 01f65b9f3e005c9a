"""Removing a directory tree that a container has written: nothing in it is trusted."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DEEPEST = 50
_MOVED = ".pycontainer-"


def remove_tree(path: str) -> None:
    """Remove `path` and all below it; no failure where it is missing. Raises OSError.

    Symbolic links are never followed. A tree deeper than 50 levels is flattened first, so that neither recursion nor
    the number of open descriptors depends on what a container made.
    """
    # Here, because commands that only look have this module too.
    from pycontainer.kernel import files, record

    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        told = record.count if record.lines is not None else None
        while _clear(top, top, 0, told):
            pass
    finally:
        os.close(top)
    files.rmdir(path)


def _clear(directory: int, top: int, depth: int, told: Callable[[str], None] | None) -> bool:
    """Empty a directory; whether something was moved to `top` and waits there. `told` gets the calls, without names."""
    moved = False
    # Entry by entry, because a container chose how many there are; more than once, because a file system may leave out
    # some of what is there while others are removed.
    found = True
    while found:
        found = False
        with os.scandir(directory) as entries:
            for entry in entries:
                if depth == 0 and entry.name.startswith(_MOVED) and moved:
                    # For the next round, or those that are moved meanwhile would make this one endless.
                    continue
                found = True
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=directory)
                    if told:
                        told("unlinkat(…, …, 0)")
                elif depth < _DEEPEST:
                    moved = _clear_child(directory, entry.name, top, depth, told) or moved
                else:
                    name = f"{_MOVED}{os.urandom(8).hex()}"
                    os.rename(entry.name, name, src_dir_fd=directory, dst_dir_fd=top)
                    if told:
                        told("renameat(…, …, …, …)")
                    moved = True
    return moved


def _clear_child(directory: int, name: str, top: int, depth: int, told: Callable[[str], None] | None) -> bool:
    child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        moved = _clear(child, top, depth + 1, told)
    finally:
        os.close(child)
    os.rmdir(name, dir_fd=directory)
    if told:
        told("unlinkat(…, …, AT_REMOVEDIR)")
    return moved
