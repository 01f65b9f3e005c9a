"""The bytes of netlink messages, and how answers are read."""

from __future__ import annotations

import errno
import struct

import pytest

from pycontainer.errors import StepFailed
from pycontainer.kernel import netlink
from pycontainer.kernel.operation import Journal
from pycontainer.network.operations import CreateVeth, DeleteLink, FindLink, FindTable

IP_LINK_ADD_VETH = bytes.fromhex(
    # nlmsghdr: length 148, RTM_NEWLINK, REQUEST|ACK|EXCL|CREATE, sequence 7, port 0
    "94000000 1000 0506 07000000 00000000"
    # ifinfomsg: family, type, index 0, IFF_UP, change IFF_UP
    "00000000 00000000 01000000 01000000"
    # IFLA_IFNAME pyc0123456789ab
    "1400 0300 70796330313233343536373839616200"
    # IFLA_MTU 1400, IFLA_MASTER 5
    "0800 0400 78050000 0800 0a00 05000000"
    # IFLA_LINKINFO nested: IFLA_INFO_KIND veth (padded), IFLA_INFO_DATA nested: VETH_INFO_PEER
    "5000 1280 0900 0100 7665746800 000000 4000 0280 3c00 0100"
    # the peer's ifinfomsg
    "00000000 00000000 00000000 00000000"
    # IFLA_IFNAME eth0 (padded), IFLA_MTU 1400, IFLA_ADDRESS (padded), IFLA_NET_NS_FD 9
    "0900 0300 6574683000 000000 0800 0400 78050000 0a00 0100 02420a630002 0000 0800 1c00 09000000"
)


def veth() -> netlink.Message:
    return netlink.new_veth("pyc0123456789ab", 5, 1400, "eth0", bytes.fromhex("02420a630002"), 9)


def test_veth_message_is_byte_for_byte_what_the_kernel_expects() -> None:
    assert veth().encode(7) == IP_LINK_ADD_VETH


def test_veth_message_explains_itself() -> None:
    text = str(veth())
    assert "nlmsg_type=RTM_NEWLINK, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_EXCL|NLM_F_CREATE" in text
    assert 'IFLA_IFNAME="pyc0123456789ab", IFLA_MTU=1400, IFLA_MASTER=5' in text
    assert 'VETH_INFO_PEER={{ifi_index=0}, {IFLA_IFNAME="eth0", IFLA_MTU=1400, IFLA_ADDRESS=02:42:0a:63:00:02, ' in text
    assert "IFLA_NET_NS_FD=9" in text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (netlink.get_link("lo"), "30000000120005000100000000000000 00000000000000000000000000000000"
         "07000300 6c6f0000 08001d00 08000000"),
        (netlink.set_link_up(1), "20000000100005000100000000000000 00000000010000000100000001000000"),
        (netlink.del_link("pyc0"), "2c000000110005000100000000000000 00000000000000000000000000000000"
         "09000300 7079633000000000"),
        (netlink.new_address(2, b"\x0a\x63\x00\x02", 20), "30000000140005060100000000000000 0214000002000000"
         "08000200 0a630002 08000100 0a630002 08000400 0a630fff"),
        (netlink.new_default_route(b"\x0a\x63\x00\x01"), "24000000180005060100000000000000 02000000fe030001 00000000"
         "08000500 0a630001"),
        (netlink.get_table("x"), "1c000000010a05000100000000000000 02000000 06000100 78000000"),
    ],
)  # fmt: skip
def test_message_bytes(message: netlink.Message, expected: str) -> None:
    assert message.encode(1) == bytes.fromhex(expected)


def test_prefix_lengths_at_the_ends_give_broadcast_addresses() -> None:
    assert netlink.new_address(1, b"\x0a\x00\x00\x01", 32).body.attributes["IFA_BROADCAST"] == b"\x0a\x00\x00\x01"
    assert netlink.new_address(1, b"\x0a\x00\x00\x01", 8).body.attributes["IFA_BROADCAST"] == b"\x0a\xff\xff\xff"


class FakeSocket:
    """Answers every request with the datagrams it was given."""

    def __init__(self, *datagrams: bytes) -> None:
        self.datagrams = list(datagrams)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        return self.datagrams.pop(0)


def answering(*datagrams: bytes) -> netlink.Netlink:
    client = netlink.Netlink.__new__(netlink.Netlink)
    client.socket = FakeSocket(*datagrams)  # type: ignore[assignment]
    client.sequence = 0
    return client


