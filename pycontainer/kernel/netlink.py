"""A small client of netlink(7) and the messages of rtnetlink(7): what one container needs, and no more.

Those of nf_tables and of connection tracking are in netfilter.py.

A message is built from names (`IFLA_IFNAME`, `NLM_F_CREATE`, …), and its bytes and its explanation come from the same
names, so they cannot differ. Every request asks for an acknowledgement; a refusal becomes an OSError whose text ends
with the kernel's own explanation (NETLINK_EXT_ACK) where there is one.
"""

from __future__ import annotations

# The C module itself, because `import socket` adds 10 ms (selectors, enum conversions) and nothing that is used here.
import _socket
import os
import struct
import sys

from pycontainer.kernel import record
from pycontainer.kernel.namespace import CLONE_NEWNET, setns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
SOL_NETLINK = 270
NETLINK_EXT_ACK = 11

NLMSG_ERROR = 2
NLMSG_DONE = 3

MESSAGES = {
    "RTM_NEWLINK": 16,
    "RTM_DELLINK": 17,
    "RTM_GETLINK": 18,
    "RTM_SETLINK": 19,
    "RTM_NEWADDR": 20,
    "RTM_GETADDR": 22,
    "RTM_NEWROUTE": 24,
    "RTM_GETROUTE": 26,
    "RTM_NEWQDISC": 36,
    "RTM_DELQDISC": 37,
    "NFNL_MSG_BATCH_BEGIN": 16,
    "NFNL_MSG_BATCH_END": 17,
    "NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETTABLE": 10 << 8 | 1,
    "NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETRULE": 10 << 8 | 7,
    "NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWSETELEM": 10 << 8 | 12,
    "NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETSETELEM": 10 << 8 | 13,
    "NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_DELSETELEM": 10 << 8 | 14,
    "NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETGEN": 10 << 8 | 16,
    "NFNL_SUBSYS_CTNETLINK<<8|IPCTNL_MSG_CT_GET": 1 << 8 | 1,
    "NFNL_SUBSYS_CTNETLINK<<8|IPCTNL_MSG_CT_DELETE": 1 << 8 | 2,
}

# In strace's order.
FLAGS = {
    "NLM_F_REQUEST": 0x1,
    "NLM_F_ACK": 0x4,
    "NLM_F_DUMP": 0x300,
    "NLM_F_REPLACE": 0x100,
    "NLM_F_EXCL": 0x200,
    "NLM_F_CREATE": 0x400,
}
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1

