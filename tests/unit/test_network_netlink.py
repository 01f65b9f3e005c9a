"""The bytes of netlink messages, and how answers are read."""

from __future__ import annotations

import errno
import struct

import pytest

from pycontainer.errors import StepFailed
from pycontainer.kernel import netfilter, netlink, netlink_bridge, netlink_ipv6
from pycontainer.kernel.operation import Journal
from pycontainer.network.operations import CreateVeth, DeleteLink, FindLink, FindTable

ADDRESS = bytes((10, 99, 0, 2))

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
        # `bridge link set dev … hairpin on`
        # `ip link set … master …`, `ip -6 address replace fd00::2/64 nodad`, `ip -6 route add default via fd00::1`
        (
            netlink_bridge.set_master(3, 5),
            "28000000100005000100000000000000 00000000030000000000000000000000 08000a0005000000",
        ),
        (
            netlink_ipv6.new_address6(4, b"\xfd" + bytes(14) + b"\2", 64),
            "40000000140005050100000000000000 0a40020004000000"
            "14000200fd000000000000000000000000000002 14000100fd000000000000000000000000000002",
        ),
        (
            netlink_ipv6.new_default_route6(b"\xfd" + bytes(14) + b"\1"),
            "30000000180005060100000000000000 0a000000fe03000100000000 14000500fd000000000000000000000000000001",
        ),
        (netlink_bridge.set_hairpin(3), "2c000000130005000100000000000000 07000000030000000000000000000000"
         "0c000c80 05000400 01000000"),
        (netfilter.get_table("x"), "1c000000010a05000100000000000000 02000000 06000100 78000000"),
        # `nft add element ip T published { tcp . 81 : 10.99.0.2 . 80 }`, but for the flag that asks for an answer
        (netfilter.new_elements("T", "published", [(b"\6\0\0\0\0Q\0\0", b"\x0ac\0\2\0P\0\0")]),
         "540000000c0a05040100000000000000 02000000 06000100 54000000 0e000200 7075626c697368656400 0000 28000380"
         "24000180 10000180 0c000100 0600000000510000 10000280 0c000100 0a63000200500000"),
        (netfilter.del_elements("T", "m", [b"\6\0\0\0\0Q\0\0"]),
         "3c0000000e0a05000100000000000000 02000000 06000100 54000000 06000200 6d000000 18000380 14000180 10000180"
         "0c000100 0600000000510000"),
        (netfilter.get_elements("T", "m"), "240000000d0a01030100000000000000 02000000 06000100 54000000"
         "06000200 6d000000"),
        # `conntrack -L -p udp --orig-port-dst 53` of conntrack(8) filters by itself; this asks the kernel to
        (netfilter.get_flows_to(17, 53), "38000000010101030100000000000000 02000000 18000180 14000280 05000100 11000000"
         "06000300 00350000 0c001980 08000100 28000000"),
        (netfilter.get_flows_answered_by(ADDRESS), "38000000010101030100000000000000 02000000 10000280 0c000180"
         "08000100 0a630002 14001980 08000100 00000000 08000200 01000000"),
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


def table(comment: str) -> bytes:
    """What the kernel answers when one asks for a table, with its comment as nft stores it."""
    userdata = bytes((0, len(comment) + 1)) + comment.encode() + b"\0"
    return message(0xA00, bytes((2, 0, 0, 0)) + attribute(1, b"pycontainer\0") + attribute(6, userdata))


@pytest.mark.parametrize(
    ("answer", "current"),
    [
        (table("pycontainer, rules 2"), True),
        (table("pycontainer, rules 1"), False),
        (message(0xA00, bytes((2, 0, 0, 0)) + attribute(1, b"pycontainer\0")), False),
    ],
)
def test_a_table_of_other_rules_does_not_count(answer: bytes, current: bool) -> None:
    assert FindTable(answering(answer, ACK), "pycontainer", "pycontainer, rules 2").execute() is current


def done(number: int = 0) -> bytes:
    return message(netlink.NLMSG_DONE, struct.pack("=i", -number), flags=2)


def test_a_list_ends_where_it_says_so() -> None:
    client = answering(
        message(1, b"one!", flags=2) + message(1, b"two!", flags=2), message(1, b"last", flags=2), done()
    )
    assert client.dump(netfilter.get_elements("T", "m")) == [b"one!", b"two!", b"last"]


def test_a_list_that_was_changed_meanwhile_is_asked_for_again() -> None:
    interrupted = message(1, b"some", flags=2 | netlink.NLM_F_DUMP_INTR)
    client = answering(interrupted, done(), message(1, b"all!", sequence=2, flags=2) + message(3, bytes(4), sequence=2))
    assert client.dump(netfilter.get_elements("T", "m")) == [b"all!"]


def test_a_list_may_end_in_an_error() -> None:
    with pytest.raises(OSError, match="Interrupted"):
        answering(done(errno.EINTR)).dump(netfilter.get_elements("T", "m"))


def transaction() -> list[netlink.Message]:
    return netfilter.batch([netfilter.del_elements("T", name, [b"key!"]) for name in ("a", "b")], b"\0\0\0\7")


def test_a_transaction_is_one_datagram_with_a_frame() -> None:
    client = answering(message(netlink.NLMSG_ERROR, bytes(20), 2) + message(netlink.NLMSG_ERROR, bytes(20), 3))
    client.transact(transaction())
    (sent,) = client.socket.sent  # type: ignore[attr-defined]
    assert sent.startswith(bytes.fromhex("1c000000 1000 0100 01000000 00000000 0000000a 08000100 00000007"))
    assert sent.endswith(bytes.fromhex("14000000 1100 0100 04000000 00000000 0000000a"))


@pytest.mark.parametrize(
    ("sequence", "number"),
    [(1, errno.ERESTART), (2, errno.ENOENT), (3, errno.ENOENT)],
    ids=["frame", "first", "second"],
)
def test_a_transaction_that_is_refused(sequence: int, number: int) -> None:
    answers = [message(netlink.NLMSG_ERROR, bytes(20), each) for each in (2, 3) if each != sequence and sequence != 1]
    refused = message(netlink.NLMSG_ERROR, struct.pack("=i", -number) + bytes(16), sequence)
    with pytest.raises(OSError) as caught:
        answering(refused, *answers).transact(transaction())
    assert caught.value.errno == number


def test_elements_are_read_back_as_they_were_written() -> None:
    pairs = [(b"\6\0\0\0\0Q\0\0", b"\x0ac\0\2\0P\0\0"), (b"key4", b"val4")]
    assert netfilter.parse_elements(netfilter.new_elements("T", "m", pairs).encode(1)[16:]) == pairs


def test_what_is_missing_is_an_answer_where_one_asks_for_it() -> None:
    assert FindLink(answering(refusal(errno.ENODEV)), "pyc0", "").execute() is None
    assert FindTable(answering(refusal(errno.ENOENT)), "pycontainer", "").execute() is False
    assert FindTable(answering(refusal(errno.EINVAL)), "pycontainer", "").execute() is False
    DeleteLink(answering(refusal(errno.ENODEV)), "pyc0", "").execute()
    with pytest.raises(PermissionError):
        FindTable(answering(refusal(errno.EPERM)), "pycontainer", "").execute()
