"""Processes: clone3(2), close_range(2), pidfds, and what a process says of itself through prctl(2)."""

from __future__ import annotations

import ctypes
import os
import struct

import prctl

from pycontainer.kernel import record
from pycontainer.kernel.namespace import CLONE_NAMES
from pycontainer.kernel.signals import SIGCHLD, SIGKILL, send
from pycontainer.kernel.syscalls import PLAIN, call, decode, number, syscall

CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_INTO_CGROUP = 0x200000000

CLOSE_RANGE_CLOEXEC = 4

_FLAG_NAMES = {
    "CLONE_PIDFD": CLONE_PIDFD,
    "CLONE_PARENT": CLONE_PARENT,
    **CLONE_NAMES,
    "CLONE_INTO_CGROUP": CLONE_INTO_CGROUP,
}
_python = ctypes.PyDLL(None, use_errno=True)
_python.syscall.restype = ctypes.c_long


_CLOSE_RANGE = {2: lambda flags: decode(flags, {"CLOSE_RANGE_CLOEXEC": CLOSE_RANGE_CLOEXEC})}
_KEYCTL = {0: lambda _: "KEYCTL_JOIN_SESSION_KEYRING", 1: lambda _: "NULL"}


def clone_flags(flags: int) -> str:
    """clone3(2) flags as strace prints them."""
    return decode(flags, _FLAG_NAMES)


def clone3(flags: int, cgroup: int | None = None) -> tuple[int, int]:
    """clone3(2) in the manner of fork(2): (pid, pidfd) in the parent, (0, -1) in the child.

    `cgroup` is a descriptor of a cgroup v2 directory in which the child is born. The caller must be single-threaded,
    and the child must end in execve(2) or _exit(2). With CLONE_PARENT it is a child of the caller's parent. Raises
    OSError.
    """
    pidfd = ctypes.c_int(-1)
    # The kernel refuses one with CLONE_PARENT: it is that of the caller then.
    exit_signal = 0 if flags & CLONE_PARENT else SIGCHLD
    flags |= CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup is not None else 0)
    arguments = struct.pack(
        "11Q", flags, ctypes.addressof(pidfd), 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup if cgroup is not None else 0
    )
    # PyDLL keeps the interpreter's lock and the hooks are those of os.fork(), because the child runs Python.
    _python.PyOS_BeforeFork()
    pid: int = _python.syscall(ctypes.c_long(number("clone3")), arguments, ctypes.c_long(len(arguments)))
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        record.forget()
        return 0, -1
    errno = ctypes.get_errno()
    _python.PyOS_AfterFork_Parent()
    if record.lines is not None:
        how = f"{{flags={clone_flags(flags)}, exit_signal={'SIGCHLD' if exit_signal else '0'}"
        how += f", cgroup={record.descriptor(cgroup)}}}" if cgroup is not None else "}"
        record.made("clone3", [how, str(len(arguments))], pid, errno if pid < 0 else 0)
    if pid < 0:
        raise OSError(errno, os.strerror(errno))
    return pid, pidfd.value


def end(pidfd: int) -> None:
    """Kill the process, reap it where it is a child of this one, and close the pidfd. Raises OSError."""
    send(pidfd, SIGKILL)
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        # A sibling, which its parent reaps; or it was reaped.
        pass
    os.close(pidfd)


def close_range_cloexec(first: int) -> None:
    """Mark every descriptor from `first` on close-on-exec, known to us or not: close_range(2). Raises OSError."""
    syscall("close_range", first, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC, shown=_CLOSE_RANGE)


def set_parent_death_signal(signum: int) -> None:
    """PR_SET_PDEATHSIG: `signum` when the parent dies, 0 for none. Raises OSError."""
    prctl.set_pdeathsig(signum)


def set_name(name: str) -> None:
    """PR_SET_NAME: what ps(1) and top(1) call this process; 15 characters at most."""
    prctl.set_name(name)


def set_dumpable(dumpable: bool) -> None:
    """PR_SET_DUMPABLE: whether others may ptrace this process and read its /proc entries."""
    prctl.set_dumpable(int(dumpable))


def read_stat(pid: int) -> tuple[str, int]:
    """A process's state letter, and its start time in clock ticks since boot: /proc/PID/stat. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


def new_session() -> None:
    """setsid(2). Raises OSError."""
    record.make("setsid", list, os.setsid)


def execve(path: str, arguments: list[str], environment: dict[str, str]) -> None:
    """execve(2). Recorded before, because it does not return; without the values of the environment, some are secret.

    Raises OSError.
    """
    if record.lines is not None:
        words = ", ".join(map(record.quoted, arguments))
        names = ", ".join(f"{name}=…" for name in environment)
        record.made("execve", [record.quoted(path), f"[{words}]", f"[{names}]"])
        record.stop()
    os.execve(path, arguments, environment)


def new_session_keyring() -> None:
    """Leave the caller's session keyring for a new one: keyctl(KEYCTL_JOIN_SESSION_KEYRING). Raises OSError."""
    syscall("keyctl", 1, 0, shown=_KEYCTL)


def sethostname(name: str) -> None:
    """sethostname(2). Raises OSError."""
    encoded = os.fsencode(name)
    call("sethostname", encoded, ctypes.c_size_t(len(encoded)), path=name, shown=PLAIN)


def setdomainname(name: str) -> None:
    """setdomainname(2). Raises OSError."""
    encoded = os.fsencode(name)
    call("setdomainname", encoded, ctypes.c_size_t(len(encoded)), path=name, shown=PLAIN)
