"""Namespaces and id maps: unshare(2), setns(2), user_namespaces(7)."""

from __future__ import annotations

import os

from pycontainer.kernel import files, record
from pycontainer.kernel.id_map import IdMap
from pycontainer.kernel.syscalls import call, decode

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

CLONE_NAMES = {name: value for name, value in list(globals().items()) if name.startswith("CLONE_NEW")}

# The OCI runtime specification's names, and the files under /proc/PID/ns: namespaces(7).
TYPES = {
    "time": CLONE_NEWTIME,
    "mount": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
}
FILES = {"mount": "mnt", "network": "net"}


def _flags(flags: int) -> str:
    return decode(flags, CLONE_NAMES)


_UNSHARE = {0: _flags}
_SETNS = {0: record.descriptor, 1: _flags}


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    call("unshare", flags, shown=_UNSHARE)


def setns(descriptor: int, flags: int) -> None:
    """setns(2): join the namespace that `descriptor` is, or with a pidfd all that `flags` name. Raises OSError."""
    call("setns", descriptor, flags, shown=_SETNS)


def write_id_maps(pid: int, uids: list[IdMap], gids: list[IdMap]) -> None:
    """Write /proc/PID/uid_map and gid_map. Raises OSError."""
    for name, extents in (("uid_map", uids), ("gid_map", gids)):
        path = f"/proc/{pid}/{name}"
        # One write(2) for the whole map, because the kernel takes no second one.
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        record.name(descriptor, path)
        try:
            files.write(descriptor, "".join(f"{extent}\n" for extent in extents).encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(descriptor)


class UserNamespace:
    """A new user namespace that has no maps yet, and the process that keeps it until it has."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._ready, ready_child = os.pipe2(os.O_CLOEXEC)
        hold, self._hold = os.pipe2(os.O_CLOEXEC)
        self.owner = os.getpid()
        self._pid = os.fork()
        record.add(f"fork() = {self._pid}")
        if self._pid == 0:
            record.forget()
            try:
                os.close(self._hold)
                unshare(CLONE_NEWUSER)
                os.write(ready_child, b"\0")
                # Until it is let go of, or its owner has ended.
                os.read(hold, 1)
            except OSError as error:
                os.write(ready_child, bytes([min(error.errno or 1, 255)]))
            finally:
                os._exit(0)
        os.close(ready_child)
        os.close(hold)

    def map(self, uids: list[IdMap], gids: list[IdMap]) -> int:
        """A descriptor of it with these maps. Raises OSError; afterwards the process has ended."""
        try:
            answer = os.read(self._ready, 1)
            if answer != b"\0":
                errno = answer[0] if answer else 3
                raise OSError(errno, os.strerror(errno), "unshare(CLONE_NEWUSER)")
            record.add(f"[pid {self._pid}] unshare(CLONE_NEWUSER)")
            write_id_maps(self._pid, uids, gids)
            return files.open(f"/proc/{self._pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            self.close()

    def close(self) -> None:
        """Wait for the end of the process."""
        os.close(self._ready)
        os.close(self._hold)
        os.waitpid(self._pid, 0)


_prepared: UserNamespace | None = None


def prepare_user_namespace() -> None:
    """Have one for the next `new_user_namespace` of this process, which saves it a millisecond. Raises OSError."""
    global _prepared
    _prepared = UserNamespace()


def take_prepared() -> UserNamespace | None:
    """What `prepare_user_namespace` has made in this process, if nobody has taken it."""
    global _prepared
    found, _prepared = _prepared, None
    # A child has the variable too, and not the process.
    return found if found is not None and found.owner == os.getpid() else None


def new_user_namespace(uids: list[IdMap], gids: list[IdMap]) -> int:
    """A descriptor of a new user namespace with these maps, which ID-mapped mounts take. Raises OSError.

    The namespace lives as long as the descriptor or a mount that uses it.
    """
    prepared = take_prepared()
    if prepared is not None:
        try:
            return prepared.map(uids, gids)
        except OSError:
            # Its process may have been killed meanwhile; if it was something else, that comes again.
            pass
    return UserNamespace().map(uids, gids)


_ENTERED = ("mount", "network", "uts", "ipc")


def join(pid: int) -> bool:
    """Enter the mount, network, UTS and IPC namespaces of a process; False where they are ours. Raises OSError."""
    flags = 0
    for name in _ENTERED:
        file = FILES.get(name, name)
        if os.readlink(f"/proc/{pid}/ns/{file}") != os.readlink(f"/proc/self/ns/{file}"):
            flags |= TYPES[name]
    if flags:
        pidfd = os.pidfd_open(pid)
        try:
            setns(pidfd, flags)
        finally:
            os.close(pidfd)
    return bool(flags)
