"""The child's file systems: root, mounts, masks. The order in which they happen is init.py's."""

from __future__ import annotations

import errno
import os
import stat

from pycontainer.kernel import files, mount, record
from pycontainer.kernel.operation import Operation, word
from pycontainer.kernel.root_path import make_directories, open_in_root
from pycontainer.runtime.mounts import Options
from pycontainer.runtime.operations.devices import open_device
from pycontainer.runtime.operations.target import (
    look,
    open_existing,
    open_target,
)
from pycontainer.runtime.spec import Device

_REASONS = {
    "/dev": "an empty /dev: a device is seen only if it is put here below",
    "/dev/shm": "POSIX shared memory, gone with the container",
    "/etc/hosts": "names that this container knows without DNS, its own among them",
    "/etc/hostname": "this container's host name",
    "/etc/resolv.conf": "name servers that can be reached from this container's network",
}


class SetPropagation(Operation):
    """How mount events travel between the container's mounts and the host's."""

    group = "mounts"
    step = "set mount propagation"

    def __init__(self, flags: int, reason: str) -> None:
        self.flags = flags
        self.path = "/"
        self.reason = reason

    def shell(self) -> str:
        recursive = "r" if self.flags & mount.MS_REC else ""
        kind = mount.mount_flags(self.flags & ~mount.MS_REC).removeprefix("MS_").lower()
        return f"mount --make-{recursive}{kind} /"

    def execute(self) -> None:
        mount.mount(None, "/", None, self.flags, None)


class AttachRoot(Operation):
    """The root file system is mounted over `/`, which this process still sees beneath it."""

    group = "mounts"
    step = "attach the root file system"
    reason = "only a mount can become /; everything below is mounted in it through its descriptor"

    def __init__(self, tree: int, path: str) -> None:
        self.tree = tree
        self.path = path

    def shell(self) -> str:
        return f"mount --rbind {word(self.path)} …"

    def execute(self) -> None:
        record.name(self.tree, "root file system")
        # Over /, because that directory exists on every host and is reachable for every id.
        mount.move_mount(self.tree, mount.AT_FDCWD, "/")


class PivotRoot(Operation):
    """The root file system becomes `/`, and the host's, then mounted on top of it, goes."""

    group = "mounts"
    step = "pivot root"
    reason = "the image is / from here on, and every mount of the host leaves this namespace"

    def __init__(self, root: int, old_root: int, path: str) -> None:
        self.root = root
        self.old_root = old_root
        self.path = path

    def shell(self) -> str:
        return f"cd {word(self.path)} && pivot_root . . && umount -l ."

    def execute(self) -> None:
        files.fchdir(self.root)
        mount.pivot_root(".", ".")
        files.fchdir(self.old_root)
        mount.umount2(".", mount.MNT_DETACH)
        files.chdir("/")
        # Looked at rather than believed: a mount on top of the root would have been detached in the old root's place.
        if not os.path.samestat(os.stat("/.."), os.fstat(self.root)):
            raise OSError(errno.EBUSY, "the old root is still there", "/")


class MountFileSystem(Operation):
    """A new instance of a file system (proc, sysfs, tmpfs, devpts, mqueue, cgroup2, …) on a directory of the root."""

    group = "mounts"

    def __init__(self, root: int, destination: str, fstype: str, source: str, options: Options, reason: str) -> None:
        self.root = root
        self.path = destination
        self.fstype = fstype
        self.source = source or fstype
        self.options = options
        self.reason = _REASONS.get(destination, reason)
        self.step = f"mount {fstype}"

    def shell(self) -> str:
        flags = mount.mount_flags(self.options.flags)
        names = [name.removeprefix("MS_").replace("RDONLY", "ro").lower() for name in flags.split("|") if name != "0"]
        data = self._data()
        options = ",".join(names + ([data] if data else []))
        return f"mount -t {self.fstype}{f' -o {options}' if options else ''} {word(self.source)} {word(self.path)}"

    def _data(self) -> str:
        """The file system's own options. A tmpfs has the mode of the directory that it covers, as in runc."""
        data = self.options.data
        covered = look(self.root, self.path) if self.fstype == "tmpfs" else None
        if covered is None or any(option.startswith("mode=") for option in data.split(",")):
            return data
        mode = f"mode={stat.S_IMODE(covered):04o}"
        return f"{mode},{data}" if data else mode

    def execute(self) -> None:
        # Before the directory is made, because one that is new has no mode of its own.
        data = self._data()
        directory = open_target(self.root, self.path, directory=True)
        try:
            # Mounted on ".", because a path could lead elsewhere by now and a descriptor cannot.
            files.fchdir(directory)
            mount.mount(self.source, ".", self.fstype, self.options.flags, data or None)
            if self.options.propagation:
                mounted = open_in_root(self.root, self.path, os.O_PATH)
                mount.set_propagation(mounted, self.options.propagation)
                os.close(mounted)
        finally:
            os.close(directory)
            files.chdir("/")