ATTRIBUTES = {
    "IFLA_ADDRESS": 1,
    "IFLA_IFNAME": 3,
    "IFLA_MTU": 4,
    "IFLA_MASTER": 10,
    "IFLA_PROTINFO": 12,
    "IFLA_OPERSTATE": 16,
    "IFLA_LINKINFO": 18,
    "IFLA_NET_NS_FD": 28,
    "IFLA_EXT_MASK": 29,
    "IFLA_INFO_KIND": 1,
    "IFLA_INFO_DATA": 2,
    "VETH_INFO_PEER": 1,
    "IFLA_BRPORT_MODE": 4,
    "IFA_ADDRESS": 1,
    "IFA_LOCAL": 2,
    "IFA_BROADCAST": 4,
    "RTA_DST": 1,
    "RTA_OIF": 4,
    "RTA_GATEWAY": 5,
    "TCA_KIND": 1,
    "TCA_OPTIONS": 2,
    "TCA_TBF_PARMS": 1,
    "TCA_TBF_BURST": 6,
    "NFTA_TABLE_NAME": 1,
    "NFTA_TABLE_USERDATA": 6,
    "NFTA_RULE_TABLE": 1,
    "NFTA_GEN_ID": 1,
    "NFTA_SET_ELEM_LIST_TABLE": 1,
    "NFTA_SET_ELEM_LIST_SET": 2,
    "NFTA_SET_ELEM_LIST_ELEMENTS": 3,
    "NFTA_LIST_ELEM": 1,
    "NFTA_SET_ELEM_KEY": 1,
    "NFTA_SET_ELEM_DATA": 2,
    "NFTA_DATA_VALUE": 1,
    "NFNL_BATCH_GENID": 1,
    "CTA_TUPLE_ORIG": 1,
    "CTA_TUPLE_REPLY": 2,
    "CTA_TUPLE_IP": 1,
    "CTA_TUPLE_PROTO": 2,
    "CTA_IP_V4_SRC": 1,
    "CTA_IP_V4_DST": 2,
    "CTA_IP_V6_SRC": 3,
    "CTA_IP_V6_DST": 4,
    "CTA_PROTO_NUM": 1,
    "CTA_PROTO_DST_PORT": 3,
    "CTA_ID": 12,
    "CTA_FILTER": 25,
    "CTA_FILTER_ORIG_FLAGS": 1,
    "CTA_FILTER_REPLY_FLAGS": 2,
}
NLA_TYPE_MASK = 0x3FFF
NESTED = frozenset(
    (
        "IFLA_LINKINFO",
        "IFLA_INFO_DATA",
        "IFLA_PROTINFO",
        "TCA_OPTIONS",
        "NFTA_SET_ELEM_LIST_ELEMENTS",
        "NFTA_LIST_ELEM",
        "NFTA_SET_ELEM_KEY",
        "NFTA_SET_ELEM_DATA",
        "CTA_TUPLE_ORIG",
        "CTA_TUPLE_REPLY",
        "CTA_TUPLE_IP",
        "CTA_TUPLE_PROTO",
        "CTA_FILTER",
    )
)
# Those whose bytes are an address.
ADDRESSES = frozenset(
    ("IFA_ADDRESS", "IFA_LOCAL", "IFA_BROADCAST", "RTA_GATEWAY")
    + ("CTA_IP_V4_SRC", "CTA_IP_V4_DST", "CTA_IP_V6_SRC", "CTA_IP_V6_DST")
)
NLA_F_NESTED = 0x8000

IFF_UP = 1
IF_OPER_UP = 6
RTEXT_FILTER_SKIP_STATS = 8
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RTN_UNICAST = 1
LOOPBACK_IFINDEX = 1

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=8BI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags

BUFFER = 65536  # bytes


class Body:
    """The fixed structure of a message, its text as strace(1) prints it, and the attributes that follow."""

    __slots__ = ("attributes", "fixed", "text")

    def __init__(self, fixed: bytes, text: str, attributes: dict[str, Value]) -> None:
        self.fixed = fixed
        self.text = text
        self.attributes = attributes

    def encode(self) -> bytes:
        return self.fixed + _encode_attributes(self.attributes)

    def __str__(self) -> str:
        return f"{{{self.text}}}, {_describe_attributes(self.attributes)}" if self.attributes else f"{{{self.text}}}"


# What an attribute holds: a string ends with NUL, an int is 32 bits wide, a dictionary and a Body nest, and so does a
# list, each of whose members is one NFTA_LIST_ELEM.
Value = str | int | bytes | dict[str, "Value"] | list["Value"] | Body


class Message:
    """One request: `kind` is a name of MESSAGES, `flags` are names of FLAGS in that order."""

    __slots__ = ("body", "flags", "kind")

    def __init__(self, kind: str, flags: tuple[str, ...], body: Body) -> None:
        self.kind = kind
        self.flags = ("NLM_F_REQUEST", *flags)
        self.body = body

    def encode(self, sequence: int) -> bytes:
        payload = self.body.encode()
        flags = 0
        for name in self.flags:
            flags |= FLAGS[name]
        return HEADER.pack(HEADER.size + len(payload), MESSAGES[self.kind], flags, sequence, 0) + payload

    def __str__(self) -> str:
        return f"{{nlmsg_type={self.kind}, nlmsg_flags={'|'.join(self.flags)}}}, {self.body}"


