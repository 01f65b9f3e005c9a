"""`spec`: the config.json that a bundle begins with, which runs `sh` as it is and is there to be edited."""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.errors import Conflict, HostError, UsageError
from pycontainer.runtime import defaults
from pycontainer.runtime.state import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.runtime.defaults import Json


def write(bundle: str, *, rootless: bool) -> None:
    """Write config.json into the directory `bundle` (OCI runtime specification, bundle.md).

    Raises Conflict where there is one, UsageError where none can be made, HostError where it cannot be written.
    """
    path = os.path.join(bundle, "config.json")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        hint = "remove it first, or name another directory with --bundle"
        raise Conflict("write config.json", path, "file exists", hint) from None
    except OSError as error:
        raise UsageError("write config.json", path, (error.strerror or "").lower()) from None
    try:
        with open(descriptor, "w") as file:
            file.write(f"{json_text.pretty(config(rootless=rootless))}\n")
    except BaseException as error:
        # because half of it would keep the next attempt from writing all of it
        os.unlink(path)
        if isinstance(error, OSError):
            raise HostError("write config.json", path, (error.strerror or "").lower()) from None
        raise


def config(*, rootless: bool) -> Json:
    """A whole configuration as a value (OCI runtime specification 1.1: config.md, config-linux.md).

    What it does not get from `defaults` is as `runc spec` has it. With `rootless` it has a user namespace in which the
    caller is root and nobody else exists, and the host's network.
    """
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            # No ambient ones, which would have to be inheritable to have an effect.
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), defaults.CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pycontainer",
        "mounts": defaults.mounts("ro", has_host_network=rootless, terminal_group=None if rootless else 5),
        "linux": {
            **(_callers_ids() if rootless else {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}),
            "namespaces": [{"type": kind} for kind in _namespaces(rootless)],
            "maskedPaths": defaults.MASKED_PATHS,
            "readonlyPaths": defaults.READONLY_PATHS,
        },
    }


def _namespaces(rootless: bool) -> list[str]:
    # No network of its own without root, because nobody could connect it to anything.
    return ["pid", "ipc", "uts", "mount", "cgroup", "user" if rootless else "network"]


def _callers_ids() -> Json:
    return {
        "uidMappings": [{"containerID": 0, "hostID": os.geteuid(), "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": os.getegid(), "size": 1}],
    }
