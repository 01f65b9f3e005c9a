"""Capabilities and no_new_privs: capabilities(7), capset(2), prctl(2)."""

from __future__ import annotations

import struct

import prctl

from pycontainer.kernel.syscalls import call

# In the kernel's order: the position is the number (include/uapi/linux/capability.h).
NAMES = """
CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID
CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK
CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN
CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE
CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND
CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE
""".split()
NUMBERS = {name: number for number, name in enumerate(NAMES)}

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4


def mask(names: list[str]) -> int:
    """The bit mask of some capabilities, as /proc/PID/status shows it. Raises KeyError for an unknown name."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def last_capability() -> int:
    """The highest capability number that the running kernel knows. Raises OSError."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


def own_masks() -> dict[str, int]:
    """This process's masks: CapInh, CapPrm, CapEff, CapBnd and CapAmb of /proc/self/status. Raises OSError."""
    with open("/proc/self/status") as file:
        return {line[:6]: int(line[8:], 16) for line in file if line.startswith("Cap")}


def available(in_user_namespace: bool) -> list[str]:
    """The names of all that can be granted: what the kernel knows, and without a new user namespace only what we have.

    Raises OSError.
    """
    known = (1 << last_capability() + 1) - 1
    bits = known if in_user_namespace else known & own_masks()["CapBnd"]
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def drop_bounding(number: int) -> None:
    """PR_CAPBSET_DROP. Raises OSError."""
    prctl.capbset_drop(number)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2): all three masks of this process at once. Raises OSError."""
    header = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "6I",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    call("capset", header, data)


def set_ambient(bits: int) -> None:
    """Make the ambient set `bits`: PR_CAP_AMBIENT. They must be permitted and inheritable. Raises OSError."""
    call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(64):
        if bits >> number & 1:
            call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)


def keep_capabilities(keep: bool) -> None:
    """PR_SET_KEEPCAPS: whether permitted capabilities survive a change from uid 0 to another. Raises OSError."""
    prctl.set_keepcaps(int(keep))


def set_no_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS: execve(2) never grants more than the caller had. Raises OSError."""
    prctl.set_no_new_privs(1)
