"""The processes of a container: those in its cgroup and in the cgroups that it has made below it."""

from __future__ import annotations

import os

from pycontainer.errors import Conflict
from pycontainer.kernel import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings


def list_processes(settings: Settings, container: Container) -> set[int]:
    """Their ids on the host. Raises Conflict where it does not run, OSError."""
    hierarchy = cgroup.find_hierarchy()
    found = set()
    if container.is_active and hierarchy is not None:
        found = _members(hierarchy.mountpoint + container.cgroup(settings))
    if not found:
        raise Conflict("list processes", container.name, "it is not running")
    return found


def _members(directory: str) -> set[int]:
    """The processes in a cgroup and below; none where it is gone. Raises OSError.

    One descriptor and no recursion, because a container chose how deep its cgroups go. They cannot be moved, so that
    `..` is where it came from.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        current = os.open(directory, flags)
    except FileNotFoundError:
        return set()
    found = _read(current)
    ahead = [_children(current)]
    try:
        while ahead:
            step = ahead[-1].pop() if ahead[-1] else ".."
            if step == ".." and len(ahead) == 1:
                break
            try:
                moved = os.open(step, flags, dir_fd=current)
            except FileNotFoundError:
                if step == "..":
                    break
                continue
            os.close(current)
            current = moved
            if step == "..":
                ahead.pop()
            else:
                found |= _read(current)
                ahead.append(_children(current))
    finally:
        os.close(current)
    return found


def _children(directory: int) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _read(directory: int) -> set[int]:
    try:
        descriptor = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return set()
    try:
        with open(descriptor, encoding="ascii") as file:
            return {int(line) for line in file}
    except OSError:
        # A threaded cgroup has none of its own: its processes are listed by the one above it. A removed one has none.
        return set()
