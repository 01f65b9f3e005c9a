"""What the parent does: cgroup, mount trees, the clone, id maps, limits. The child's: filesystem.py and identity.py."""

from __future__ import annotations

import os

from pycontainer.kernel import cgroup, mount, namespace, process, record, rlimit
from pycontainer.kernel.id_map import IdMap
from pycontainer.kernel.operation import Operation, word
from pycontainer.runtime.mounts import Options


class MakeCgroup(Operation):
    """The container's cgroup directory; returns the controllers that it has."""

    group = "cgroup"
    step = "make cgroup"
    reason = "one directory per container: it is counted, limited and killed as a whole"

    def __init__(self, hierarchy: cgroup.Hierarchy, name: str) -> None:
        self.hierarchy = hierarchy
        self.name = name
        self.path = hierarchy.mountpoint + name

    def shell(self) -> str:
        return f"mkdir -p {word(self.path)}"

    def execute(self) -> list[str]:
        return cgroup.make(self.hierarchy, self.name)


class WriteFile(Operation):
    """One value into one file of cgroupfs or procfs."""

    def __init__(self, group: str, step: str, path: str, value: str, reason: str, hint: str = "") -> None:
        self.group = group
        self.step = step
        self.path = path
        self.value = value
        self.reason = reason
        self.hint = hint

    def shell(self) -> str:
        return f"echo '{self.value}' > {word(self.path)}"

    def execute(self) -> None:
        cgroup.write(self.path, self.value)


class EndProcesses(Operation):
    """Kill all that still runs in a cgroup."""

    group = "cgroup"
    step = "end the processes"
    reason = "whatever the program has left running ends with it, and no fork can outrun this"

    def __init__(self, path: str) -> None:
        self.path = path

    def shell(self) -> str:
        return f"echo 1 > {word(f'{self.path}/cgroup.kill')}"

    def execute(self) -> None:
        cgroup.kill(self.path)


class RemoveCgroup(Operation):
    """Remove a cgroup in which nothing runs, with those that the container has made in it, and empty parents."""

    group = "cgroup"
    step = "remove cgroup"
    reason = "its counters go with it, so what they tell of the end is read before"

    def __init__(self, path: str) -> None:
        self.path = path

    def shell(self) -> str:
        return f"rmdir {word(self.path)}"

    def execute(self) -> None:
        cgroup.remove(self.path)
        cgroup.remove_parents(self.path)


class LeaveRoot(Operation):
    """Unmount the root file system here, where a bind of what is above it would take it along: umount2(2)."""

    group = "mounts"
    step = "unmount the root file system"
    reason = "a volume holds the place where it is mounted, and would hold it too; what was opened of it stays"

    def __init__(self, path: str, count: int) -> None:
        self.path = path
        self.count = count

    def shell(self) -> str:
        return "\n".join([f"umount --lazy {word(self.path)}"] * self.count)

    def execute(self) -> None:
        for _ in range(self.count):
            mount.umount2(self.path, mount.MNT_DETACH)


class CloneTree(Operation):
    """A detached copy of a mount or directory, for the child to attach; returns its descriptor.

    The parent does it, because the child's user namespace may not reach the path, and because a descriptor cannot be
    exchanged under us as a path can.
    """

    group = "mounts"

    def __init__(self, source: str, options: Options, what: str, uids: list[IdMap], gids: list[IdMap]) -> None:
        self.path = source
        self.options = options
        self.step = f"open {what}"
        self.reason = f"{what}, opened here because the container's ids may not reach it by path"
        self.uids = uids
        self.gids = gids

    def _flags(self) -> int:
        recursive = mount.AT_RECURSIVE if self.options.recursive else 0
        return mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | recursive

    def _propagation(self) -> int:
        # because the copy of a shared mount is its peer: pivot_root(2) refuses one, and what is mounted in it would
        # appear on the host
        return mount.MS_SLAVE | (mount.MS_REC if self.options.recursive else 0)

    def shell(self) -> str:
        # With the propagation in the same command, because mount(8) maps what is mounted below only then.
        command = "mount --rbind --make-rslave" if self.options.recursive else "mount --bind --make-slave"
        options = _option_names(self.options.set, self.options.clear)
        options += [
            f"{name}=recursive" for name in _option_names(self.options.recursive_set, self.options.recursive_clear)
        ]
        if self.uids:
            options.append(f"X-mount.idmap='{_id_maps(self.uids, self.gids)}'")
        # On a line of its own, because a comment cannot be folded.
        newer = self.uids or self.options.recursive_set or self.options.recursive_clear
        note = "# from util-linux 2.39 on: mount --version\n" if newer else ""
        return f"{note}{command}{' -o ' if options else ''}{','.join(options)} {word(self.path)} …"

    def _attributes(self) -> list[tuple[int, int, int]]:
        found = []
        if self.uids:
            found.append((mount.AT_RECURSIVE if self.options.recursive else 0, mount.MOUNT_ATTR_IDMAP, 0))
        if self.options.set or self.options.clear:
            found.append((0, self.options.set, self.options.clear))
        if self.options.recursive_set or self.options.recursive_clear:
            found.append((mount.AT_RECURSIVE, self.options.recursive_set, self.options.recursive_clear))
        return found

    def execute(self) -> int:
        tree = mount.open_tree(mount.AT_FDCWD, self.path, self._flags())
        try:
            mount.set_propagation(tree, self._propagation())
            for flags, set_, clear in self._attributes():
                userns = namespace.new_user_namespace(self.uids, self.gids) if set_ == mount.MOUNT_ATTR_IDMAP else 0
                try:
                    mount.mount_setattr(tree, flags, set_, clear, userns=userns)
                except OSError as error:
                    if not userns:
                        raise
                    recursive = self.options.recursive
                    # Only now, because it is needed nowhere else.
                    from pycontainer.runtime.operations import unmappable

                    raise unmappable.failure(self.step, self.path, error, recursive=recursive, userns=userns) from None
                finally:
                    if userns:
                        os.close(userns)
        except BaseException:
            os.close(tree)
            raise
        return tree


