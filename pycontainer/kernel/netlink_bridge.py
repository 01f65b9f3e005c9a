"""The messages of rtnetlink(7) for the ports of a bridge: netlink.py."""

from __future__ import annotations

import _socket

from pycontainer.kernel.netlink import IFINFOMSG, Body, Message


def set_master(index: int, master: int) -> Message:
    """Make a link a port of the bridge with the index `master`."""
    fixed = IFINFOMSG.pack(_socket.AF_UNSPEC, 0, index, 0, 0)
    body = Body(fixed, f"ifi_index={index}", {"IFLA_MASTER": master})
    return Message("RTM_NEWLINK", ("NLM_F_ACK",), body)


def set_hairpin(index: int) -> Message:
    """Let a port of a bridge send a frame back to where it came from."""
    body = Body(
        IFINFOMSG.pack(_socket.AF_BRIDGE, 0, index, 0, 0),
        f"ifi_family=AF_BRIDGE, ifi_index={index}",
        {"IFLA_PROTINFO": {"IFLA_BRPORT_MODE": b"\1"}},
    )
    return Message("RTM_SETLINK", ("NLM_F_ACK",), body)