class Netlink:
    """A netlink(7) socket of the network namespace that the calling thread is in. Raises OSError."""

    def __init__(self, protocol: int) -> None:
        self.protocol = {NETLINK_ROUTE: "NETLINK_ROUTE", NETLINK_NETFILTER: "NETLINK_NETFILTER"}[protocol]
        self.socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, protocol)
        self.sequence = 0
        # Bound now rather than by the first send, because strace(1) can only decode what a bound socket sends.
        self.socket.bind((0, 0))
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def request(self, message: Message) -> list[bytes]:
        """Send `message`, wait until it is done; the payloads of the answer. Raises OSError(errno, text)."""
        payloads, _ = self._request(message)
        return payloads

    def dump(self, message: Message) -> list[bytes]:
        """The payloads of all that a message with NLM_F_DUMP asks for. Raises OSError(errno, text)."""
        while True:
            payloads, interrupted = self._request(message)
            # Something was changed meanwhile: the list may lack what was there all the time.
            if not interrupted:
                return payloads

    def _request(self, message: Message) -> tuple[list[bytes], bool]:
        self.sequence += 1
        self.socket.send(message.encode(self.sequence))
        if record.lines is not None:
            record.made("sendto", [self.protocol, str(message)])
        payloads: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, payload in _split(self.socket.recv(BUFFER)):
                if sequence != self.sequence:
                    continue
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    # The end of a list has no explanation after its number.
                    if error := _error(flags if kind == NLMSG_ERROR else 0, payload):
                        raise error
                    return payloads, interrupted
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                payloads.append(payload)

    def transact(self, messages: list[Message]) -> None:
        """Send a batch of nfnetlink's, of which the kernel does all or nothing. Raises OSError(errno, text).

        The first and the last message are its frame; each of the others asks for an acknowledgement.
        """
        first = self.sequence + 1
        self.sequence += len(messages)
        self.socket.send(b"".join(message.encode(first + place) for place, message in enumerate(messages)))
        if record.lines is not None:
            record.made("sendto", [self.protocol, f"[{', '.join(f'[{message}]' for message in messages)}]"])
        waiting = set(range(first + 1, self.sequence))
        failure: OSError | None = None
        while waiting:
            for kind, flags, sequence, payload in _split(self.socket.recv(BUFFER)):
                error = _error(flags, payload) if kind == NLMSG_ERROR else None
                # The frame itself is only answered when it is refused, and then nothing else is.
                if sequence == first and error:
                    raise error
                if sequence in waiting:
                    waiting.discard(sequence)
                    failure = failure or error
        if failure:
            raise failure


def socket_in_namespace(netns: int) -> Netlink:
    """A NETLINK_ROUTE socket of the network namespace `netns` (a descriptor); the calling thread is back in its own.

    Raises OSError; one from the second setns(2) means that the thread stays where it must not be: end the process.
    """
    # Of the thread, because setns(2) moves one thread, and /proc/self is the process's first.
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    record.name(own, "own network")
    record.name(netns, "the container's network")
    try:
        setns(netns, CLONE_NEWNET)
        try:
            found = Netlink(NETLINK_ROUTE)
            record.made("socket", ["AF_NETLINK", "SOCK_RAW|SOCK_CLOEXEC", found.protocol])
            return found
        finally:
            setns(own, CLONE_NEWNET)
    finally:
        os.close(own)


class Link:
    """What RTM_GETLINK says of a network device. `kind` is its driver's name ("bridge", "veth") or empty.

    `up` is what an administrator wants (IFF_UP), `running` what the kernel has made of it (IF_OPER_UP).
    """

    __slots__ = ("index", "kind", "master", "mtu", "name", "running", "up")

    def __init__(self, payload: bytes) -> None:
        _, _, self.index, flags, _ = IFINFOMSG.unpack_from(payload)
        attributes = parse_attributes(payload[IFINFOMSG.size :])
        info = parse_attributes(attributes.get(ATTRIBUTES["IFLA_LINKINFO"], b""))
        self.up = bool(flags & IFF_UP)
        self.running = attributes.get(ATTRIBUTES["IFLA_OPERSTATE"]) == bytes((IF_OPER_UP,))
        self.name = attributes[ATTRIBUTES["IFLA_IFNAME"]].rstrip(b"\0").decode()
        self.kind = info.get(ATTRIBUTES["IFLA_INFO_KIND"], b"").rstrip(b"\0").decode()
        self.mtu = int.from_bytes(attributes.get(ATTRIBUTES["IFLA_MTU"], b""), sys.byteorder)
        self.master = int.from_bytes(attributes.get(ATTRIBUTES["IFLA_MASTER"], b""), sys.byteorder)


