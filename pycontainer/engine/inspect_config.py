"""What was asked for, in Docker's two halves: `Config`, which goes with an image, and `HostConfig`, which does not.

Every field of the Engine API's ContainerInspect is there, because scripts name them; those of features that do not
exist here have the value that docker shows where nobody asked for them.
"""

from __future__ import annotations

import os

from pycontainer.engine import ports
from pycontainer.kernel import signals
from pycontainer.runtime import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.config.container import ContainerConfig

Json = dict[str, "Any"]

_RATES = {
    "device_read_bps": "BlkioDeviceReadBps",
    "device_write_bps": "BlkioDeviceWriteBps",
    "device_read_iops": "BlkioDeviceReadIOps",
    "device_write_iops": "BlkioDeviceWriteIOps",
}


def config(asked: ContainerConfig, image: Json, container_id: str) -> Json:
    """`Config`: the options over those of the image, whose OCI `config` object is `image`."""
    attached = not asked.detach
    replaced = asked.process.entrypoint is not None
    entrypoint = (
        ([asked.process.entrypoint] if asked.process.entrypoint else []) if replaced else image.get("Entrypoint")
    )
    found: Json = {
        "Hostname": asked.network.hostname
        or (os.uname().nodename if asked.network.mode == "host" else container_id[:12]),
        "Domainname": "",
        "User": asked.process.user if asked.process.user is not None else image.get("User") or "",
        "AttachStdin": asked.process.interactive and attached,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Tty": asked.process.tty,
        "OpenStdin": asked.process.interactive,
        "StdinOnce": asked.process.interactive and attached,
        "Env": _environment(asked, image),
        "Cmd": asked.process.command or (None if replaced else image.get("Cmd")),
        "Image": asked.image,
        "Volumes": _anonymous_volumes(asked, image),
        "WorkingDir": asked.process.workdir or image.get("WorkingDir") or "",
        "Entrypoint": entrypoint or None,
        "OnBuild": None,
        # Sorted, as Go writes a map.
        "Labels": dict(sorted({**(image.get("Labels") or {}), **asked.labels}.items())),
    }
    stop_signal = signals.name(asked.process.stop_signal) if asked.process.stop_signal else image.get("StopSignal")
    # What docker leaves out where it is empty.
    optional = {
        "ExposedPorts": ports.exposed(asked, image),
        "Healthcheck": _health_check(asked, image),
        "StopSignal": stop_signal or None,
        "StopTimeout": asked.process.stop_timeout,
    }
    return found | {name: value for name, value in optional.items() if value not in (None, {})}


def _environment(asked: ContainerConfig, image: Json) -> list[str]:
    """The options' variables first, as docker has it, then those of the image that they do not name."""
    given = dict(asked.process.environment)
    own = [f"{key}={value}" for key, value in given.items() if value is not None]
    return own + [text for text in image.get("Env") or [] if text.partition("=")[0] not in given]


def _anonymous_volumes(asked: ContainerConfig, image: Json) -> Json | None:
    targets = [text for text in asked.values.get("volume") or [] if ":" not in text]
    return {**(image.get("Volumes") or {}), **{target: {} for target in targets}} or None


def _health_check(asked: ContainerConfig, image: Json) -> Json:
    """Durations in nanoseconds; only what is said."""
    options = asked.health
    if options.disabled:
        return {"Test": ["NONE"]}
    given: Json = {
        "Test": ["CMD-SHELL", options.command] if options.command else None,
        "Interval": _nanoseconds(options.interval),
        "Timeout": _nanoseconds(options.timeout),
        "StartPeriod": _nanoseconds(options.start_period),
        "StartInterval": _nanoseconds(options.start_interval),
        "Retries": options.retries,
    }
    stored = image.get("Healthcheck")
    merged = {**(stored if isinstance(stored, dict) else {}), **{name: v for name, v in given.items() if v}}
    return {name: merged[name] for name in given if merged.get(name)}


def _nanoseconds(seconds: float | None) -> int:
    return round((seconds or 0) * 1e9)


