"""The OCI configuration (config.json) of one container, out of what was asked for and what its image says."""

from __future__ import annotations

import os

from pycontainer.engine.config import ContainerConfig
from pycontainer.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.user import User
    from pycontainer.kernel.namespace import IdMap

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INIT = "/usr/bin/tini-static"
_INIT_TARGET = "/sbin/docker-init"

# What docker hides and protects.
MASKED_PATHS = """
/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats
/proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap
""".split()
READONLY_PATHS = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()

Json = dict[str, "Any"]


def command_line(config: ContainerConfig, image: Json) -> list[str]:
    """Entrypoint and command together, by docker's rule: --entrypoint drops the image's command. Raises UsageError."""
    if config.entrypoint is not None:
        entrypoint, command = [config.entrypoint] if config.entrypoint else [], config.command
    else:
        entrypoint, command = list(image.get("Entrypoint") or []), config.command or list(image.get("Cmd") or [])
    args = entrypoint + command
    if not args:
        raise UsageError("run", config.image, "the image names no command", "write one after the image's name")
    return args


def environment(config: ContainerConfig, image: Json, hostname: str, home: str) -> list[str]:
    """KEY=VALUE, later ones winning: defaults, the image's, then --env-file and -e."""
    values = {"PATH": _PATH, "HOSTNAME": hostname}
    if config.tty:
        values["TERM"] = "xterm"
    values.update(entry.split("=", 1) for entry in image.get("Env") or [] if "=" in entry)
    values.update(config.environment)
    values.setdefault("HOME", home)
    return [f"{key}={value}" for key, value in values.items()]


def build(
    config: ContainerConfig,
    image: Json,
    *,
    cgroup: str,
    user: User,
    hostname: str,
    maps: list[IdMap],
    files: dict[str, str],
) -> Json:
    """config.json as a value.

    image   the OCI image's `config` object
    cgroup  path from the hierarchy's root
    files   path in the container -> path on the host, of hosts, hostname and resolv.conf
    """
    args = command_line(config, image)
    mounts = _mounts(config, files, maps)
    if config.init:
        if not os.path.exists(_INIT):
            raise HostError("run --init", _INIT, "not installed", "apt-get install tini")
        args = [_INIT_TARGET, "--", *args]
        mounts.append(_bind(_INIT, _INIT_TARGET, ["bind", "ro", "nosuid", "nodev"]))
    namespaces = ["pid", "ipc", "uts", "mount", "cgroup"]
    if config.network != "host":
        namespaces.append("network")
    linux: Json = {
        "cgroupsPath": cgroup,
        "resources": resources(config),
        "maskedPaths": [] if config.privileged else MASKED_PATHS,
        "readonlyPaths": [] if config.privileged else READONLY_PATHS,
        "devices": _host_devices() if config.privileged else [],
    }
    if maps:
        namespaces.append("user")
        extents = [{"containerID": e.inside, "hostID": e.outside, "size": e.size} for e in maps]
        linux["uidMappings"] = linux["gidMappings"] = extents
    linux["namespaces"] = [{"type": name} for name in namespaces]
    if config.network != "host":
        # As docker has it: ping and low ports need no capability, because the network namespace is the container's own.
        linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
        if maps:
            linux["sysctl"]["net.ipv4.ping_group_range"] = f"0 {maps[0].size - 1}"
        else:
            linux["sysctl"]["net.ipv4.ping_group_range"] = "0 2147483647"
    kept = config.capabilities
    root_user = user.uid == 0
    return {
        "ociVersion": "1.1.0",
        "process": {
            "terminal": config.tty,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": args,
            "env": environment(config, image, hostname, user.home),
            "cwd": config.workdir or image.get("WorkingDir") or "/",
            "capabilities": {
                "bounding": kept,
                "effective": kept if root_user else [],
                "permitted": kept if root_user else [],
                "inheritable": [],
                "ambient": [],
            },
            "rlimits": [{"type": name, "soft": soft, "hard": hard} for name, soft, hard in config.ulimits],
            "noNewPrivileges": config.no_new_privileges,
        },
        "root": {"path": "rootfs", "readonly": config.read_only},
        "hostname": hostname,
        "mounts": mounts,
        "annotations": {"org.opencontainers.image.stopSignal": str(config.stop_signal)} if config.stop_signal else {},
        "linux": linux,
    }