def get_link(name: str) -> Message:
    """Look a link up by its name; the answer is one payload for Link, or ENODEV."""
    body = _link({"IFLA_IFNAME": name, "IFLA_EXT_MASK": RTEXT_FILTER_SKIP_STATS})
    return Message("RTM_GETLINK", ("NLM_F_ACK",), body)


def new_veth(name: str, master: int, mtu: int, peer: str, peer_address: bytes, netns: int) -> Message:
    """A veth(4) pair: `name` here, up, a port of the bridge with index `master`; `peer` in the namespace `netns`, down.

    One message for all of it: made here and moved afterwards, the pair costs five times as much. Only the peer's
    IFF_UP cannot be in it: the kernel would open the peer before it knows its other end (ENOTCONN).
    """
    far_end: dict[str, Value] = {
        "IFLA_IFNAME": peer,
        "IFLA_MTU": mtu,
        "IFLA_ADDRESS": peer_address,
        "IFLA_NET_NS_FD": netns,
    }
    near_end: dict[str, Value] = {
        "IFLA_IFNAME": name,
        "IFLA_MTU": mtu,
        "IFLA_MASTER": master,
        "IFLA_LINKINFO": {"IFLA_INFO_KIND": "veth", "IFLA_INFO_DATA": {"VETH_INFO_PEER": _link(far_end)}},
    }
    return Message("RTM_NEWLINK", ("NLM_F_ACK", "NLM_F_EXCL", "NLM_F_CREATE"), _link(near_end, up=True))


def set_link_up(index: int) -> Message:
    return Message("RTM_NEWLINK", ("NLM_F_ACK",), _link({}, index, up=True))


def del_link(name: str) -> Message:
    return Message("RTM_DELLINK", ("NLM_F_ACK",), _link({"IFLA_IFNAME": name}))


def new_address(index: int, address: bytes, prefix_length: int, there: str = "NLM_F_EXCL") -> Message:
    """An IPv4 address on a link, with its subnet's broadcast address. `there` may be NLM_F_REPLACE."""
    host_bits = (1 << 32 - prefix_length) - 1
    broadcast = (int.from_bytes(address, "big") | host_bits).to_bytes(4, "big")
    body = Body(
        IFADDRMSG.pack(_socket.AF_INET, prefix_length, 0, 0, index),
        f"ifa_family=AF_INET, ifa_prefixlen={prefix_length}, ifa_index={index}",
        {"IFA_LOCAL": address, "IFA_ADDRESS": address, "IFA_BROADCAST": broadcast},
    )
    return Message("RTM_NEWADDR", ("NLM_F_ACK", there, "NLM_F_CREATE"), body)


def get_addresses() -> Message:
    """List the IPv4 addresses of all links, for Netlink.dump; each payload of the answer is one for `parse_address`."""
    body = Body(IFADDRMSG.pack(_socket.AF_INET, 0, 0, 0, 0), "ifa_family=AF_INET", {})
    return Message("RTM_GETADDR", ("NLM_F_DUMP",), body)


def parse_address(payload: bytes) -> tuple[int, bytes, int]:
    """The index of the link, its address, and the length of its prefix in bits."""
    _, prefix_length, _, _, index = IFADDRMSG.unpack_from(payload)
    attributes = parse_attributes(payload[IFADDRMSG.size :])
    return index, attributes.get(ATTRIBUTES["IFA_LOCAL"], b""), prefix_length


