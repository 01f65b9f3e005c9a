"""`linux.sysctl` of config.json: kernel parameters, and the namespace that each of them belongs to.

/proc/sys shows parameters of the machine beside those of namespaces, with nothing that tells one from the other. So
what may be written is listed here: namespaces(7), ipc_namespaces(7), Documentation/admin-guide/sysctl.
"""

from __future__ import annotations

import os

from pycontainer.errors import UsageError
from pycontainer.kernel.namespace import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS, FILES, TYPES

_IPC = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
_HINT = "a container may set net.*, fs.mqueue.*, kernel.domainname, and of kernel.*: " + ", ".join(_IPC)


def parse(values: dict[str, str], namespaces: dict[int, str]) -> dict[str, str]:
    """The path of each parameter -> what is written there. `namespaces` is as in Spec.

    Raises UsageError for a parameter of the machine, or of a namespace that the container has not of its own.
    """
    found = {}
    for name, value in values.items():
        parts = _split(name)
        if not all(parts) or "." in parts or ".." in parts:
            raise _refused(name, "not a parameter's name")
        if parts == ["kernel", "hostname"]:
            raise _refused(name, "it is what hostname sets", "set hostname instead")
        kind = _namespace(parts)
        if kind is None:
            raise _refused(name, "it belongs to the machine, not to a namespace", _HINT)
        if not _is_own(kind, namespaces):
            word = next(word for word, number in TYPES.items() if number == kind)
            raise _refused(name, f"the {word} namespace is the host's", f"list {word} in linux.namespaces")
        found["/proc/sys/" + "/".join(parts)] = value
    return found


def _split(name: str) -> list[str]:
    """As sysctl(8) reads a name: whichever of . and / stands first separates, the other one is part of a word."""
    dot, slash = name.find("."), name.find("/")
    if slash < 0 or 0 <= dot < slash:
        return [part.replace("/", ".") for part in name.split(".")]
    return name.split("/")


def _namespace(parts: list[str]) -> int | None:
    if parts[0] == "net" and len(parts) > 1:
        return CLONE_NEWNET
    if parts[:2] == ["fs", "mqueue"] and len(parts) > 2:
        return CLONE_NEWIPC
    if parts[0] == "kernel" and len(parts) == 2:
        if parts[1] == "domainname":
            return CLONE_NEWUTS
        if parts[1] in _IPC:
            return CLONE_NEWIPC
    return None


def _is_own(kind: int, namespaces: dict[int, str]) -> bool:
    path = namespaces.get(kind)
    if not path:
        return path is not None
    word = next(word for word, number in TYPES.items() if number == kind)
    try:
        return not os.path.samefile(path, f"/proc/self/ns/{FILES.get(word, word)}")
    except OSError:
        # Nothing to join, which the attempt reports.
        return True


def _refused(name: str, cause: str, hint: str = "") -> UsageError:
    return UsageError("read config.json", f"linux.sysctl.{name}", cause, hint)
