"""Published ports, in network namespaces of the test's own: host, containers, and a neighbour on the host's LAN.

neighbour 192.0.2.9 ═══ 192.0.2.1 host 10.99.0.1 ═══ 10.99.0.2 first container
                                                 ╘══ 10.99.0.3 second container
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bridges import ensure_bridge

from pycontainer.errors import PycontainerError, StepFailed
from pycontainer.kernel.namespace import CLONE_NEWNET, setns, unshare
from pycontainer.kernel.netfilter import Flow, get_flows_to
from pycontainer.kernel.netlink import NETLINK_NETFILTER, Netlink
from pycontainer.kernel.operation import Journal, Operation
from pycontainer.network import lease, ports, rules
from pycontainer.network.attach import attach
from pycontainer.network.publication import ANY, Binding, Publication, Wanted

BRIDGE = "pyct0"
TABLE = "pycontainer_pyct0"
HOST = "192.0.2.1"
NEIGHBOUR = "192.0.2.9"
GATEWAY = "10.99.0.1"
FIRST, SECOND = "10.99.0.2", "10.99.0.3"
IDS = {FIRST: "a" * 64, SECOND: "b" * 64}
SOON = 0.4  # seconds; a packet that has not arrived by then was dropped

UDP = socket.SOCK_DGRAM
TCP = socket.SOCK_STREAM
TYPES = {"tcp": TCP, "udp": UDP}


def open_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def shell(command: str, netns: int | None = None) -> str:
    """Run a shell line, in `netns` or here; its output."""
    arguments = ["sh", "-ec", command]
    if netns is not None:
        arguments = ["nsenter", f"--net=/proc/self/fd/{netns}", *arguments]
    descriptors = [] if netns is None else [netns]
    return subprocess.run(arguments, check=True, capture_output=True, text=True, pass_fds=descriptors).stdout


class Lan:
    """The namespaces: `host` is the one that the test runs in."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.host = open_namespace()
        self.connection = connection
        self.network, _ = ensure_bridge(Journal(), connection, BRIDGE)
        self.neighbour = self.new_namespace()
        shell(f"ip link add up0 type veth peer name eth0 netns /proc/{os.getpid()}/fd/{self.neighbour}")
        shell(f"ip address add {HOST}/24 dev up0; ip link set up0 up")
        shell(f"ip address add {NEIGHBOUR}/24 dev eth0; ip link set eth0 up; ip link set lo up", self.neighbour)
        self.containers = {address: self.start(address) for address in (FIRST, SECOND)}
        self.sockets: list[socket.socket] = []

    def new_namespace(self) -> int:
        unshare(CLONE_NEWNET)
        new = open_namespace()
        setns(self.host, CLONE_NEWNET)
        return new

    def start(self, address: str) -> int:
        netns = self.new_namespace()
        shell("ip link set lo up", netns)
        attach(Journal(), self.network, lease.Lease("bridge", address, IDS[address], "", "", "eth0", 1), netns)
        return netns

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        for descriptor in (self.host, self.neighbour, *self.containers.values()):
            os.close(descriptor)

    def socket(self, netns: int, kind: int, protocol: int = 0, family: int = socket.AF_INET) -> socket.socket:
        setns(netns, CLONE_NEWNET)
        try:
            new = socket.socket(family, kind, protocol)
        finally:
            setns(self.host, CLONE_NEWNET)
        new.settimeout(SOON)
        self.sockets.append(new)
        return new

    def serve(self, netns: int, port: int, kind: int = TCP, address: str = ANY) -> socket.socket:
        server = self.socket(netns, kind)
        server.bind((address, port))
        if kind == TCP:
            server.listen(16)
        return server

    def publish(self, *bindings: Binding, address: str = FIRST, journal: Journal | None = None) -> None:
        ports.publish(journal or Journal(), self.network, IDS[address], address, list(bindings))

    def seen(self, client: int, address: str, port: int, server: socket.socket) -> str:
        """Where what `client` sends comes from for `server`, and both directions work; "" if it does not arrive."""
        asking = self.socket(client, server.type)
        return converse(asking, (address, port), server)


