"""The child's file systems: root, mounts, devices, masks. The order in which they happen is init.py's."""

from __future__ import annotations

import errno
import os
import stat

from pycontainer.kernel import mount, terminal
from pycontainer.kernel.operation import Operation, quoted
from pycontainer.kernel.root_path import make_directories, open_in_root
from pycontainer.runtime.mounts import Options
from pycontainer.runtime.operations.target import (
    describe_missing,
    describe_move,
    describe_open,
    describe_propagation,
    describe_target,
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

    def describe(self) -> str:
        return f'mount(NULL, "/", NULL, {mount.mount_flags(self.flags)}, NULL)'

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

    def describe(self) -> str:
        return f'move_mount({self.tree}<root file system>, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH)'

    def shell(self) -> str:
        return f"mount --rbind {self.path} …"

    def execute(self) -> None:
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

    def describe(self) -> str:
        return (
            f'fchdir({self.root}<root file system>)\npivot_root(".", ".")\n'
            f'fchdir({self.old_root}<old root>)\numount2(".", MNT_DETACH)\nchdir("/")'
        )

    def shell(self) -> str:
        return f"cd {self.path} && pivot_root . . && umount -l ."

    def execute(self) -> None:
        os.fchdir(self.root)
        mount.pivot_root(".", ".")
        os.fchdir(self.old_root)
        mount.umount2(".", mount.MNT_DETACH)
        os.chdir("/")
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

    def describe(self) -> str:
        data = quoted(self.options.data) if self.options.data else "NULL"
        flags = mount.mount_flags(self.options.flags)
        return (
            f"{describe_target(self.root, self.path, directory=True)}\nfchdir(FD<{self.path}>)\n"
            f'mount({quoted(self.source)}, ".", "{self.fstype}", {flags}, {data})'
            f"{describe_propagation('FD', self.options.propagation)}"
        )

    def shell(self) -> str:
        flags = mount.mount_flags(self.options.flags)
        names = [name.removeprefix("MS_").replace("RDONLY", "ro").lower() for name in flags.split("|") if name != "0"]
        options = ",".join(names + ([self.options.data] if self.options.data else []))
        return f"mount -t {self.fstype}{f' -o {options}' if options else ''} {self.source} {self.path}"

    def execute(self) -> None:
        directory = open_target(self.root, self.path, directory=True)
        try:
            # Mounted on ".", because a path could lead elsewhere by now and a descriptor cannot.
            os.fchdir(directory)
            mount.mount(self.source, ".", self.fstype, self.options.flags, self.options.data or None)
            if self.options.propagation:
                mounted = open_in_root(self.root, self.path, os.O_PATH)
                mount.set_propagation(mounted, self.options.propagation)
                os.close(mounted)
        finally:
            os.close(directory)
            os.chdir("/")


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

    def describe(self) -> str:
        is_directory = stat.S_ISDIR(os.fstat(self.tree).st_mode)
        tree = f"{self.tree}<{self.what}>"
        return (
            f"{describe_target(self.root, self.path, directory=is_directory)}\n"
            f"{describe_move(tree, self.path)}"
            f"{describe_propagation(tree, self.options.propagation)}"
        )

    def shell(self) -> str:
        source = self.what.removeprefix("volume ")
        return f"mount --{'r' if self.options.recursive else ''}bind {source if '/' in source else '…'} .{self.path}"

    def execute(self) -> None:
        is_directory = stat.S_ISDIR(os.fstat(self.tree).st_mode)
        target = open_target(self.root, self.path, directory=is_directory)
        try:
            mount.move_mount(self.tree, target, "")
            if self.options.propagation:
                mount.set_propagation(self.tree, self.options.propagation)
        finally:
            os.close(target)
            os.close(self.tree)


class BindDevice(Operation):
    """One of the host's device nodes, because mknod(2) is not allowed in a user namespace."""

    group = "mounts"
    step = "bind device"

    def __init__(self, root: int, old_root: int, device: Device) -> None:
        self.root = root
        self.old_root = old_root
        self.device = device
        self.path = device.path
        self.reason = "the host's node, since a user namespace makes no device nodes"

    def describe(self) -> str:
        return (
            f'open_tree({self.old_root}<old root>, "{self.path[1:]}", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)\n'
            f"{describe_target(self.root, self.path, directory=False)}\n"
            f"{describe_move('TREE', self.path)}"
        )

    def shell(self) -> str:
        return f"touch .{self.path}; mount --bind {self.path} .{self.path}"

    def execute(self) -> None:
        tree = open_device(self.old_root, self.device)
        try:
            target = open_target(self.root, self.path, directory=False)
            try:
                mount.move_mount(tree, target, "")
            finally:
                os.close(target)
        finally:
            os.close(tree)


def open_device(old_root: int, device: Device) -> int:
    """A detached mount of the host's device node. Raises OSError; ENODEV where the host has another node there."""
    tree = mount.open_tree(old_root, device.path[1:], mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    status = os.fstat(tree)
    if device.type != "p" and status.st_rdev != os.makedev(device.major, device.minor):
        os.close(tree)
        raise OSError(19, "the host has another device there", device.path)
    return tree


class MakeDevice(Operation):
    """A device node of the container's own."""

    group = "mounts"
    step = "make device"
    reason = "a node that programs expect"

    def __init__(self, root: int, device: Device) -> None:
        self.root = root
        self.device = device
        self.path = device.path

    def _mode(self) -> int:
        kind = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[self.device.type]
        return kind | self.device.mode & 0o7777

    def describe(self) -> str:
        kind = {stat.S_IFCHR: "S_IFCHR", stat.S_IFBLK: "S_IFBLK", stat.S_IFIFO: "S_IFIFO"}[stat.S_IFMT(self._mode())]
        major, minor = (f"{number:#x}" if number else "0" for number in (self.device.major, self.device.minor))
        number = f", makedev({major}, {minor})" if self.device.type != "p" else ""
        parent, name = os.path.split(self.path)
        made = f'mknodat(FD<{parent}>, "{name}", {kind}|0{self.device.mode & 0o7777:o}{number})'
        if look(self.root, self.path) is not None:
            self.reason = "there already"
            return f"{made} = -1"
        return (
            f"{''.join(describe_missing(self.root, parent))}{made}\n"
            f'fchownat(FD<{parent}>, "{name}", {self.device.uid}, {self.device.gid}, AT_SYMLINK_NOFOLLOW)'
        )

    def shell(self) -> str:
        numbers = "" if self.device.type == "p" else f" {self.device.major} {self.device.minor}"
        return f"mknod -m {self.device.mode & 0o7777:o} {self.path} {self.device.type}{numbers}"

    def execute(self) -> None:
        parent = make_directories(self.root, os.path.dirname(self.path))
        name = os.path.basename(self.path)
        try:
            # umask is 0 in the child, so that the mode is the one asked for
            os.mknod(name, self._mode(), os.makedev(self.device.major, self.device.minor), dir_fd=parent)
            os.chown(name, self.device.uid, self.device.gid, dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            pass
        finally:
            os.close(parent)


class LinkDevices(Operation):
    """The symbolic links of /dev."""

    group = "mounts"
    step = "link devices"
    path = "/dev"
    reason = "names that every shell script relies on"

    LINKS = (
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
        ("/proc/kcore", "core"),
    )

    def __init__(self, root: int) -> None:
        self.root = root

    def describe(self) -> str:
        return "\n".join(
            f'symlinkat("{target}", FD</dev>, "{name}"){"" if look(self.root, f"/dev/{name}") is None else " = -1"}'
            for target, name in self.LINKS
        )

    def shell(self) -> str:
        links = [f"ln -s {target} {name}" for target, name in self.LINKS]
        return f"cd /dev; {'; '.join(links[:3])}\n{'; '.join(links[3:])}"

    def execute(self) -> None:
        directory = make_directories(self.root, "/dev")
        try:
            for target, name in self.LINKS:
                try:
                    os.symlink(target, name, dir_fd=directory)
                except FileExistsError:
                    pass
        finally:
            os.close(directory)


class OpenTerminal(Operation):
    """A pseudoterminal of the container's devpts, also seen as /dev/console; returns (master, slave)."""

    group = "mounts"
    step = "open terminal"
    path = "/dev/pts/ptmx"
    reason = "the terminal belongs to the container's own devpts, so that tty(1) and job control work"

    def __init__(self, root: int, uid: int, rows: int, columns: int) -> None:
        self.root = root
        self.uid = uid
        self.rows = rows
        self.columns = columns

    def describe(self) -> str:
        size = ""
        if self.rows and self.columns:
            size = f"ioctl(MASTER, TIOCSWINSZ, {{ws_row={self.rows}, ws_col={self.columns}}})\n"
        return (
            f"{describe_open(self.path, 'O_RDWR|O_NOCTTY')} = MASTER\n"
            "ioctl(MASTER, TIOCSPTLCK, [0])\nioctl(MASTER, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC) = SLAVE\n"
            f"fchown(SLAVE, {self.uid}, -1)\n{size}"
            'open_tree(SLAVE, "", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH)\n'
            f"{describe_target(self.root, '/dev/console', directory=False)}\n"
            f"{describe_move('TREE', '/dev/console')}"
        )

    def shell(self) -> str:
        return "touch /dev/console; mount --bind /dev/pts/0 /dev/console"

    def execute(self) -> tuple[int, int]:
        master = open_existing(self.root, self.path, os.O_RDWR | os.O_NOCTTY)
        slave = terminal.open_slave(master)
        os.fchown(slave, self.uid, -1)
        if self.rows and self.columns:
            terminal.set_window_size(master, self.rows, self.columns)
        flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
        tree = mount.open_tree(slave, "", flags)
        console = open_target(self.root, "/dev/console", directory=False)
        mount.move_mount(tree, console, "")
        os.close(tree)
        os.close(console)
        return master, slave


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

    def describe(self) -> str:
        kind = look(self.root, self.path)
        opened = describe_open(self.path, "O_PATH")
        if kind is None:
            self.reason = "not there on this host: nothing to hide"
            return f"{opened} = -1"
        if stat.S_ISDIR(kind):
            return f'{opened}\nfchdir(FD<{self.path}>)\nmount("tmpfs", ".", "tmpfs", MS_RDONLY, "size=0k,mode=0")'
        return (
            f'{opened}\nopen_tree({self.old_root}<old root>, "dev/null", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)\n'
            'mount_setattr(TREE, "", AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_RDONLY})\n'
            f"{describe_move('TREE', self.path)}"
        )

    def shell(self) -> str:
        kind = look(self.root, self.path)
        if kind is None:
            return ""
        if stat.S_ISDIR(kind):
            return f"mount -t tmpfs -o ro,size=0k,mode=0 tmpfs {self.path}"
        return f"mount --bind /dev/null {self.path}"

    def execute(self) -> None:
        try:
            target = open_existing(self.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode):
                os.fchdir(target)
                mount.mount("tmpfs", ".", "tmpfs", mount.MS_RDONLY, "size=0k,mode=0")
                os.chdir("/")
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

    def describe(self) -> str:
        if look(self.root, self.path) is None:
            self.reason = "not there on this host: nothing to protect"
            return f"{describe_open(self.path, 'O_PATH')} = -1"
        return (
            f'{describe_open(self.path, "O_PATH")}\nopen_tree(FD<{self.path}>, "", '
            "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH|AT_RECURSIVE)\n"
            'mount_setattr(TREE, "", AT_EMPTY_PATH|AT_RECURSIVE, {attr_set=MOUNT_ATTR_RDONLY})\n'
            f"{describe_move('TREE', self.path)}"
        )

    def shell(self) -> str:
        if look(self.root, self.path) is None:
            return ""
        return f"mount --rbind {self.path} {self.path}; mount -o remount,bind,ro {self.path}"

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


class MakeDirectory(Operation):
    """A directory of the root file system, unless it is there."""

    group = "mounts"
    step = "make the working directory"
    reason = "the program starts there; made if the image lacks it"

    def __init__(self, root: int, path: str) -> None:
        self.root = root
        self.path = path

    def describe(self) -> str:
        return describe_target(self.root, self.path, directory=True)

    def shell(self) -> str:
        return f"mkdir -p {self.path}"

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

    def describe(self) -> str:
        return f'mount_setattr({self.root}<root>, "", AT_EMPTY_PATH, {{attr_set=MOUNT_ATTR_RDONLY}})'

    def shell(self) -> str:
        return "mount -o remount,bind,ro /"

    def execute(self) -> None:
        mount.mount_setattr(self.root, 0, set_=mount.MOUNT_ATTR_RDONLY)