def new_default_route(gateway: bytes) -> Message:
    """The IPv4 default route; the kernel finds the link through which `gateway` is reached."""
    body = Body(
        RTMSG.pack(_socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0),
        "rtm_family=AF_INET, rtm_dst_len=0, rtm_table=RT_TABLE_MAIN, rtm_protocol=RTPROT_BOOT, rtm_type=RTN_UNICAST",
        {"RTA_GATEWAY": gateway},
    )
    return Message("RTM_NEWROUTE", ("NLM_F_ACK", "NLM_F_EXCL", "NLM_F_CREATE"), body)


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in `data`, by their type numbers."""
    return dict(list_attributes(data))


def list_attributes(data: bytes) -> list[tuple[int, bytes]]:
    """The attributes in `data` in their order, where one type may occur several times."""
    attributes = []
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        attributes.append((kind & NLA_TYPE_MASK, data[offset + ATTRIBUTE.size : offset + length]))
        offset += _aligned(max(length, ATTRIBUTE.size))
    return attributes


def _link(attributes: dict[str, Value], index: int = 0, up: bool = False) -> Body:
    text = f"ifi_index={index}" + (", ifi_flags=IFF_UP, ifi_change=0x1" if up else "")
    flags = IFF_UP if up else 0
    return Body(IFINFOMSG.pack(_socket.AF_UNSPEC, 0, index, flags, flags), text, attributes)


def _encode_attributes(attributes: dict[str, Value]) -> bytes:
    return _encode_pairs(attributes.items())


def _encode_pairs(pairs: Iterable[tuple[str, Value]]) -> bytes:
    parts = []
    for name, value in pairs:
        data = _encode_value(value)
        kind = ATTRIBUTES[name] | (NLA_F_NESTED if name in NESTED else 0)
        length = ATTRIBUTE.size + len(data)
        parts.append(ATTRIBUTE.pack(length, kind) + data + bytes(_aligned(length) - length))
    return b"".join(parts)


def _encode_value(value: Value) -> bytes:
    if isinstance(value, str):
        return value.encode() + b"\0"
    if isinstance(value, int):
        return struct.pack("=I", value)
    if isinstance(value, dict):
        return _encode_attributes(value)
    if isinstance(value, list):
        return _encode_pairs(("NFTA_LIST_ELEM", member) for member in value)
    if isinstance(value, Body):
        return value.encode()
    return value


def _describe_attributes(attributes: dict[str, Value]) -> str:
    return "{" + ", ".join(f"{name}={_describe_value(name, value)}" for name, value in attributes.items()) + "}"


def _describe_value(name: str, value: Value) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return _describe_attributes(value)
    if isinstance(value, list):
        return "[" + ", ".join(_describe_value("NFTA_LIST_ELEM", member) for member in value) + "]"
    if isinstance(value, Body):
        return f"{{{value}}}"
    if name in ADDRESSES and isinstance(value, bytes):
        return _describe_address(value)
    if isinstance(value, bytes):
        return value.hex(":") if name == "IFLA_ADDRESS" else '"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'
    if name == "IFLA_EXT_MASK":
        return "RTEXT_FILTER_SKIP_STATS"
    return str(value)


def _describe_address(value: bytes) -> str:
    if len(value) == 4:
        return f'inet_addr("{_socket.inet_ntoa(value)}")'
    return f'inet_pton(AF_INET6, "{_socket.inet_ntop(_socket.AF_INET6, value)}")'


def _split(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """The messages in one datagram: type, flags, sequence number, payload."""
    messages = []
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        messages.append((kind, flags, sequence, data[offset + HEADER.size : offset + length]))
        offset += _aligned(max(length, HEADER.size))
    return messages


def _error(flags: int, payload: bytes) -> OSError | None:
    """The OSError that an NLMSG_ERROR stands for; None for an acknowledgement, which is error 0."""
    number = -int.from_bytes(payload[:4], sys.byteorder, signed=True)
    if number == 0:
        return None
    text = os.strerror(number)
    if flags & NLM_F_ACK_TLVS:
        # The refused message comes back before the explanation, all of it or, if capped, its header.
        echoed = HEADER.size if flags & NLM_F_CAPPED else HEADER.unpack_from(payload, 4)[0]
        attributes = parse_attributes(payload[4 + _aligned(echoed) :])
        if explanation := attributes.get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace"):
            text += f" ({explanation})"
    return OSError(number, text)


def _aligned(length: int) -> int:
    return length + 3 & ~3
