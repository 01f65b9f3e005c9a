"""The OCI configuration (config.json) of one container, out of what was asked for and what its image says."""

from __future__ import annotations

import os

from pycontainer.engine import limits
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.errors import HostError, ImageError, UsageError
from pycontainer.kernel import signals
from pycontainer.runtime import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.mounts import Mount
    from pycontainer.engine.user import User
    from pycontainer.kernel.id_map import IdMap

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INIT = "/usr/bin/tini-static"
_INIT_TARGET = "/sbin/docker-init"

Json = dict[str, "Any"]


def command_line(config: ContainerConfig, image: Json) -> list[str]:
    """Entrypoint and command together, by docker's rule: --entrypoint drops the image's command. Raises UsageError."""
    if config.process.entrypoint is not None:
        entrypoint, command = [config.process.entrypoint] if config.process.entrypoint else [], config.process.command
    else:
        entrypoint, command = (
            list(image.get("Entrypoint") or []),
            config.process.command or list(image.get("Cmd") or []),
        )
    args = entrypoint + command
    if not args:
        raise UsageError("run", config.image, "the image names no command", "write one after the image's name")
    return args


def environment(config: ContainerConfig, image: Json, hostname: str, home: str) -> list[str]:
    """KEY=VALUE, later ones winning: defaults, the image's, then --env-file and -e; `-e KEY` may take one away."""
    values = {"PATH": _PATH, "HOSTNAME": hostname}
    if config.process.tty:
        values["TERM"] = "xterm"
    values.update(entry.split("=", 1) for entry in image.get("Env") or [] if entry.find("=") > 0)
    for key, value in config.process.environment:
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
    values.setdefault("HOME", home)
    return [f"{key}={value}" for key, value in values.items()]


def build(
    config: ContainerConfig,
    image: Json,
    *,
    root: str,
    cgroup: str,
    user: User,
    hostname: str,
    maps: list[IdMap],
    files: dict[str, str],
    mounts: list[Mount],
    shared_network: str = "",
) -> Json:
    """config.json as a value.

    image   the OCI image's `config` object
    root    where the root file system is mounted, an absolute path
    cgroup  path from the hierarchy's root
    files   path in the container -> path on the host, of hosts, hostname and resolv.conf
    mounts  what was asked for, volumes as the directories that they are
    """
    args = command_line(config, image)
    _check_text(image)
    if config.process.init:
        if not os.path.exists(_INIT):
            raise HostError("run --init", _INIT, "not installed", "apt-get install tini")
        args = [_INIT_TARGET, "--", *args]
    ends = stop_signal(config, image)
    return {
        "ociVersion": "1.1.0",
        "process": {
            "terminal": config.process.tty,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": args,
            "env": environment(config, image, hostname, user.home),
            # An image may name it relative to the root.
            "cwd": config.process.workdir or "/" + (image.get("WorkingDir") or "").lstrip("/"),
            "capabilities": _capabilities(config, user),
            "rlimits": [{"type": name, "soft": soft, "hard": hard} for name, soft, hard in config.resources.ulimits],
            "noNewPrivileges": config.security.no_new_privileges,
            # Said even where it is 0, because otherwise it would be the launcher's, which the kernel is to spare.
            "oomScoreAdj": config.process.oom_score_adj,
        },
        "root": {"path": root, "readonly": config.mounts.read_only},
        "hostname": hostname,
        "mounts": _default_mounts(config, maps) + _asked_mounts(config, files, mounts, maps),
        "annotations": {"org.opencontainers.image.stopSignal": signals.name(ends)} if ends else {},
        "linux": {
            "cgroupsPath": cgroup,
            "resources": limits.resources(config),
            "maskedPaths": [] if config.security.privileged else defaults.MASKED_PATHS,
            "readonlyPaths": [] if config.security.privileged else defaults.READONLY_PATHS,
            "devices": _host_devices() if config.security.privileged else [],
            "sysctl": _sysctl(maps) if _has_own_network(config) else {},
            **_namespaces(config, maps, shared_network),
        },
    }


def stop_signal(config: ContainerConfig, image: Json) -> int | None:
    """The signal that asks the program to end, None where neither the flags nor the image name one."""
    return config.process.stop_signal or signals.parse(str(image.get("StopSignal") or ""))


def _check_text(image: Json) -> None:
    """Raise ImageError for what no program could be given: JSON can hold surrogates that stand for no character."""
    for field in ("Entrypoint", "Cmd", "Env", "WorkingDir", "User"):
        value = image.get(field) or []
        for text in [value] if isinstance(value, str) else value:
            try:
                os.fsencode(text)
            except UnicodeEncodeError:
                raise ImageError("read image", f"config.{field}", "it holds what is not text") from None


def _capabilities(config: ContainerConfig, user: User) -> dict[str, list[str]]:
    """As docker has it: a program that is not root's has none, and can gain those by a setuid program."""
    granted = config.security.capabilities if user.uid == 0 else []
    return {
        "bounding": config.security.capabilities,
        "effective": granted,
        "permitted": granted,
        "inheritable": [],
        "ambient": [],
    }


def _namespaces(config: ContainerConfig, maps: list[IdMap], shared_network: str) -> Json:
    names = ["pid", "ipc", "uts", "mount", "cgroup"]
    if maps:
        names.append("user")
    found: Json = {"namespaces": [{"type": name} for name in names]}
    if shared_network:
        found["namespaces"].append({"type": "network", "path": shared_network})
    elif config.network.mode != "host":
        found["namespaces"].append({"type": "network"})
    return found | {"uidMappings": _extents(maps), "gidMappings": _extents(maps)} if maps else found


def _has_own_network(config: ContainerConfig) -> bool:
    """Whether its network namespace is made for it, and is neither the host's nor another container's."""
    return config.network.mode != "host" and not config.network.shares_container


def _extents(maps: list[IdMap]) -> list[Json]:
    return [{"containerID": e.inside, "hostID": e.outside, "size": e.size} for e in maps]


def _sysctl(maps: list[IdMap]) -> dict[str, str]:
    """As docker has it: ping and low ports need no capability, because the network namespace is the container's own."""
    last = maps[0].size - 1 if maps else (1 << 31) - 1
    return {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": f"0 {last}"}


def _default_mounts(config: ContainerConfig, maps: list[IdMap]) -> list[Json]:
    access = "rw" if config.security.privileged else "ro"
    return defaults.mounts(
        access, has_host_network=bool(maps) and not _has_own_network(config), shm_size=config.mounts.shm_size
    )


def _asked_mounts(config: ContainerConfig, files: dict[str, str], asked: list[Mount], maps: list[IdMap]) -> list[Json]:
    access = ["ro"] if config.mounts.read_only else []
    mounts = [_bind(source, target, ["bind", "rprivate", *access]) for target, source in files.items()]
    if config.process.init:
        mounts.append(_bind(_INIT, _INIT_TARGET, ["bind", "ro", "nosuid", "nodev"]))
    for mount in asked:
        if mount.kind == "tmpfs":
            mounts.append({"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": mount.options})
            continue
        entry = _bind(mount.source, mount.target, mount.options)
        if maps and mount.mapped:
            # The ids of the files are those of the host: root in the container writes what root on the host owns.
            entry.update(uidMappings=_extents(maps), gidMappings=_extents(maps))
        mounts.append(entry)
    # A mount below another one comes after it, in whatever order they were written.
    return sorted(mounts, key=lambda mount: str(mount["destination"]).count("/"))


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