def _option_names(set_: int, clear: int) -> list[str]:
    """MOUNT_ATTR_* as mount(8) names them, what is cleared by the opposite's name."""
    names = ["ro" if name == "RDONLY" else name.lower() for name in _attribute_names(set_)]
    names += [
        "rw" if name == "RDONLY" else name.removeprefix("NO").lower()
        for name in _attribute_names(clear & ~mount.MOUNT_ATTR__ATIME)
    ]
    if clear & mount.MOUNT_ATTR__ATIME and not set_ & mount.MOUNT_ATTR__ATIME:
        names.append("relatime")
    return names


def _attribute_names(flags: int) -> list[str]:
    names = mount.attribute_flags(flags).split("|") if flags else []
    return [name.removeprefix("MOUNT_ATTR_") for name in names]


def _id_maps(uids: list[IdMap], gids: list[IdMap]) -> str:
    """Id maps as mount(8) takes them: those of users, of groups, or of both at once where they are the same."""
    kinds = {"b": uids} if [*map(str, uids)] == [*map(str, gids)] else {"u": uids, "g": gids}
    return " ".join(f"{kind}:{e.inside}:{e.outside}:{e.size}" for kind, maps in kinds.items() for e in maps)


def namespace_file(kind: int) -> str:
    """The name of a namespace type under /proc/PID/ns: namespaces(7)."""
    name = next(name for name, flag in namespace.TYPES.items() if flag == kind)
    return namespace.FILES.get(name, name)


class JoinNamespace(Operation):
    """Enter a namespace that exists, so that the child is born in it; the parent goes back afterwards."""

    group = "namespaces"
    step = "join namespace"

    def __init__(self, kind: int, path: str) -> None:
        self.kind = kind
        self.path = path
        self.reason = "shared with whoever is in this namespace already"

    def shell(self) -> str:
        name = "mount" if self.kind == namespace.CLONE_NEWNS else namespace_file(self.kind)
        return f"nsenter --{name}={word(self.path)} …"

    def execute(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        record.name(descriptor, self.path)
        try:
            namespace.setns(descriptor, self.kind)
        finally:
            os.close(descriptor)


class Clone(Operation):
    """The birth of the container: (pid, pidfd) in the parent, (0, -1) in the child."""

    group = "namespaces"
    step = "clone the container's first process"
    hint = "is the kernel older than 5.7, or are user namespaces switched off (sysctl user.max_user_namespaces)?"

    def __init__(self, flags: int, cgroup_path: str) -> None:
        self.flags = flags
        self.cgroup_path = cgroup_path
        self.reason = "the container's first process, in namespaces of its own"
        if cgroup_path:
            self.reason += "; born in its cgroup, so nothing of it goes uncounted"

    def shell(self) -> str:
        names = {
            namespace.CLONE_NEWUSER: "--user",
            namespace.CLONE_NEWPID: "--pid --fork",
            namespace.CLONE_NEWNS: "--mount",
            namespace.CLONE_NEWNET: "--net",
            namespace.CLONE_NEWUTS: "--uts",
            namespace.CLONE_NEWIPC: "--ipc",
        }
        return "unshare " + " ".join(option for flag, option in names.items() if self.flags & flag) + " …"

    def execute(self) -> tuple[int, int]:
        if not self.cgroup_path:
            return process.clone3(self.flags)
        descriptor = os.open(self.cgroup_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        record.name(descriptor, self.cgroup_path)
        try:
            return process.clone3(self.flags, descriptor)
        finally:
            os.close(descriptor)


class WriteIdMaps(Operation):
    """uid_map and gid_map of the child's user namespace."""

    group = "namespaces"
    step = "write id maps"
    reason = "root in the container is an ordinary, otherwise unused id on the host"

    def __init__(self, pid: int, uids: list[IdMap], gids: list[IdMap]) -> None:
        self.pid = pid
        self.uids = uids
        self.gids = gids
        self.path = f"/proc/{pid}/uid_map"

    def shell(self) -> str:
        # By one write, because the kernel takes a map only once; and not by echo, which bash would call for each line.
        maps = (("uid_map", self.uids), ("gid_map", self.gids))
        lines = (
            "printf '" + "".join(f"{e}\\n" for e in extents) + f"' > /proc/{self.pid}/{name}" for name, extents in maps
        )
        return "\n".join(lines)

    def execute(self) -> None:
        namespace.write_id_maps(self.pid, self.uids, self.gids)


class RaiseHardLimit(Operation):
    """A hard limit of the child's raised from outside, which needs the host's CAP_SYS_RESOURCE."""

    group = "privileges"
    step = "raise hard limit"
    reason = "the child sets its limits itself, but may not raise them"
    hint = "raising a hard limit needs CAP_SYS_RESOURCE"

    def __init__(self, pid: int, number: int, hard: int) -> None:
        self.pid = pid
        self.number = number
        self.hard = hard
        self.path = rlimit.name(number)

    def shell(self) -> str:
        return f"prlimit --pid {self.pid} --{self.path.removeprefix('RLIMIT_').lower()}=:{self.hard}"

    def execute(self) -> None:
        rlimit.raise_hard(self.pid, self.number, self.hard)