def converse(asking: socket.socket, to: tuple[str, int], server: socket.socket) -> str:
    try:
        asking.connect(to)
        if server.type == UDP:
            asking.send(b"question")
            _, peer = server.recvfrom(64)
            server.sendto(b"answer", peer)
        else:
            answering, peer = server.accept()
            answering.sendall(b"answer")
            answering.close()
        return peer[0] if asking.recv(64) == b"answer" else ""
    except OSError:
        return ""


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    """The test process in an empty network namespace that plays the host."""
    own = open_namespace()
    unshare(CLONE_NEWNET)
    shell("ip link set lo up")
    yield
    setns(own, CLONE_NEWNET)
    os.close(own)


@pytest.fixture
def lan() -> Iterator[Lan]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(lease.SCHEMA)
    built = Lan(connection)
    yield built
    built.close()
    connection.close()


def elements() -> set[str]:
    return {str(publication) for publication in ports.find_published(Journal(), BRIDGE)}


def binding(host_port: int = 8080, port: int = 80, address: str = ANY, protocol: str = "tcp") -> Binding:
    return Binding(protocol, port, address, host_port)


WAYS = [
    # Who asks, where, and whom the container sees.
    ("host", "127.0.0.1", GATEWAY),
    ("host", "127.0.0.5", GATEWAY),
    ("host", HOST, HOST),
    ("host", GATEWAY, GATEWAY),
    ("neighbour", HOST, NEIGHBOUR),
    ("second", HOST, GATEWAY),
    ("second", GATEWAY, GATEWAY),
    ("first", HOST, GATEWAY),
    ("first", GATEWAY, GATEWAY),
]


def who(lan: Lan, name: str) -> int:
    return {
        "host": lan.host,
        "neighbour": lan.neighbour,
        "first": lan.containers[FIRST],
        "second": lan.containers[SECOND],
    }[name]


