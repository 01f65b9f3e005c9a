"""What a container has unless something else is asked for: mounts, hidden paths, capabilities, as docker has them.

In the words of config.json (OCI runtime specification 1.1: config.md, "Mounts", "Process"; config-linux.md, "Default
Filesystems", "Masked Paths"), for the configurations that the engine makes and for the one that `spec` writes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Json = dict[str, "Any"]

CAPABILITIES = """
CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD CAP_NET_BIND_SERVICE CAP_NET_RAW
CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT
""".split()
MASKED_PATHS = """
/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats
/proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap
""".split()
READONLY_PATHS = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()

SHM_SIZE = 64 << 20  # bytes of /dev/shm
_USUAL = ["nosuid", "noexec", "nodev"]


def mounts(
    access: str, *, has_host_network: bool, terminal_group: int | None = 5, shm_size: int = SHM_SIZE
) -> list[Json]:
    """`mounts` of config.json: proc, dev, sys and the cgroup.

    access            of /sys and the cgroup: `ro` or `rw`
    has_host_network  a user namespace is the container's own, the network namespace is not
    terminal_group    who owns terminals, None where its user namespace has no such group
    shm_size          bytes of /dev/shm
    """
    group = [] if terminal_group is None else [f"gid={terminal_group}"]
    return [
        _mount("/proc", "proc", "proc", _USUAL),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *group],
        ),
        _mount("/dev/shm", "tmpfs", "shm", [*_USUAL, "mode=1777", f"size={_size(shm_size)}"]),
        _mount("/dev/mqueue", "mqueue", "mqueue", _USUAL),
        _host_sysfs() if has_host_network else _mount("/sys", "sysfs", "sysfs", [*_USUAL, access]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*_USUAL, "relatime", access]),
    ]


def _host_sysfs() -> Json:
    # because sysfs shows a network namespace, and the host's does not belong to the container's user namespace
    return _mount("/sys", "bind", "/sys", ["rbind", "rprivate", *_USUAL, "rro", "ro"])


def _size(size: int) -> str:
    """As tmpfs(5) takes it, and as people read it best."""
    return str(size) if size % 1024 else f"{size // 1024}k"


def _mount(destination: str, kind: str, source: str, options: list[str]) -> Json:
    return {"destination": destination, "type": kind, "source": source, "options": options}
