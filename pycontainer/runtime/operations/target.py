"""What an operation on a path of the root file system is going to do, found out by looking, for its explanation."""

from __future__ import annotations

import os

from pycontainer.kernel import mount
from pycontainer.kernel.root_path import describe_open, open_in_root


def look(root: int, path: str) -> int | None:
    """The mode of a file in the root; None where there is none."""
    try:
        descriptor = open_in_root(root, path, os.O_PATH)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def describe_target(root: int, path: str, *, directory: bool) -> str:
    """What `make_directories` or `make_file` will do, found out by looking: what is missing is made."""
    last = describe_open(path, "O_PATH|O_DIRECTORY" if directory else "O_PATH")
    if look(root, path) is not None:
        return last
    parent, _, name = path.rstrip("/").rpartition("/")
    parent = parent or "/"
    if directory:
        made = f'mkdirat(FD<{parent}>, "{name}", 0755)'
    else:
        made = f'openat(FD<{parent}>, "{name}", O_WRONLY|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0644)'
    return f"{''.join(describe_missing(root, parent))}{made}\n{last}"


def describe_missing(root: int, path: str) -> list[str]:
    """A line for each directory of `path` that has to be made."""
    if path == "/" or look(root, path) is not None:
        return []
    parent, name = os.path.split(path)
    return [*describe_missing(root, parent), f'mkdirat(FD<{parent}>, "{name}", 0755)\n']


def describe_propagation(tree: str, propagation: int) -> str:
    """The line for mount.set_propagation; empty without a propagation."""
    if not propagation:
        return ""
    at = "AT_EMPTY_PATH|AT_RECURSIVE" if propagation & mount.MS_REC else "AT_EMPTY_PATH"
    kind = mount.mount_flags(propagation & ~mount.MS_REC)
    return f'\nmount_setattr({tree}, "", {at}, {{propagation={kind}}})'