def host_config(asked: ContainerConfig, image: Json) -> Json:
    """`HostConfig`: memory and sizes in bytes, NanoCpus in billionths of a processor."""
    values = asked.values
    found: Json = {
        "Binds": [text for text in values.get("volume") or [] if ":" in text] or None,
        "ContainerIDFile": asked.cidfile,
        "LogConfig": {
            "Type": asked.log.driver,
            "Config": dict(_pair(text) for text in values.get("log_opt") or []),
        },
        "NetworkMode": asked.network.mode,
        "PortBindings": ports.bindings(asked),
        "RestartPolicy": {"Name": asked.restart.name, "MaximumRetryCount": asked.restart.most},
        "AutoRemove": asked.remove,
        "VolumeDriver": "",
        "VolumesFrom": values.get("volumes_from") or None,
        "ConsoleSize": [0, 0],
        "CapAdd": _capabilities(values.get("cap_add")),
        "CapDrop": _capabilities(values.get("cap_drop")),
        "CgroupnsMode": "private",
        "Dns": asked.network.dns,
        "DnsOptions": asked.network.dns_options,
        "DnsSearch": asked.network.dns_search,
        "ExtraHosts": asked.network.add_host or None,
        "GroupAdd": None,
        "IpcMode": "private",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": asked.process.oom_score_adj,
        "PidMode": "",
        "Privileged": asked.security.privileged,
        "PublishAllPorts": bool(values.get("publish_all")),
        "ReadonlyRootfs": asked.mounts.read_only,
        "SecurityOpt": values.get("security_opt") or None,
        "UTSMode": "",
        # Said for --privileged too, because that is what it gets.
        "UsernsMode": "" if asked.security.user_namespace else "host",
        "ShmSize": asked.mounts.shm_size,
        "Runtime": "pycontainer",
        "Isolation": "",
        **_limits(asked),
        "MaskedPaths": None if asked.security.privileged else defaults.MASKED_PATHS,
        "ReadonlyPaths": None if asked.security.privileged else defaults.READONLY_PATHS,
    }
    tmpfs = dict(text.split(":", 1) if ":" in text else (text, "") for text in values.get("tmpfs") or [])
    optional = {"Tmpfs": tmpfs or None, "Init": True if asked.process.init else None}
    return found | {name: value for name, value in optional.items() if value is not None}


def _limits(asked: ContainerConfig) -> Json:
    memory, processor, block_io = asked.resources.memory, asked.resources.processor, asked.resources.block_io
    found: Json = {
        "CpuShares": processor.shares or 0,
        "Memory": memory.limit or 0,
        "NanoCpus": round((processor.cpus or 0) * 1e9),
        "CgroupParent": asked.values.get("cgroup_parent") or "",
        "BlkioWeight": block_io.weight or 0,
        "BlkioWeightDevice": [],
        **{
            _RATES[name]: [{"Path": p, "Rate": rate} for p, rate in rates.items()]
            for name, rates in block_io.rates.items()
        },
        "CpuPeriod": processor.period or 0,
        "CpuQuota": processor.quota or 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": processor.cpuset_cpus,
        "CpusetMems": processor.cpuset_mems,
        "Devices": [],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": memory.reservation or 0,
        # Without --memory-swap no swap: both together are no more than the memory.
        "MemorySwap": (memory.limit if memory.swap is None else memory.swap) or 0,
        "MemorySwappiness": None,
        "OomKillDisable": None,
        "PidsLimit": asked.resources.pids_limit,
        "Ulimits": [
            {"Name": name.removeprefix("RLIMIT_").lower(), "Hard": hard, "Soft": soft}
            for name, soft, hard in asked.resources.ulimits
        ],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }
    # Ours, which no script of docker's looks for.
    own = {"MemoryHigh": memory.high, "OomGroup": memory.oom_group or None}
    return found | {name: value for name, value in own.items() if value is not None}


def _capabilities(names: list[str] | None) -> list[str] | None:
    """As docker shows them: CAP_NET_ADMIN, whatever was written; ALL has no prefix."""
    full = [name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}" for name in names or []]
    return ["ALL" if name == "CAP_ALL" else name for name in full] or None


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value
