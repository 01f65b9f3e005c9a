"""What this installation and this machine are: SystemInfo and SystemVersion of the Engine API."""

from __future__ import annotations

import os
import sys

from pycontainer import __version__
from pycontainer.engine import networks
from pycontainer.kernel import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.engine.settings import Settings

Json = dict[str, "Any"]

# What `pip` installs and what a bug report should name.
_PACKAGES = ("click", "dnslib", "isal", "plotext", "python-prctl", "rich", "tarsafe", "zstandard")
# Docker's word for an architecture, which is Go's, where it is not the kernel's.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def info(settings: Settings, connection: sqlite3.Connection) -> Json:
    """The fields of `docker info` that have a meaning here. Raises OSError."""
    host = os.uname()
    release = _os_release()
    hierarchy = cgroup.find_hierarchy()
    controllers = hierarchy.controllers if hierarchy else frozenset()
    statuses = dict(connection.execute("SELECT status, count(*) FROM containers GROUP BY status").fetchall())
    running = statuses.get("running", 0) + statuses.get("restarting", 0)
    paused = statuses.get("paused", 0)
    return {
        "ID": networks.identify(settings, "installation"),
        "Containers": sum(statuses.values()),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": sum(statuses.values()) - running - paused,
        "Images": connection.execute("SELECT count(*) FROM images").fetchone()[0],
        "Driver": "overlay",
        "DriverStatus": [["Backing Filesystem", _file_system(settings.root)], ["ID-mapped layers", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": sorted(networks.DRIVERS.values()),
            "Authorization": None,
            "Log": ["json-file", "none"],
        },
        "MemoryLimit": "memory" in controllers,
        "SwapLimit": "memory" in controllers and os.path.exists("/proc/swaps"),
        "CpuCfsPeriod": "cpu" in controllers,
        "CpuCfsQuota": "cpu" in controllers,
        "CPUShares": "cpu" in controllers,
        "CPUSet": "cpuset" in controllers,
        "PidsLimit": "pids" in controllers,
        "IPv4Forwarding": _read("/proc/sys/net/ipv4/ip_forward").strip() == "1",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if hierarchy else "",
        "KernelVersion": host.release,
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "DockerRootDir": settings.root,
        "Name": host.nodename,
        "Labels": [],
        "ServerVersion": __version__,
        "Runtimes": {"pycontainer": {"path": "pycontainer-runtime"}},
        "DefaultRuntime": "pycontainer",
        "LiveRestoreEnabled": True,
        "InitBinary": "tini-static",
        "SecurityOptions": ["name=userns", "name=cgroupns"],
        "Warnings": _warnings(hierarchy),
    }


def _warnings(hierarchy: cgroup.Hierarchy | None) -> list[str]:
    if hierarchy is None:
        return ["no cgroup v2 hierarchy is mounted: no limits, no freezing"]
    limits = {"memory": "--memory", "cpu": "--cpus", "cpuset": "--cpuset-cpus", "pids": "--pids-limit",
              "io": "--blkio-weight and --device-*"}  # fmt: skip
    return [
        f"the {name} controller is not in the cgroup v2 hierarchy: no {flag}"
        for name, flag in limits.items()
        if name not in hierarchy.controllers
    ]


def version() -> Json:
    """Client and server are the same program here; both are named, because scripts ask for either."""
    import _sqlite3
    from importlib import metadata

    host = os.uname()
    architecture = _ARCHITECTURES.get(host.machine, host.machine)
    components = [
        {"Name": "python", "Version": sys.version.split()[0]},
        {"Name": "sqlite", "Version": _sqlite3.sqlite_version},
    ]
    for name in _PACKAGES:
        try:
            components.append({"Name": name, "Version": metadata.version(name)})
        except metadata.PackageNotFoundError:
            components.append({"Name": name, "Version": ""})
    return {
        "Client": {"Version": __version__, "Os": "linux", "Arch": architecture},
        "Server": {
            "Version": __version__,
            "Os": "linux",
            "Arch": architecture,
            "KernelVersion": host.release,
            "Components": components,
        },
    }


def _os_release() -> dict[str, str]:
    """os-release(5) as a dictionary; empty where there is none."""
    import shlex

    found = {}
    for line in (_read("/etc/os-release") or _read("/usr/lib/os-release")).splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            try:
                found[name] = "".join(shlex.split(value)[:1])
            except ValueError:
                continue
    return found


def _file_system(path: str) -> str:
    """The type of the file system that holds `path`, "" where the mount is not seen. Raises OSError."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