def resources(config: ContainerConfig) -> Json:
    """`linux.resources` of the OCI specification: bytes, and microseconds of processor time for each 100,000."""
    found: Json = {"devices": [{"allow": config.privileged, "access": "rwm"}]}
    if config.memory is not None:
        # Without --memory-swap no swap, where docker grants as much again as --memory: 64m should mean 64m, and a
        # program that takes more should meet the same end on a machine with swap as on one without.
        swap = config.swap if config.swap is not None else config.memory
        found["memory"] = {"limit": config.memory, "swap": swap}
    cpu: Json = {}
    if config.cpus is not None:
        cpu.update(quota=round(config.cpus * 100000), period=100000)
    if config.cpuset_cpus:
        cpu["cpus"] = config.cpuset_cpus
    if cpu:
        found["cpu"] = cpu
    if config.pids_limit is not None and config.pids_limit > 0:
        found["pids"] = {"limit": config.pids_limit}
    return found


def _mounts(config: ContainerConfig, files: dict[str, str], maps: list[IdMap]) -> list[Json]:
    access = ["rw"] if config.privileged else ["ro"]
    usual = ["nosuid", "noexec", "nodev"]
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": usual},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*usual, "mode=1777", "size=65536k"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": usual},
        _sysfs(config, maps, access),
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*usual, "relatime", *access],
        },
    ]
    mounts.extend(_bind(source, target, ["bind", "rprivate"]) for target, source in files.items())
    mounts.extend(
        {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
        for target, options in config.tmpfs
    )
    extents = [{"containerID": e.inside, "hostID": e.outside, "size": e.size} for e in maps]
    for volume in config.volumes:
        entry = _bind(volume.source, volume.target, volume.options)
        if maps:
            # The ids of the files are those of the host: root in the container writes what root on the host owns.
            host = [{"containerID": 0, "hostID": e["hostID"], "size": e["size"]} for e in extents]
            entry.update(uidMappings=host, gidMappings=host)
        mounts.append(entry)
    # A mount below another one comes after it, in whatever order they were written.
    return mounts[:7] + sorted(mounts[7:], key=lambda mount: mount["destination"].count("/"))


def _sysfs(config: ContainerConfig, maps: list[IdMap], access: list[str]) -> Json:
    if maps and config.network == "host":
        # because sysfs shows a network namespace, and the host's does not belong to the container's user namespace
        return _bind("/sys", "/sys", ["rbind", "rslave", "nosuid", "noexec", "nodev", "rro", "ro"])
    return {
        "destination": "/sys",
        "type": "sysfs",
        "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", *access],
    }


def _bind(source: str, target: str, options: list[str]) -> Json:
    return {"destination": target, "type": "bind", "source": source, "options": options}


def _host_devices() -> list[Json]:
    """Every device node of the host's /dev, for --privileged. Raises OSError."""
    found = []
    for directory, subdirectories, names in os.walk("/dev"):
        subdirectories[:] = [name for name in subdirectories if name not in ("pts", "shm", "mqueue", "fd")]
        for name in names:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = {0o020000: "c", 0o060000: "b"}.get(status.st_mode & 0o170000)
            if kind and path != "/dev/console":
                found.append(
                    {
                        "path": path,
                        "type": kind,
                        "major": os.major(status.st_rdev),
                        "minor": os.minor(status.st_rdev),
                        "fileMode": status.st_mode & 0o7777,
                        "uid": status.st_uid,
                        "gid": status.st_gid,
                    }
                )
    return found