def message(kind: int, payload: bytes, sequence: int = 1, flags: int = 0) -> bytes:
    data = struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload
    return data + bytes(-len(data) % 4)


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def refusal(number: int, explanation: str = "", capped: bool = False) -> bytes:
    request = message(16, b"abcd" * 3)
    payload = struct.pack("=i", -number) + (request[:16] if capped else request)
    if not explanation:
        return message(netlink.NLMSG_ERROR, payload)
    flags = netlink.NLM_F_ACK_TLVS | (netlink.NLM_F_CAPPED if capped else 0)
    return message(netlink.NLMSG_ERROR, payload + attribute(1, explanation.encode() + b"\0"), flags=flags)


ACK = message(netlink.NLMSG_ERROR, bytes(20))


def test_acknowledgement_ends_a_request() -> None:
    assert answering(ACK).request(netlink.set_link_up(1)) == []


def test_answers_to_an_older_request_are_passed_over() -> None:
    client = answering(message(16, b"old!", sequence=0) + message(16, b"new!"), ACK)
    assert client.request(netlink.get_link("lo")) == [b"new!"]


@pytest.mark.parametrize("capped", [False, True])
def test_refusal_carries_the_kernels_explanation(capped: bool) -> None:
    with pytest.raises(OSError, match=r"Unknown device type") as caught:
        answering(refusal(errno.EOPNOTSUPP, "Unknown device type", capped)).request(veth())
    assert caught.value.errno == errno.EOPNOTSUPP


def test_refusal_without_an_explanation() -> None:
    with pytest.raises(FileExistsError) as caught:
        answering(refusal(errno.EEXIST)).request(veth())
    assert caught.value.strerror == "File exists"


def test_link_reads_the_attributes_it_needs() -> None:
    info = attribute(1, b"bridge\0")
    payload = struct.pack("=BxHiII", 0, 1, 42, 0x1003, 0) + attribute(3, b"pyc0\0")
    payload += attribute(4, struct.pack("=I", 1450)) + attribute(10, struct.pack("=I", 7)) + attribute(0x8012, info)
    link = netlink.Link(payload)
    assert (link.index, link.name, link.kind, link.mtu, link.master, link.up) == (42, "pyc0", "bridge", 1450, 7, True)


def test_truncated_attributes_do_not_hang() -> None:
    assert netlink.parse_attributes(b"\0\0\1\0\4\0\2\0\0") == {1: b"", 2: b""}


def create(client: netlink.Netlink) -> CreateVeth:
    return CreateVeth(client, "pyc0123456789ab", "pyc0", 5, 1500, b"\x02\x42\x0a\x63\0\2", 9)


@pytest.mark.parametrize(
    ("number", "explanation", "hint"),
    [
        (errno.EPERM, "", "root"),
        (errno.EOPNOTSUPP, "Unknown device type", "modprobe veth"),
        (errno.EINVAL, "", ""),
    ],
)
def test_refused_veth_says_what_can_be_done(number: int, explanation: str, hint: str) -> None:
    with pytest.raises(StepFailed) as caught:
        Journal().perform(create(answering(refusal(number, explanation))))
    assert caught.value.errno == number
    assert caught.value.path == "pyc0123456789ab"
    assert hint in caught.value.hint
    assert bool(hint) == bool(caught.value.hint)


def test_refusal_passes_on_what_the_kernel_says() -> None:
    with pytest.raises(StepFailed) as caught:
        Journal().perform(create(answering(refusal(errno.EINVAL, "Device can not be enslaved"))))
    assert caught.value.cause == "invalid argument (Device can not be enslaved)"


def test_what_is_missing_is_an_answer_where_one_asks_for_it() -> None:
    assert FindLink(answering(refusal(errno.ENODEV)), "pyc0", "").execute() is None
    assert FindTable(answering(refusal(errno.ENOENT)), "pycontainer").execute() is False
    assert FindTable(answering(refusal(errno.EINVAL)), "pycontainer").execute() is False
    assert FindTable(answering(ACK), "pycontainer").execute() is True
    DeleteLink(answering(refusal(errno.ENODEV)), "pyc0", "").execute()
    with pytest.raises(PermissionError):
        FindTable(answering(refusal(errno.EPERM)), "pycontainer").execute()