class AttachTree(Operation):
    """A tree that the parent opened (a volume, a file, a device) becomes visible at a path of the root."""

    group = "mounts"

    def __init__(self, root: int, tree: int, destination: str, options: Options, what: str, reason: str) -> None:
        self.root = root
        self.tree = tree
        self.path = destination
        self.options = options
        self.what = what
        self.step = f"attach {what}"
        self.reason = _REASONS.get(destination, reason)

    def shell(self) -> str:
        source = self.what.removeprefix("volume ")
        return (
            f"mount --{'r' if self.options.recursive else ''}bind {source if '/' in source else '…'} .{word(self.path)}"
        )

    def execute(self) -> None:
        record.name(self.tree, self.what)
        is_directory = stat.S_ISDIR(os.fstat(self.tree).st_mode)
        target = open_target(self.root, self.path, directory=is_directory)
        try:
            mount.move_mount(self.tree, target, "")
            if self.options.propagation:
                mount.set_propagation(self.tree, self.options.propagation)
        finally:
            os.close(target)
            os.close(self.tree)


class MaskPath(Operation):
    """Cover a path: a directory with an empty read-only tmpfs, anything else with /dev/null."""

    group = "mounts"
    step = "mask path"
    reason = "tells or does too much about the host"

    def __init__(self, root: int, old_root: int, null: Device, path: str) -> None:
        self.root = root
        self.old_root = old_root
        self.null = null
        self.path = path

    @property
    def absent(self) -> bool:  # type: ignore[override]
        return look(self.root, self.path) is None

    def shell(self) -> str:
        if stat.S_ISDIR(look(self.root, self.path) or 0):
            return f"mount -t tmpfs -o ro,size=0k,mode=0 tmpfs {word(self.path)}"
        return f"mount --bind /dev/null {word(self.path)}"

    def execute(self) -> None:
        try:
            target = open_existing(self.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode):
                files.fchdir(target)
                mount.mount("tmpfs", ".", "tmpfs", mount.MS_RDONLY, "size=0k,mode=0")
                files.chdir("/")
            else:
                # Out of the host's /dev each time: the container's could be anything, and 6.1 clones no detached tree.
                tree = open_device(self.old_root, self.null)
                # because a chmod through the mask would be one of the host's /dev/null
                mount.mount_setattr(tree, 0, set_=mount.MOUNT_ATTR_RDONLY)
                mount.move_mount(tree, target, "")
                os.close(tree)
        finally:
            os.close(target)


class MakeReadOnly(Operation):
    """A path, and what is mounted below it, read-only."""

    group = "mounts"
    step = "make read-only"

    def __init__(self, root: int, path: str, reason: str) -> None:
        self.root = root
        self.path = path
        self.reason = reason

    @property
    def absent(self) -> bool:  # type: ignore[override]
        return look(self.root, self.path) is None

    def shell(self) -> str:
        return f"mount --rbind {word(self.path)} {word(self.path)}; mount -o remount,bind,ro {word(self.path)}"

    def execute(self) -> None:
        try:
            target = open_existing(self.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH | mount.AT_RECURSIVE
            tree = mount.open_tree(target, "", flags)
            mount.mount_setattr(tree, mount.AT_RECURSIVE, set_=mount.MOUNT_ATTR_RDONLY)
            mount.move_mount(tree, target, "")
            os.close(tree)
        finally:
            os.close(target)


class MakeMountReadOnly(Operation):
    """One mount, without what is mounted below it."""

    group = "mounts"
    step = "make read-only"
    reason = "asked for in config.json"

    def __init__(self, root: int, path: str) -> None:
        self.root = root
        self.path = path

    def shell(self) -> str:
        return f"mount -o remount,bind,ro {word(self.path)}"

    def execute(self) -> None:
        target = open_existing(self.root, self.path, os.O_PATH)
        try:
            mount.mount_setattr(target, 0, set_=mount.MOUNT_ATTR_RDONLY)
        finally:
            os.close(target)


class MakeDirectory(Operation):
    """A directory of the root file system, unless it is there."""

    group = "mounts"
    step = "make the working directory"
    reason = "the program starts there; made if the image lacks it"

    def __init__(self, root: int, path: str) -> None:
        self.root = root
        self.path = path

    def shell(self) -> str:
        return f"mkdir -p {word(self.path)}"

    def execute(self) -> None:
        os.close(make_directories(self.root, self.path))


class MakeRootReadOnly(Operation):
    """The root mount itself read-only; volumes and /dev below it stay as they are."""

    group = "mounts"
    step = "make the root read-only"
    path = "/"
    reason = "nothing outside volumes and tmpfs can be changed"

    def __init__(self, root: int) -> None:
        self.root = root

    def shell(self) -> str:
        return "mount -o remount,bind,ro /"

    def execute(self) -> None:
        mount.mount_setattr(self.root, 0, set_=mount.MOUNT_ATTR_RDONLY)
