"""The messages of rtnetlink(7) for a bridge and its ports, and for what is there already: netlink.py."""

from __future__ import annotations

import _socket
import struct

from pycontainer.kernel.netlink import (
    ATTRIBUTES,
    IFINFOMSG,
    RTEXT_FILTER_SKIP_STATS,
    RTMSG,
    Body,
    Message,
    parse_attributes,
)


def new_bridge(name: str, address: bytes, mtu: int) -> Message:
    """A bridge, down. EEXIST where there is a link of that name."""
    body = Body(
        IFINFOMSG.pack(_socket.AF_UNSPEC, 0, 0, 0, 0),
        "ifi_index=0",
        {"IFLA_IFNAME": name, "IFLA_ADDRESS": address, "IFLA_MTU": mtu, "IFLA_LINKINFO": {"IFLA_INFO_KIND": "bridge"}},
    )
    return Message("RTM_NEWLINK", ("NLM_F_ACK", "NLM_F_EXCL", "NLM_F_CREATE"), body)


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


def get_links() -> Message:
    """List all links, for Netlink.dump: a payload for Link for each."""
    fixed = IFINFOMSG.pack(_socket.AF_UNSPEC, 0, 0, 0, 0)
    body = Body(fixed, "ifi_index=0", {"IFLA_EXT_MASK": RTEXT_FILTER_SKIP_STATS})
    return Message("RTM_GETLINK", ("NLM_F_DUMP",), body)


def get_routes() -> Message:
    """List the IPv4 routes of all tables, for Netlink.dump: a payload for `parse_route` for each."""
    fixed = RTMSG.pack(_socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    return Message("RTM_GETROUTE", ("NLM_F_DUMP",), Body(fixed, "rtm_family=AF_INET", {}))


def parse_route(payload: bytes) -> tuple[bytes, int, int]:
    """Where it leads, the length of that prefix in bits, and the index of the link; 0 for none, or for several."""
    _, prefix_length, *_ = RTMSG.unpack_from(payload)
    attributes = parse_attributes(payload[RTMSG.size :])
    (index,) = struct.unpack("=I", attributes.get(ATTRIBUTES["RTA_OIF"], bytes(4)))
    return attributes.get(ATTRIBUTES["RTA_DST"], bytes(4)), prefix_length, index
