"""The names of capabilities, and masks of them: capabilities(7). privilege.py changes what a process has."""

from __future__ import annotations

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