@pytest.mark.parametrize("filtered", [False, True], ids=["bridge", "br_netfilter"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_everybody_reaches_what_is_published(lan: Lan, protocol: str, filtered: bool) -> None:
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if setting.exists():
        setting.write_text(str(int(filtered)))
    elif filtered:
        pytest.skip("br_netfilter is not loaded")
    server = lan.serve(lan.containers[FIRST], 80, TYPES[protocol])
    lan.publish(binding(protocol=protocol))
    seen = [(name, address, lan.seen(who(lan, name), address, 8080, server)) for name, address, _ in WAYS]
    assert seen == WAYS


def test_nothing_else_is_published(lan: Lan) -> None:
    server = lan.serve(lan.containers[FIRST], 80)
    lan.publish(binding(), binding(5353, 80, protocol="udp"))
    assert not lan.seen(lan.neighbour, HOST, 80, server)
    assert not lan.seen(lan.neighbour, HOST, 5353, server)
    assert not lan.seen(lan.host, "127.0.0.1", 8081, server)


def arrives(lan: Lan, sender: str, packet: bytes, server: socket.socket) -> bool:
    """Whether the server gets a packet that `sender` puts on the wire to the host, whatever it is addressed to."""
    netns, link = (lan.neighbour, "up0") if sender == "neighbour" else (who(lan, sender), BRIDGE)
    wire = lan.socket(netns, socket.SOCK_DGRAM, socket.htons(0x0800), socket.AF_PACKET)
    wire.sendto(packet, ("eth0", 0x0800, 0, 0, mac_address(link)))
    ready, _, _ = select.select([server], [], [], SOON)
    return bool(ready) and bool(server.recv(64))


def mac_address(name: str) -> bytes:
    (link,) = json.loads(shell(f"ip -j link show dev {name}"))
    return bytes.fromhex(link["address"].replace(":", ""))


def datagram(source: str, target: str, port: int) -> bytes:
    """An IPv4 packet with a UDP datagram in it; the latter has no checksum."""
    udp = b"".join(number.to_bytes(2, "big") for number in (4000, port, 12, 0)) + b"text"
    head = bytes.fromhex("4500 0020 0000 0000 4011") + b"%b" + socket.inet_aton(source) + socket.inet_aton(target)
    words = struct.unpack(">10H", head.replace(b"%b", b"\0\0"))
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return head.replace(b"%b", ((total + (total >> 16)) & 0xFFFF ^ 0xFFFF).to_bytes(2, "big")) + udp


def test_localhost_means_this_host_only(lan: Lan) -> None:
    server = lan.serve(lan.containers[FIRST], 80, UDP)
    lan.publish(binding(address="127.0.0.1", protocol="udp"))
    assert lan.seen(lan.host, "127.0.0.1", 8080, server) == GATEWAY
    assert not lan.seen(lan.host, HOST, 8080, server)
    assert not lan.seen(lan.neighbour, HOST, 8080, server)
    assert not lan.seen(lan.containers[SECOND], GATEWAY, 8080, server)
    # What is addressed to 127.0.0.1 and comes over a wire.
    assert not arrives(lan, "neighbour", datagram(NEIGHBOUR, "127.0.0.1", 8080), server)
    assert not arrives(lan, "second", datagram(SECOND, "127.0.0.1", 8080), server)
    lan.publish(binding(8081, protocol="udp"))
    assert arrives(lan, "neighbour", datagram(NEIGHBOUR, HOST, 8081), server)


def test_a_neighbour_cannot_go_past_what_is_published(lan: Lan) -> None:
    published = lan.serve(lan.containers[FIRST], 80)
    private = lan.serve(lan.containers[FIRST], 81)
    lan.publish(binding(address="127.0.0.1"))
    shell(f"ip route add 10.99.0.0/20 via {HOST}", lan.neighbour)
    assert not lan.seen(lan.neighbour, FIRST, 80, published)
    assert not lan.seen(lan.neighbour, FIRST, 81, private)
    # Nor to what the host itself offers to containers.
    assert not lan.seen(lan.neighbour, GATEWAY, 90, lan.serve(lan.host, 90, address=GATEWAY))
    # While containers and host go there directly.
    assert lan.seen(lan.containers[SECOND], FIRST, 81, private) == SECOND
    assert lan.seen(lan.host, FIRST, 81, private) == GATEWAY


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [(SECOND, GATEWAY, True), (SECOND, "127.0.0.1", False), ("127.9.9.9", GATEWAY, False)],
)
def test_what_the_host_offers_itself_is_not_the_containers(lan: Lan, source: str, target: str, expected: bool) -> None:
    """Although 127.0.0.1 leads to the bridge now, it does not lead back; and nobody there passes for the host."""
    lan.publish(binding())
    server = lan.serve(lan.host, 514, UDP)
    # Where the kernel itself would refuse a part of it.
    for link in ("all", BRIDGE):
        shell(f"cd /proc/sys/net/ipv4/conf/{link}; echo 1 > accept_local; echo 0 > rp_filter")
    assert arrives(lan, "second", datagram(source, target, 514), server) == expected


def test_one_address_of_the_hosts(lan: Lan) -> None:
    shell("ip address add 192.0.2.2/24 dev up0")
    server, other = (lan.serve(lan.containers[address], 80) for address in (FIRST, SECOND))
    lan.publish(binding(address=HOST))
    lan.publish(binding(address="192.0.2.2"), address=SECOND)
    assert lan.seen(lan.neighbour, HOST, 8080, server) == NEIGHBOUR
    assert lan.seen(lan.neighbour, "192.0.2.2", 8080, other) == NEIGHBOUR
    assert not lan.seen(lan.host, "127.0.0.1", 8080, server)


def crc32c(data: bytes) -> int:
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def test_sctp_is_translated(lan: Lan) -> None:
    """By hand, because not every kernel has SCTP itself: an INIT chunk arrives with the container's port."""
    lan.publish(binding(9999, 36412, protocol="sctp"))
    arriving = lan.socket(lan.containers[FIRST], socket.SOCK_RAW, 132)
    chunk = b"\x01\0\0\x14" + bytes.fromhex("00000001 00010000 000a000a 00000001")
    head = (5000).to_bytes(2, "big") + (9999).to_bytes(2, "big") + bytes(4)
    packet = head + crc32c(head + bytes(4) + chunk).to_bytes(4, "little") + chunk
    lan.socket(lan.neighbour, socket.SOCK_RAW, 132).sendto(packet, (HOST, 0))
    received = arriving.recv(256)[20:]
    assert received[2:4] == (36412).to_bytes(2, "big")


def test_publishing_takes_no_program_and_no_heavy_import(lan: Lan) -> None:
    script = (
        "import sys\n"
        "from pycontainer.kernel.operation import Journal\n"
        "from pycontainer.network import ports\n"
        f"ports.unpublish(Journal(), {BRIDGE!r}, {FIRST!r})\n"
        "ports.reserve(Journal(), [ports.Wanted('tcp', 80)])\n"
        "print(*sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    heavy = {"pyroute2", "subprocess", "ipaddress", "socket", "json", "re", "pycontainer.network.rules", "enum"}
    assert heavy.isdisjoint(done.stdout.split())


def test_taking_back_leaves_what_is_others(lan: Lan) -> None:
    server = lan.serve(lan.containers[FIRST], 80)
    lan.publish(binding(), binding(8081, address="127.0.0.1"), binding(8082, 53, protocol="udp"))
    lan.publish(binding(9090), address=SECOND)
    ports.unpublish(Journal(), BRIDGE, [FIRST])
    assert elements() == {f"tcp . 9090 : {SECOND} . 80"}
    assert not lan.seen(lan.neighbour, HOST, 8080, server)
    ports.unpublish(Journal(), BRIDGE, [FIRST])
    ports.unpublish(Journal(), BRIDGE, [SECOND])
    assert elements() == set()


def test_taking_back_without_rules_is_no_failure(lan: Lan) -> None:
    lan.publish(binding())
    shell("nft flush ruleset")
    ports.unpublish(Journal(), BRIDGE, [FIRST])
    # Rules of an older version, which had no maps.
    shell(f"nft add table ip {TABLE}")
    ports.unpublish(Journal(), BRIDGE, [FIRST])
    with pytest.raises(StepFailed, match="flushed the nft rules"):
        lan.publish(binding())


def test_many_ports_at_once(lan: Lan) -> None:
    many = [binding(port, port) for port in range(20000, 21000)]
    lan.publish(*many)
    assert len(elements()) == 1000
    server = lan.serve(lan.containers[FIRST], 20999)
    assert lan.seen(lan.neighbour, HOST, 20999, server)
    ports.unpublish(Journal(), BRIDGE, [FIRST])
    assert elements() == set()


def test_what_a_killed_container_has_left_gives_way(lan: Lan) -> None:
    lan.publish(binding(), binding(8081))
    lan.publish(binding(port=8000), binding(8082), address=SECOND)
    expected = {f"tcp . 8080 : {SECOND} . 8000", f"tcp . 8082 : {SECOND} . 80", f"tcp . 8081 : {FIRST} . 80"}
    assert elements() == expected
    # And whoever puts it away now takes only its own.
    ports.unpublish(Journal(), BRIDGE, [FIRST])
    assert elements() == {element for element in expected if FIRST not in element}


class Meddling(Journal):
    """Changes the ruleset before an operation of a kind, once: as if somebody else had been there in between."""

    def __init__(self, kind: str, change: Callable[[], object]) -> None:
        super().__init__()
        self.kind = kind
        self.change = change
        self.steps: list[str] = []

    def perform(self, operation: Operation) -> object:
        name = type(operation).__name__
        if name == self.kind and self.kind not in self.steps:
            self.change()
        self.steps.append(name)
        return super().perform(operation)


def test_taking_back_while_another_takes_the_port_over(lan: Lan) -> None:
    lan.publish(binding())
    journal = Meddling("RemoveElements", lambda: lan.publish(binding(), address=SECOND))
    ports.unpublish(journal, BRIDGE, [FIRST])
    assert elements() == {f"tcp . 8080 : {SECOND} . 80"}
    assert journal.steps == ["ListElements", "RemoveElements", "ListElements"]


def test_publishing_while_what_is_left_is_taken_back(lan: Lan) -> None:
    lan.publish(binding())

    class TakesBack(Meddling):
        def perform(self, operation: Operation) -> object:
            # Behind the look at what is in the way.
            result = super().perform(operation)
            if type(operation).__name__ == "ListElements":
                ports.unpublish(Journal(), BRIDGE, [FIRST])
            return result

    journal = TakesBack("", lambda: None)
    lan.publish(binding(), address=SECOND, journal=journal)
    assert elements() == {f"tcp . 8080 : {SECOND} . 80"}
    assert journal.steps.count("AddElements") == 3


def test_udp_that_keeps_coming_follows_the_container(lan: Lan) -> None:
    first, second = (lan.serve(lan.containers[address], 80, UDP) for address in (FIRST, SECOND))
    sender = lan.socket(lan.neighbour, UDP)
    sender.connect((HOST, 8080))
    published = binding(protocol="udp")

    def follows(server: socket.socket) -> bool:
        try:
            sender.send(b"text")
        except ConnectionRefusedError:
            sender.send(b"text")  # that was said of the one before
        ready, _, _ = select.select([server], [], [], SOON)
        return bool(ready) and bool(server.recv(64))

    assert not follows(first)
    lan.publish(published)
    assert follows(first)
    # The next container has the address, and has published nothing.
    ports.unpublish(Journal(), BRIDGE, [FIRST])
    assert not follows(first)
    lan.publish(published, address=SECOND)
    assert follows(second)


def test_flows_that_only_pass_through_are_left_alone(lan: Lan) -> None:
    resolver = lan.serve(lan.neighbour, 53, UDP)
    assert lan.seen(lan.containers[SECOND], NEIGHBOUR, 53, resolver) == HOST
    lan.seen(lan.neighbour, HOST, 53, lan.serve(lan.host, 53, UDP))
    assert flows_to(53) == {NEIGHBOUR, HOST}
    lan.publish(binding(53, 53, protocol="udp"))
    assert flows_to(53) == {NEIGHBOUR}


def flows_to(port: int) -> set[str]:
    with Netlink(NETLINK_NETFILTER) as netlink:
        return {Flow(payload).address for payload in netlink.dump(get_flows_to(17, port))}


OLD_PROGRAM = f"""
add table ip {TABLE}
add chain ip {TABLE} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
add rule ip {TABLE} postrouting ip saddr 10.99.0.0/20 oifname != "{BRIDGE}" masquerade
"""


@pytest.mark.parametrize("before", ["flush ruleset", f"delete table ip {TABLE}{OLD_PROGRAM}"], ids=["none", "older"])
def test_rules_made_anew_publish_what_was_published(lan: Lan, before: str) -> None:
    published = [binding(), binding(8081, address="127.0.0.1"), binding(53, 53, protocol="udp")]
    lan.publish(*published)
    server = lan.serve(lan.containers[FIRST], 80)
    expected = elements()
    rules.run_nft(["-f", "-"], before)
    assert not lan.seen(lan.neighbour, HOST, 8080, server)
    assert elements() == set()
    ensure_bridge(Journal(), lan.connection, BRIDGE, lambda _: [Publication(each, FIRST) for each in published])
    assert elements() == expected
    assert lan.seen(lan.neighbour, HOST, 8080, server)
    assert lan.seen(lan.host, "127.0.0.1", 8081, server)
    # And those are kept from now on.
    ensure_bridge(Journal(), lan.connection, BRIDGE)
    assert elements() == expected


class Shell(Journal):
    """Runs the shell line of every operation that changes something, in place of the operation."""

    def perform(self, operation: Operation) -> object:
        if type(operation).__name__.startswith(("Find", "List", "Read", "Reserve", "ForgetFlows")):
            return super().perform(operation)
        shell(operation.shell())
        return None


def test_shell_lines_do_the_same(lan: Lan) -> None:
    published = [binding(), binding(8081, address="127.0.0.1"), binding(53, 53, protocol="udp")]
    states = []
    for journal in (Journal(), Shell()):
        shell(
            f"bridge link set dev pyc{'a' * 12} hairpin off; echo 0 > /proc/sys/net/ipv4/conf/{BRIDGE}/route_localnet"
        )
        lan.publish(*published, journal=journal)
        states.append(
            shell(f"nft list table ip {TABLE}; bridge -d link show; cat /proc/sys/net/ipv4/conf/*/route_localnet")
        )
        ports.unpublish(journal, BRIDGE, [FIRST])
        assert elements() == set()
    assert states[0] == states[1]
    assert "hairpin on" in states[0]


# Reserving.


def held(*wanted: Wanted) -> list[str]:
    reserved = ports.reserve(Journal(), list(wanted))
    reserved.close()
    return list(map(str, reserved.bindings))


def test_ports_that_are_asked_for() -> None:
    assert held(Wanted("tcp", 80, ANY, 8080, 8080), Wanted("udp", 80, "127.0.0.1", 8080, 8080)) == [
        "0.0.0.0:8080->80/tcp",
        "127.0.0.1:8080->80/udp",
    ]


def test_any_port_is_one_that_is_free() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    reserved = ports.reserve(Journal(), [Wanted(protocol, 80) for protocol in ("tcp", "udp") for _ in range(50)])
    chosen = {(each.protocol, each.host_port) for each in reserved.bindings}
    assert len(chosen) == 100
    assert len(reserved.bindings) == 200, "each of them of IPv4 and of IPv6"
    assert all(low <= port <= high for _, port in chosen)
    reserved.close()


def test_the_first_of_a_range_that_is_free() -> None:
    first = ports.reserve(Journal(), [Wanted("tcp", 80, ANY, 8000, 8001)])
    second = ports.reserve(Journal(), [Wanted("tcp", 80, ANY, 8000, 8001)])
    assert [each.bindings[0].host_port for each in (first, second)] == [8000, 8001]
    with pytest.raises(ports.PortTaken, match="8000/tcp: address already in use"):
        ports.reserve(Journal(), [Wanted("tcp", 80, ANY, 8000, 8001)])
    # Whoever has a choice leaves the only one to who has none.
    first.close()
    assert held(Wanted("tcp", 80, ANY, 8000, 8002), Wanted("tcp", 81, ANY, 8000, 8000)) == [
        "0.0.0.0:8002->80/tcp",
        "0.0.0.0:8000->81/tcp",
    ]
    second.close()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", [ANY, "127.0.0.1"])
@pytest.mark.parametrize("option", [0, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
@pytest.mark.parametrize("host_port", [8080, 0])
def test_nobody_else_gets_a_reserved_port(protocol: str, address: str, option: int, host_port: int) -> None:
    reserved = ports.reserve(Journal(), [Wanted(protocol, 80, ANY, host_port, host_port)])
    port = reserved.bindings[0].host_port
    with socket.socket(socket.AF_INET, TYPES[protocol]) as other:
        if option:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind((address, port))
        reserved.close()
        other.bind((address, port))


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("option", [0, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_nobody_else_gets_a_reserved_port_of_ipv6(protocol: str, option: int) -> None:
    reserved = ports.reserve(Journal(), [Wanted(protocol, 80, first=8080, last=8080)])
    assert list(map(str, reserved.bindings)) == [f"{ANY}:8080->80/{protocol}", f"[::]:8080->80/{protocol}"]
    with socket.socket(socket.AF_INET6, TYPES[protocol]) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if option:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(("::1", 8080))
        reserved.close()
        other.bind(("::1", 8080))


def test_one_socket_for_all_addresses() -> None:
    """A process may have a thousand open files, and a container a thousand ports."""
    reserved = ports.reserve(Journal(), [Wanted(protocol, 80, first=8080, last=8080) for protocol in ("tcp", "udp")])
    sockets = reserved.detach()
    for each in sockets:
        os.close(each)
    assert (len(reserved.bindings), len(sockets)) == (4, 2)


def test_a_port_that_is_free_of_ipv4_only() -> None:
    with socket.create_server(("::1", 8000), family=socket.AF_INET6):
        with pytest.raises(ports.PortTaken, match=r"0\.0\.0\.0:8000/tcp: address already in use by .*\(pid \d+\)"):
            ports.reserve(Journal(), [Wanted("tcp", 80, first=8000, last=8000)])
        assert held(Wanted("tcp", 80, first=8000, last=8001)) == ["0.0.0.0:8001->80/tcp", "[::]:8001->80/tcp"]
        assert held(Wanted("tcp", 80, ANY, 8000, 8000), Wanted("tcp", 80, "::1", 8001, 8001))


def test_a_host_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    execute = ports.ReservePort.execute

    def refuse(self: ports.ReservePort) -> object:
        if self.host_address != ANY:
            raise OSError(errno.EAFNOSUPPORT, "")
        return execute(self)

    monkeypatch.setattr(ports.ReservePort, "execute", refuse)
    assert held(Wanted("tcp", 80, first=8080, last=8080)) == ["0.0.0.0:8080->80/tcp"]
    with pytest.raises(StepFailed, match=r"reserve port: \[::1\]:8080/tcp: address family not supported"):
        held(Wanted("tcp", 80, "::1", 8080, 8080))


def test_a_reserved_port_does_not_answer() -> None:
    reserved = ports.reserve(Journal(), [Wanted("tcp", 80, ANY, 8080, 8080)])
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", 8080))
    reserved.close()


def test_connections_of_a_server_that_has_ended_are_not_in_the_way() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 8080))
        server.listen()
        client.connect(("127.0.0.1", 8080))
        answering, _ = server.accept()
        # Who closes first is left in TIME_WAIT.
        answering.close()
    assert held(Wanted("tcp", 80, ANY, 8080, 8080))


@pytest.mark.parametrize(
    ("protocol", "family", "address"),
    [("tcp", socket.AF_INET, "127.0.0.1"), ("tcp", socket.AF_INET6, "::"), ("udp", socket.AF_INET, "0.0.0.0")],
)
def test_a_port_that_a_process_has_is_an_error_that_names_it(protocol: str, family: int, address: str) -> None:
    with socket.socket(family, TYPES[protocol]) as server:
        server.bind((address, 8080))
        if protocol == "tcp":
            server.listen()
        comm = Path("/proc/self/comm").read_text().strip()
        with pytest.raises(ports.PortTaken) as caught:
            ports.reserve(Journal(), [Wanted(protocol, 80), Wanted(protocol, 80, first=8080, last=8080)])
    assert caught.value.message == (
        f"publish port: 0.0.0.0:8080/{protocol}: address already in use by {comm} (pid {os.getpid()})"
    )


def test_after_a_failure_nothing_is_reserved() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StepFailed, match=r"reserve port: 192\.0\.2\.77:80/tcp: cannot assign requested address"):
        ports.reserve(Journal(), [Wanted("tcp", 80, ANY, 8080, 8080), Wanted("tcp", 80, "192.0.2.77", 80, 80)])
    assert os.listdir("/proc/self/fd") == before
    assert held(Wanted("tcp", 80, ANY, 8080, 8080))


def test_a_killed_monitor_leaves_elements_and_no_socket(lan: Lan) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            reserved = ports.reserve(Journal(), [Wanted("tcp", 80, ANY, 8080, 8080)])
            lan.publish(*reserved.bindings)
            os.write(write, b"x")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(write)
    assert os.read(read, 1)
    os.close(read)
    with pytest.raises(PycontainerError):
        held(Wanted("tcp", 80, ANY, 8080, 8080))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert elements() == {f"tcp . 8080 : {FIRST} . 80"}
    assert held(Wanted("tcp", 80, ANY, 8080, 8080))
    ports.unpublish(Journal(), BRIDGE, [FIRST])
    assert elements() == set()
