"""Who reaches a port of a container's: host, its network, another network, the host's neighbour; by tcp and udp."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import Pycontainer, end_processes

# What the host and its neighbour call each other: TEST-NET-2, RFC 5737.
HOST, NEIGHBOUR = "198.51.100.1", "198.51.100.2"
HOST6, NEIGHBOUR6 = "2001:db8:5::1", "2001:db8:5::2"  # RFC 3849
PORT = 80

# Answers each client with its address, by both protocols, until it is ended.
SERVER = """
import select, socket, sys
port = int(sys.argv[1])
tcp = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
udp.bind(("", port))
print("ready", flush=True)
while True:
    for ready in select.select([tcp, udp], [], [])[0]:
        if ready is tcp:
            connection, peer = tcp.accept()
            connection.sendall(peer[0].removeprefix('::ffff:').encode())
            connection.close()
        else:
            _, peer = udp.recvfrom(10)
            udp.sendto(peer[0].removeprefix('::ffff:').encode(), peer)
"""

# Asks all places at once: which of them have answered, and as whom each has seen it.
CLIENT = """
import concurrent.futures, json, socket, sys
def ask(place):
    protocol, address, port = place
    try:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as client:
            client.settimeout(1.5)
            client.connect((address, port))
            if protocol == "udp":
                client.send(b"x")
            return client.recv(99).decode()
    except OSError:
        return ""
places = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(places)) as threads:
    print(json.dumps(list(threads.map(ask, places))))
