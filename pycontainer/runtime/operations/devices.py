"""The child's /dev: nodes, links, the terminal. The order in which they happen is init.py's."""

from __future__ import annotations

import os
import stat

from pycontainer.kernel import files, mount, terminal
from pycontainer.kernel.operation import Operation, word
from pycontainer.kernel.root_path import make_directories
from pycontainer.runtime.operations.target import (
    open_existing,
    open_target,
)
from pycontainer.runtime.spec import Device


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

    def shell(self) -> str:
        return f"touch .{word(self.path)}; mount --bind {word(self.path)} .{word(self.path)}"

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

    def shell(self) -> str:
        numbers = "" if self.device.type == "p" else f" {self.device.major} {self.device.minor}"
        return f"mknod -m {self.device.mode & 0o7777:o} {word(self.path)} {self.device.type}{numbers}"

    def execute(self) -> None:
        parent = make_directories(self.root, os.path.dirname(self.path))
        name = os.path.basename(self.path)
        try:
            # umask is 0 in the child, so that the mode is the one asked for
            files.mknod(name, self._mode(), self.device.major, self.device.minor, dir_fd=parent)
            files.chown(name, self.device.uid, self.device.gid, dir_fd=parent)
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

    def shell(self) -> str:
        links = [f"ln -s {target} {name}" for target, name in self.LINKS]
        return f"cd /dev; {'; '.join(links[:3])}\n{'; '.join(links[3:])}"

    def execute(self) -> None:
        directory = make_directories(self.root, "/dev")
        try:
            for target, name in self.LINKS:
                try:
                    files.symlink(target, name, dir_fd=directory)
                except FileExistsError:
                    pass
        finally:
            os.close(directory)


class ReopenNull(Operation):
    """The container's own /dev/null for one of the program's 0, 1, 2; returns its descriptor."""

    group = "mounts"
    step = "open"
    path = "/dev/null"
    reason = "the host's own node would be the program's to change: it could fchmod(2) it for everybody"

    def __init__(self, root: int, flags: int) -> None:
        self.root = root
        self.flags = flags

    def execute(self) -> int:
        return open_existing(self.root, self.path, self.flags)


def is_null(descriptor: int) -> bool:
    """Whether it is a /dev/null, whoever's: null(4)."""
    status = os.fstat(descriptor)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


class OpenTerminal(Operation):
    """A pseudoterminal of the container's devpts; returns (master, slave)."""

    group = "mounts"
    step = "open terminal"
    path = "/dev/pts/ptmx"
    reason = "the terminal belongs to the container's own devpts, so that tty(1) and job control work"

    def __init__(self, root: int, uid: int, rows: int, columns: int) -> None:
        self.root = root
        self.uid = uid
        self.rows = rows
        self.columns = columns

    def execute(self) -> tuple[int, int]:
        master = open_existing(self.root, self.path, os.O_RDWR | os.O_NOCTTY)
        slave = terminal.open_slave(master)
        files.fchown(slave, self.uid, -1)
        if self.rows and self.columns:
            terminal.set_window_size(master, self.rows, self.columns)
        return master, slave


class OpenConsole(OpenTerminal):
    """The first process's terminal, which is also seen as /dev/console; returns (master, slave)."""

    def shell(self) -> str:
        return "touch /dev/console; mount --bind /dev/pts/0 /dev/console"

    def execute(self) -> tuple[int, int]:
        master, slave = super().execute()
        flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
        tree = mount.open_tree(slave, "", flags)
        console = open_target(self.root, "/dev/console", directory=False)
        mount.move_mount(tree, console, "")
        os.close(tree)
        os.close(console)
        return master, slave
