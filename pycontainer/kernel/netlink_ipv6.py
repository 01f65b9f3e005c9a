"""The messages of rtnetlink(7) for IPv6: netlink.py."""

from __future__ import annotations

import _socket

from pycontainer.kernel.netlink import (
    ATTRIBUTES,
    IFADDRMSG,
    RT_TABLE_MAIN,
    RTMSG,
    RTN_UNICAST,
    RTPROT_BOOT,
    Body,
    Message,
    parse_attributes,
)

IFA_F_NODAD = 0x02


def new_address6(index: int, address: bytes, prefix_length: int) -> Message:
    """An IPv6 address on a link, used at once: nobody else can have it, so nobody is asked."""
    body = Body(
        IFADDRMSG.pack(_socket.AF_INET6, prefix_length, IFA_F_NODAD, 0, index),
        f"ifa_family=AF_INET6, ifa_prefixlen={prefix_length}, ifa_flags=IFA_F_NODAD, ifa_index={index}",
        {"IFA_LOCAL": address, "IFA_ADDRESS": address},
    )
    return Message("RTM_NEWADDR", ("NLM_F_ACK", "NLM_F_REPLACE", "NLM_F_CREATE"), body)


def new_default_route6(gateway: bytes) -> Message:
    """The IPv6 default route."""
    body = Body(
        RTMSG.pack(_socket.AF_INET6, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0),
        "rtm_family=AF_INET6, rtm_dst_len=0, rtm_table=RT_TABLE_MAIN, rtm_protocol=RTPROT_BOOT, rtm_type=RTN_UNICAST",
        {"RTA_GATEWAY": gateway},
    )
    return Message("RTM_NEWROUTE", ("NLM_F_ACK", "NLM_F_EXCL", "NLM_F_CREATE"), body)


def get_addresses6() -> Message:
    """As `get_addresses`, of IPv6; the answers are for `parse_address6`."""
    body = Body(IFADDRMSG.pack(_socket.AF_INET6, 0, 0, 0, 0), "ifa_family=AF_INET6", {})
    return Message("RTM_GETADDR", ("NLM_F_DUMP",), body)


def parse_address6(payload: bytes) -> tuple[int, bytes, int]:
    """As `parse_address`, of IPv6."""
    _, prefix_length, _, _, index = IFADDRMSG.unpack_from(payload)
    attributes = parse_attributes(payload[IFADDRMSG.size :])
    return index, attributes.get(ATTRIBUTES["IFA_ADDRESS"], b""), prefix_length