"""


@pytest.fixture
def neighbour() -> Iterator[int]:
    """A machine next to this one, in a network namespace: the process that holds that."""
    script = "import time; print(flush=True); time.sleep(600)"
    with subprocess.Popen(["unshare", "--net", sys.executable, "-IS", "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        link = f"out{os.getpid() % 100000}"
        try:
            shell(f"ip link add {link} type veth peer name up0 netns {holder.pid}")
            shell(f"ip address add {HOST}/30 dev {link}; ip -6 address add {HOST6}/64 dev {link} nodad")
            shell(f"ip link set {link} up")
            inside = f"nsenter -t {holder.pid} -n ip"
            shell(f"{inside} address add {NEIGHBOUR}/30 dev up0; {inside} -6 address add {NEIGHBOUR6}/64 dev up0 nodad")
            shell(f"{inside} link set up0 up; {inside} link set lo up")
            # It knows the way to everything behind this host.
            shell(f"{inside} route add default via {HOST}; {inside} -6 route add default via {HOST6}")
            yield holder.pid
        finally:
            holder.send_signal(signal.SIGKILL)
            subprocess.run(["ip", "link", "delete", link], stderr=subprocess.DEVNULL)


def shell(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True)


class Net:
    def __init__(self, pycontainer: Pycontainer, neighbour: int, network: tuple[str, ...]) -> None:
        """network: options of the one that the server is in."""
        self.pycontainer = pycontainer
        for name, *options in (("one", *network), ("two",)):
            pycontainer("network", "create", *options, name, check=True)
        published = [
            f"{address}0:{PORT}/{protocol}" for address in ("", "127.0.0.1:", "[::1]:") for protocol in ("tcp", "udp")
        ]
        options = [word for text in published for word in ("-p", text)]
        self.start("server", "--network", "one", *options)
        self.start("friend", "--network", "one")
        self.start("stranger", "--network", "two")
        self.start("default")
        self.processes = {"host": os.getpid(), "neighbour": neighbour}
        self.processes |= {
            name: self.inspect(name)["State"]["Pid"] for name in ("server", "friend", "stranger", "default")
        }
        inside = self.inspect("server")["NetworkSettings"]["Networks"]["one"]
        self.address, self.address6 = inside["IPAddress"], inside["GlobalIPv6Address"]

    def start(self, name: str, *options: str) -> None:
        self.pycontainer("run", "-d", "--name", name, *options, "busybox", "sleep", "1000", check=True)

    def inspect(self, name: str) -> dict:
        (found,) = json.loads(self.pycontainer("inspect", name, check=True).stdout)
        return found

    def gateway(self, network: str) -> str:
        (found,) = json.loads(self.pycontainer("network", "inspect", network, check=True).stdout)
        return found["IPAM"]["Config"][0]["Gateway"]

    def port(self, protocol: str, address: str) -> int:
        """Of the host's, where the server's port is published at that address of the host's."""
        bound = self.inspect("server")["NetworkSettings"]["Ports"][f"{PORT}/{protocol}"]
        return next(int(each["HostPort"]) for each in bound if each["HostIp"] == address)

    def ask(self, who: str, places: list[tuple[str, str, int]]) -> list[str]:
        """As whom each place has seen it, "" where it did not answer."""
        command = ["nsenter", "-t", str(self.processes[who]), "-n", sys.executable, "-ISc", CLIENT, json.dumps(places)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


@pytest.fixture
def net(busybox: str, pycontainer: Pycontainer, neighbour: int, request: pytest.FixtureRequest) -> Iterator[Net]:
    made = Net(pycontainer, neighbour, getattr(request, "param", ()))
    command = ["nsenter", "-t", str(made.processes["server"]), "-n", sys.executable, "-ISc", SERVER, str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout
        server.stdout.readline()
        yield made
        server.kill()
    end_processes(pycontainer.environment)
    # With the last that has IPv6 goes its forwarding.
    pycontainer("network", "rm", "one", "two", check=True)


ANYWHERE, LOOPBACK = "0.0.0.0", "127.0.0.1"
ANYWHERE6, LOOPBACK6 = "::", "::1"


def test_every_cell(net: Net) -> None:
    """Place of the client x what it asks x protocol: answered or not, and as whom the server sees it."""
    gateways = {"friend": net.gateway("one"), "stranger": net.gateway("two"), "default": net.gateway("bridge")}
    every = {name: pid for name, pid in net.processes.items() if name != "server"}
    wrong = []
    cells = 0
    for who in every:
        own = gateways.get(who, "")
        places: list[tuple[str, str, int]] = []
        expected: list[bool] = []
        for protocol in ("tcp", "udp"):
            wide, narrow = net.port(protocol, ANYWHERE), net.port(protocol, LOOPBACK)
            # Its own address: the host itself, and those of its network.
            places.append((protocol, net.address, PORT))
            expected.append(who in ("host", "friend"))
            # Published at every address of the host's; but to one in a network that is not one's own nothing leads.
            for address in filter(None, (HOST, own, LOOPBACK if who == "host" else "")):
                places.append((protocol, address, wide))
                expected.append(True)
            places.append((protocol, net.gateway("one"), wide))
            expected.append(who in ("host", "friend"))
            # Published on 127.0.0.1, which is the host's alone.
            for address in filter(None, (HOST, own, net.gateway("one"))):
                places.append((protocol, address, narrow))
                expected.append(False)
            places.append((protocol, LOOPBACK, narrow))
            expected.append(who == "host")
        for place, wanted, seen in zip(places, expected, net.ask(who, places), strict=True):
            cells += 1
            if bool(seen) != wanted:
                wrong.append(f"{who} -> {place}: {seen or 'no answer'}")
            if seen and who == "neighbour" and seen != NEIGHBOUR:
                wrong.append(f"{who} -> {place}: seen as {seen}")
    assert not wrong, "\n".join(wrong)
    assert cells >= 70


@pytest.mark.parametrize("net", [(), ("--ipv6",)], indirect=True, ids=["IPv4 only", "with IPv6"])
def test_every_cell_of_ipv6(net: Net) -> None:
    """The server sees the neighbour's own address where it has IPv6 itself, and the bridge's where it is relayed."""
    has_ipv6 = bool(net.address6)
    wrong = []
    for who in ("host", "friend", "stranger", "neighbour"):
        places: list[tuple[str, str, int]] = []
        expected: list[bool] = []
        for protocol in ("tcp", "udp"):
            wide, narrow, narrow4 = (net.port(protocol, each) for each in (ANYWHERE6, LOOPBACK6, LOOPBACK))
            assert wide == net.port(protocol, ANYWHERE), "one port for both"
            # Who has an address of IPv6 at all.
            is_able = who in ("host", "neighbour") or (who == "friend" and has_ipv6)
            places += [(protocol, HOST6, wide), (protocol, HOST6, narrow), (protocol, HOST6, narrow4)]
            expected += [is_able, False, False]
            places += [(protocol, LOOPBACK6, wide), (protocol, LOOPBACK6, narrow), (protocol, LOOPBACK6, narrow4)]
            expected += [who == "host", who == "host", False]
            if has_ipv6:
                places.append((protocol, net.address6, PORT))
                expected.append(who in ("host", "friend"))
        for place, wanted, seen in zip(places, expected, net.ask(who, places), strict=True):
            if bool(seen) != wanted:
                wrong.append(f"{who} -> {place}: {seen or 'no answer'}")
            if seen and who == "neighbour" and seen != (NEIGHBOUR6 if has_ipv6 else net.gateway("one")):
                wrong.append(f"{who} -> {place}: seen as {seen}")
    assert not wrong, "\n".join(wrong)


# Sends to one place from one socket at each line of its input, and prints what has come back.
TALKER = """
import socket, sys
client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
client.settimeout(1.5)
client.connect((sys.argv[1], int(sys.argv[2])))
for _ in sys.stdin:
    try:
        client.send(b"x")
        print(client.recv(99).decode(), flush=True)
    except OSError:
        print("nothing", flush=True)
"""


@pytest.mark.parametrize("net", [("--ipv6",)], indirect=True)
def test_udp_of_ipv6_that_keeps_coming_follows_the_container(net: Net) -> None:
    """Or the kernel would go on sending it to where it went when nothing was published, and then it is relayed."""
    arguments = [sys.executable, "-ISc", TALKER, HOST6, "8053"]
    talker = subprocess.Popen(
        ["nsenter", "-t", str(net.processes["neighbour"]), "-n", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert talker.stdin and talker.stdout

    def talk() -> str:
        talker.stdin.write("\n")
        talker.stdin.flush()
        return talker.stdout.readline().strip()

    with talker:
        for name in ("first", "second"):
            assert talk() == "nothing"
            net.start(name, "--network", "one", "-p", f"8053:{PORT}/udp")
            pid = str(net.inspect(name)["State"]["Pid"])
            command = ["nsenter", "-t", pid, "-n", sys.executable, "-ISc", SERVER, str(PORT)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
                assert server.stdout
                server.stdout.readline()
                seen = talk()
                server.kill()
            assert seen == NEIGHBOUR6
            net.pycontainer("rm", "-f", name, check=True)
        talker.kill()


def test_a_users_rule_filters_what_is_published(net: Net) -> None:
    """As docs/networks.md has it."""
    port = net.port("tcp", ANYWHERE)
    places = [("tcp", HOST, port), ("udp", HOST, net.port("udp", ANYWHERE))]
    assert net.ask("neighbour", places) == [NEIGHBOUR, NEIGHBOUR]
    table = f"mine{os.getpid()}"
    rule = f"ct status dnat meta l4proto tcp ct original proto-dst {port} ip saddr {NEIGHBOUR} drop"
    try:
        shell(
            f"""nft add table ip {table}
            nft add chain ip {table} published '{{ type filter hook forward priority -1; }}'
            nft add rule ip {table} published {rule}"""
        )
        assert net.ask("neighbour", places) == ["", NEIGHBOUR]
        # Whatever becomes of our own table.
        net.pycontainer("network", "create", "three", check=True)
        assert net.ask("neighbour", places) == ["", NEIGHBOUR]
    finally:
        shell(f"nft delete table ip {table}")
    assert net.ask("neighbour", places) == [NEIGHBOUR, NEIGHBOUR]
