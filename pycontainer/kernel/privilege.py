"""What this process may do, and gives up: capset(2), prctl(2), capabilities(7)."""

from __future__ import annotations

import os
import struct

import prctl

from pycontainer.kernel import record
from pycontainer.kernel.capability import NAMES
from pycontainer.kernel.syscalls import call

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4


def _name(number: int) -> str:
    return NAMES[number] if number < len(NAMES) else str(number)


_AMBIENT = {
    0: lambda _: "PR_CAP_AMBIENT",
    1: {
        _PR_CAP_AMBIENT_RAISE: "PR_CAP_AMBIENT_RAISE",
        _PR_CAP_AMBIENT_CLEAR_ALL: "PR_CAP_AMBIENT_CLEAR_ALL",
    }.__getitem__,
}
_AMBIENT_RAISE = {**_AMBIENT, 2: _name}


def become(uid: int, gid: int, groups: list[int]) -> None:
    """setgroups(2), setresgid(2), setresuid(2), in the order in which each is still allowed. Raises OSError."""
    record.make("setgroups", lambda: [str(len(groups)), f"[{', '.join(map(str, groups))}]"], os.setgroups, groups)
    record.make("setresgid", lambda: [str(gid)] * 3, os.setresgid, gid, gid, gid)
    record.make("setresuid", lambda: [str(uid)] * 3, os.setresuid, uid, uid, uid)


def drop_bounding(number: int) -> None:
    """PR_CAPBSET_DROP. Raises OSError."""
    record.make("prctl", lambda: ["PR_CAPBSET_DROP", _name(number)], prctl.capbset_drop, number)


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
    shown = {
        0: lambda _: "{version=_LINUX_CAPABILITY_VERSION_3, pid=0}",
        1: lambda _: f"{{effective={effective:#x}, permitted={permitted:#x}, inheritable={inheritable:#x}}}",
    }
    call("capset", header, data, shown=shown)


def set_ambient(bits: int) -> None:
    """Make the ambient set `bits`: PR_CAP_AMBIENT. They must be permitted and inheritable. Raises OSError."""
    call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, shown=_AMBIENT)
    for number in range(64):
        if bits >> number & 1:
            call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0, shown=_AMBIENT_RAISE)


def keep_capabilities(keep: bool) -> None:
    """PR_SET_KEEPCAPS: whether permitted capabilities survive a change from uid 0 to another. Raises OSError."""
    record.make("prctl", lambda: ["PR_SET_KEEPCAPS", str(int(keep))], prctl.set_keepcaps, int(keep))


def set_no_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS: execve(2) never grants more than the caller had. Raises OSError."""
    record.make("prctl", lambda: ["PR_SET_NO_NEW_PRIVS", "1", "0", "0", "0"], prctl.set_no_new_privs, 1)
