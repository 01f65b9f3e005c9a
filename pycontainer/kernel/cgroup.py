"""cgroup v2: where the hierarchy is, its directories, and their files: cgroups(7), admin-guide/cgroup-v2.rst.

Every read and write of a cgroup file goes through `read` and `write`, which name path and data when they fail.
"""

from __future__ import annotations

import errno
import os
import time

from pycontainer.errors import HostError
from pycontainer.kernel import files, record

# An extended attribute of directories that are parents only, and made by us.
_MADE = "trusted.pycontainer"
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")


class Hierarchy:
    """Where cgroup2 is mounted, and which controllers are elsewhere.

    mountpoint   directory of the cgroup2 root
    controllers  the controllers that this hierarchy has
    version1     controller -> the mount point of the cgroup v1 hierarchy that holds it
    """

    __slots__ = ("controllers", "mountpoint", "version1")

    def __init__(self, mountpoint: str, controllers: frozenset[str], version1: dict[str, str]) -> None:
        self.mountpoint = mountpoint
        self.controllers = controllers
        self.version1 = version1

    def require(self, controller: str, request: str) -> None:
        """Raise HostError unless `controller` can be used for `request` (a flag or a field of config.json)."""
        if controller in self.controllers:
            return
        if place := self.version1.get(controller):
            cause = f"the {controller} controller is on cgroup v1 at {place}, limits need cgroup v2"
            hint = "boot with systemd.unified_cgroup_hierarchy=1 (and without cgroup_no_v1), or run without this limit"
        else:
            cause = f"this kernel offers no {controller} controller in {self.mountpoint}"
            hint = f"boot without cgroup_disable={controller}, or run without this limit"
        raise HostError("set limit", request, cause, hint)


def find_hierarchy() -> Hierarchy | None:
    """The cgroup2 mount of this mount namespace, None where there is none. Raises OSError."""
    mountpoint = ""
    version1 = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fstype, _, rest = after.partition(" ")
            if not fstype.startswith("cgroup"):
                continue
            place = before.split()[4].replace("\\040", " ")
            if fstype == "cgroup2":
                # The unified mount point is the one a program would look at, should there be several.
                mountpoint = mountpoint if mountpoint == "/sys/fs/cgroup" else place
            else:
                for option in rest.rsplit(" ", 1)[-1].strip().split(","):
                    version1[{"blkio": "io"}.get(option, option)] = place
    if not mountpoint:
        return None
    return Hierarchy(mountpoint, frozenset(read(f"{mountpoint}/cgroup.controllers").split()), version1)


def read(path: str) -> str:
    """The text of a cgroup file. Raises OSError with `path`."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path: str, data: str) -> None:
    """Write `data` to a cgroup file in one write(2). Raises OSError with `path` and, in its text, the data."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    record.name(descriptor, path)
    try:
        files.write(descriptor, data.encode())
    except OSError as error:
        raise OSError(error.errno, f"{os.strerror(error.errno or 0)} (writing {data!r})", path) from None
    finally:
        os.close(descriptor)


def make(hierarchy: Hierarchy, name: str) -> list[str]:
    """Make the directory `name` (relative to the root) with every controller enabled for it that can be.

    Returns the controllers that the new directory has. Raises OSError; FileExistsError where it exists.
    """
    parts = name.strip("/").split("/")
    for _ in range(100):
        directory = hierarchy.mountpoint
        try:
            for position, part in enumerate(parts):
                _enable(directory, hierarchy.controllers)
                directory = f"{directory}/{part}"
                if position == len(parts) - 1:
                    files.mkdir(directory, 0o755)
                    # Once more, because the parent may have been removed and made anew since it was looked at.
                    _enable(os.path.dirname(directory), hierarchy.controllers)
                else:
                    try:
                        files.mkdir(directory, 0o755)
                        _mark(directory)
                    except FileExistsError:
                        pass
            return read(f"{directory}/cgroup.controllers").split()
        except FileNotFoundError:
            # because the last container of the parent may be removing the parent at this moment
            continue
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), directory)


def _mark(directory: str) -> None:
    try:
        os.setxattr(directory, _MADE, b"1")
    except OSError:
        # Not allowed here, or removed again: then it stays.
        pass


def _enable(directory: str, controllers: frozenset[str]) -> None:
    """Enable for the children of `directory` what is not yet enabled. What cannot be is noticed by who needs it."""
    path = f"{directory}/cgroup.subtree_control"
    have = read(path).split()
    offered = read(f"{directory}/cgroup.controllers").split()
    for controller in CONTROLLERS:
        if controller in controllers and controller in offered and controller not in have:
            try:
                write(path, f"+{controller}")
            except OSError as error:
                # EBUSY: processes sit in `directory` itself; a threaded or domain-invalid parent gives ENOTSUP.
                if error.errno not in (errno.EBUSY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT):
                    raise


def is_frozen(directory: str) -> bool:
    """Whether the processes in it, itself or an ancestor, are frozen or about to be: cgroup.freeze. Raises OSError."""
    try:
        return read(f"{directory}/cgroup.freeze") == "1\n" or "frozen 1\n" in read(f"{directory}/cgroup.events")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        # It is gone.
        return False


def kill(directory: str) -> None:
    """SIGKILL every process in the cgroup and below: cgroup.kill (Linux 5.14). Raises OSError unless it is gone."""
    try:
        write(f"{directory}/cgroup.kill", "1")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def remove(directory: str, timeout: float = 5.0) -> None:
    """Remove the cgroup with all below it, waiting up to `timeout` seconds for dying processes. Raises OSError."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            files.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        try:
            # EBUSY also stands for "has children": a container may have made cgroups of its own.
            if not _remove_children(directory):
                time.sleep(0.002)
        except OSError:
            time.sleep(0.002)


def _remove_children(directory: str) -> bool:
    """Remove every cgroup below, the deepest first; whether there was one. Raises OSError.

    One descriptor and no recursion, because a container chose how deep its cgroups go.
    """
    names: list[str] = []
    removed = False
    current = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            with os.scandir(current) as entries:
                child = next((entry.name for entry in entries if entry.is_dir(follow_symlinks=False)), "")
            if not child and not names:
                return removed
            step = child or ".."
            moved = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = moved
            if child:
                names.append(child)
            else:
                os.rmdir(names.pop(), dir_fd=current)
                removed = True
    finally:
        os.close(current)


def remove_parents(directory: str) -> None:
    """Remove the parents of a cgroup that `make` has made for it, and perhaps for others, as far as they are empty."""
    while True:
        directory = os.path.dirname(directory)
        try:
            os.getxattr(directory, _MADE)
            os.rmdir(directory)
        except OSError:
            return


def remove_if_empty(directory: str) -> None:
    """Remove a parent directory when the last container has left it."""
    try:
        os.rmdir(directory)
    except OSError:
        pass
