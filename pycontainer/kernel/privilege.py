"""What this process may do, and gives up: capset(2), prctl(2), capabilities(7)."""

from __future__ import annotations

import struct

import prctl

from pycontainer.kernel.syscalls import call

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4


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
