"""The network of containers, in network namespaces of the test's own: the machine's network is never touched."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from bridges import ensure_bridge
from conftest import wait_until

from pycontainer.errors import Conflict, HostError, PycontainerError, StepFailed
from pycontainer.kernel.namespace import CLONE_NEWNET, setns, unshare
from pycontainer.kernel.operation import Journal, Operation
from pycontainer.network import bridge, lease, rules, ruleset
from pycontainer.network.attach import Network, attach, detach
from pycontainer.network.names import link_name

BRIDGE = "pyct0"
TABLE = "pycontainer_pyct0"
IDS = [f"{number:012x}{'0' * 52}" for number in range(0xABC000, 0xABC100)]


def leased(container_id: str, address: str) -> lease.Lease:
    return lease.Lease("bridge", address, container_id, "", "", "eth0", 1)


def open_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def new_namespace() -> int:
    """A descriptor of a fresh network namespace, which lives as long as the descriptor."""
    own = open_namespace()
    try:
        unshare(CLONE_NEWNET)
        new = open_namespace()
        setns(own, CLONE_NEWNET)
    finally:
        os.close(own)
    return new


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """The test process in an empty network namespace that plays the host."""
    machine = open_namespace()
    unshare(CLONE_NEWNET)
    # A new namespace inherits the machine's setting.
    shell("ip link set lo up; echo 0 > /proc/sys/net/ipv4/ip_forward")
    yield
    setns(machine, CLONE_NEWNET)
    os.close(machine)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    connection = connect(tmp_path / "db")
    connection.executescript("PRAGMA journal_mode = WAL;" + lease.SCHEMA)
    connection.close()
    return tmp_path / "db"


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    opened = connect(database)
    yield opened
    opened.close()


@pytest.fixture
def containers() -> Iterator[list[int]]:
    """Namespaces to close at the end."""
    opened: list[int] = []
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=60)


def shell(command: str, netns: int | None = None) -> str:
    """Run a shell line, in `netns` or here; its output."""
    arguments = ["sh", "-c", command]
    if netns is not None:
        arguments = ["nsenter", f"--net=/proc/self/fd/{netns}", *arguments]
    descriptors = [] if netns is None else [netns]
    return subprocess.run(arguments, check=True, capture_output=True, text=True, pass_fds=descriptors).stdout


def reaches(address: str, netns: int | None = None) -> bool:
    try:
        # Until the first answer: on a busy machine it may take its time.
        shell(f"ping -n -c 1 -i 0.2 -w 3 {address}", netns)
    except subprocess.CalledProcessError:
        return False
    return True


def objects(command: str, netns: int | None = None) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads(shell(f"ip -j -d {command}", netns))
    return result


def links() -> set[str]:
    return {link["ifname"] for link in objects("link show")}


def wait_until_gone(prefix: str = "pyc0") -> None:
    """The kernel removes a dead namespace's links a little later."""
    wait_until(lambda: not any(name.startswith(prefix) for name in links()))


def start(connection: sqlite3.Connection, network: Network, container_id: str, journal: Journal | None = None) -> int:
    """Lease and attach, into a new namespace: its descriptor."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        address = lease.allocate(connection, network.name, container_id).address
    netns = new_namespace()
    attach(journal or Journal(), network, leased(container_id, address), netns)
    return netns


class Counting(Journal):
    """Records the names of what is performed; kills the process at step `last`."""

    def __init__(self, last: int = -1) -> None:
        super().__init__()
        self.last = last
        self.steps: list[str] = []

    def perform(self, operation: Operation) -> object:
        if len(self.steps) == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps.append(type(operation).__name__)
        return super().perform(operation)


def test_bridge_is_made_once_and_found_afterwards(connection: sqlite3.Connection) -> None:
    network, notices = ensure_bridge(Journal(), connection, BRIDGE)
    assert (network.subnet, network.gateway, network.mtu) == ("10.99.0.0/20", "10.99.0.1", 1500)
    assert notices == ["IPv4 forwarding was off on this host; it is now on (net.ipv4.ip_forward=1)"]
    (link,) = objects(f"address show dev {BRIDGE}")
    assert link["linkinfo"]["info_kind"] == "bridge"
    assert "UP" in link["flags"]
    assert link["address"] == "02:42:0a:63:00:01"
    assert [(a["local"], a["prefixlen"], a["broadcast"]) for a in link["addr_info"] if a["family"] == "inet"] == [
        ("10.99.0.1", 20, "10.99.15.255")
    ]
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    quick = Counting()
    again, notices = ensure_bridge(quick, connection, BRIDGE)
    assert (again.index, again.subnet, notices) == (network.index, network.subnet, [])
    assert quick.steps == ["FindLink", "FindAddress", "ReadWithoutIPv6", "FindTable", "FindRules", "ReadForwarding"]


def test_quick_path_imports_nothing_heavy(connection: sqlite3.Connection, database: Path) -> None:
    ensure_bridge(Journal(), connection, BRIDGE)
    script = (
        "import sqlite3, sys\n"
        "from pycontainer.kernel.operation import Journal\n"
        "from pycontainer.network.attach import ensure\n"
        f"connection = sqlite3.connect({str(database)!r}, isolation_level=None)\n"
        f"ensure(Journal(), connection, ['bridge'], {BRIDGE!r})\n"
        "print(*sys.modules)\n"
    )
    modules = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment()
    ).stdout.split()
    heavy = {"pyroute2", "subprocess", "ipaddress", "socket", "logging", "dataclasses", "pycontainer.network.bridge"}
    assert heavy.isdisjoint(modules)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_containers_reach_each_other_the_host_and_back(connection: sqlite3.Connection, containers: list[int]) -> None:
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    containers += [start(connection, network, container_id) for container_id in IDS[:2]]
    first, second = containers
    (eth0,) = objects("address show dev eth0", first)
    assert eth0["address"] == "02:42:0a:63:00:02"
    assert eth0["mtu"] == network.mtu
    assert [(a["local"], a["prefixlen"], a["broadcast"]) for a in eth0["addr_info"] if a["family"] == "inet"] == [
        ("10.99.0.2", 20, "10.99.15.255")
    ]
    (default,) = objects("route show default", first)
    assert (default["gateway"], default["dev"]) == ("10.99.0.1", "eth0")
    assert objects(f"link show dev {link_name(IDS[0])}")[0]["master"] == BRIDGE
    assert reaches("10.99.0.1", first)
    assert reaches("10.99.0.3", first)
    assert reaches("10.99.0.2", second)
    assert reaches("10.99.0.3")


def test_outside_sees_the_hosts_address(connection: sqlite3.Connection, containers: list[int]) -> None:
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    container = start(connection, network, IDS[0])
    outside = new_namespace()
    containers += [container, outside]
    # The outside has no route to the containers' subnet: answers arrive only if the host's address was on the packets.
    shell(f"ip link add up0 type veth peer name far0 netns /proc/{os.getpid()}/fd/{outside}")
    shell("ip address add 192.0.2.1/24 dev up0; ip link set up0 up")
    shell("ip address add 192.0.2.9/24 dev far0; ip link set far0 up", outside)
    assert reaches("192.0.2.9", container)
    shell(f"nft delete table ip {TABLE}")
    assert not reaches("192.0.2.9", container)
    # Somebody flushed the rules: the next container brings them back.
    ensure_bridge(Journal(), connection, BRIDGE)
    assert reaches("192.0.2.9", container)


def test_other_tables_stay_as_they_are(connection: sqlite3.Connection) -> None:
    shell("nft add table ip nat; nft 'add chain ip nat mine { type nat hook postrouting priority 100; }'")
    before = shell("nft list table ip nat")
    ensure_bridge(Journal(), connection, BRIDGE)
    assert shell("nft list table ip nat") == before
    assert shell("nft list tables").split("\n") == ["table ip nat", f"table ip {TABLE}", ""]
    own = shell(f"nft list table ip {TABLE}")
    rules.run_nft(
        ["-f", "-"], ruleset.program(TABLE, [lease.StoredNetwork("bridge", BRIDGE, "10.99.0.0/20", "10.99.0.1")], [])
    )
    assert shell(f"nft list table ip {TABLE}") == own


def test_everything_goes_with_the_container(connection: sqlite3.Connection) -> None:
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    before = links()
    netns = start(connection, network, IDS[0])
    assert links() == before | {link_name(IDS[0])}
    os.close(netns)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        detach(connection, IDS[0])
    wait_until_gone(link_name(IDS[0]))
    assert links() == before
    assert lease.lease_count(connection, network.name) == 0


def test_same_address_at_once_for_the_next_container(connection: sqlite3.Connection) -> None:
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    for container_id in IDS[:5]:
        netns = start(connection, network, container_id)
        assert objects("address show dev eth0", netns)[0]["address"] == "02:42:0a:63:00:02"
        assert reaches("10.99.0.1", netns)
        os.close(netns)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            detach(connection, container_id)


def test_a_restart_does_not_wait_for_the_old_link(connection: sqlite3.Connection, containers: list[int]) -> None:
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    containers.append(start(connection, network, IDS[0]))
    journal = Counting()
    containers.append(start(connection, network, IDS[0], journal))
    assert journal.steps[:4] == ["CreateVeth", "FindLink", "DeleteLink", "CreateVeth"]
    assert reaches("10.99.0.1", containers[1])


def test_an_eth0_in_the_way_is_an_error_and_nothing_is_deleted(
    connection: sqlite3.Connection, containers: list[int]
) -> None:
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    containers.append(start(connection, network, IDS[0]))
    with pytest.raises(StepFailed, match=f"create veth pair: {link_name(IDS[1])}: file exists"):
        attach(Journal(), network, leased(IDS[1], "10.99.0.3"), containers[0])
    assert reaches("10.99.0.1", containers[0])


def test_namespace_that_belongs_to_a_user_namespace(connection: sqlite3.Connection) -> None:
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo; read line; ping -n -c 1 10.99.0.1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        child.stdout.readline()
        netns = os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY)
        attach(Journal(), network, leased(IDS[0], "10.99.0.2"), netns)
        os.close(netns)
        child.communicate(b"\n")
    assert child.returncode == 0
    wait_until_gone()


def test_process_is_back_in_its_namespace(connection: sqlite3.Connection, containers: list[int]) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    before_sockets = sockets()
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    containers.append(start(connection, network, IDS[0]))
    with pytest.raises(StepFailed):
        attach(Journal(), network, leased(IDS[1], "10.99.0.3"), containers[0])
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert sockets() == before_sockets


def sockets() -> set[str]:
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    names = {os.readlink(path) for path in paths if os.path.lexists(path)}
    return {name for name in names if name.startswith("socket:")}


def test_making_the_bridge_leaves_no_thread(connection: sqlite3.Connection) -> None:
    ensure_bridge(Journal(), connection, BRIDGE)
    assert len(os.listdir("/proc/self/task")) == 1


def test_fifty_at_once(database: Path) -> None:
    release_read, release_write = os.pipe()
    children = []
    for container_id in IDS[:50]:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(release_write)
                opened = connect(database)
                network, _ = ensure_bridge(Journal(), opened, BRIDGE)
                netns = start(opened, network, container_id)
                status = 0 if reaches(network.gateway, netns) else 2
                os.read(release_read, 1)
            finally:
                os._exit(status)
        children.append(child)
    os.close(release_read)
    opened = connect(database)
    try:
        deadline = time.monotonic() + 120
        while len([name for name in links() if name.startswith("pyc000")]) < 50 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert {link_name(container_id) for container_id in IDS[:50]} <= links()
        rows = opened.execute("SELECT address FROM leases").fetchall()
        assert {row[0] for row in rows} == {f"10.99.0.{number}" for number in range(2, 52)}
    finally:
        os.close(release_write)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0] * 50
    with opened:
        opened.execute("BEGIN IMMEDIATE")
        for container_id in IDS[:50]:
            detach(opened, container_id)
    wait_until_gone("pyc000")
    assert links() == {"lo", BRIDGE}
    assert lease.lease_count(opened, "bridge") == 0
    opened.close()


def test_killed_at_every_step_of_making_the_bridge(database: Path, tmp_path: Path) -> None:
    for last in range(20):
        shell(f"ip link delete {BRIDGE} 2>/dev/null; nft delete table ip {TABLE} 2>/dev/null; true")
        opened = connect(database)
        opened.execute("DELETE FROM networks")
        opened.close()
        child = os.fork()
        if child == 0:
            try:
                ensure_bridge(Counting(last), connect(database), BRIDGE)
            finally:
                os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        opened = connect(database)
        network, _ = ensure_bridge(Journal(), opened, BRIDGE)
        assert network.subnet == "10.99.0.0/20"
        netns = start(opened, network, IDS[last])
        assert reaches("10.99.0.1", netns)
        assert "masquerade" in shell(f"nft list table ip {TABLE}")
        os.close(netns)
        detach(opened, IDS[last])
        opened.close()
        if not killed:
            assert last > 8
            return
    pytest.fail("making the bridge takes more steps than this test kills")


def test_deleted_bridge_is_made_again_with_its_subnet(connection: sqlite3.Connection, containers: list[int]) -> None:
    shell("ip link add far0 type bridge; ip link set far0 up; ip address add 10.99.1.1/24 dev far0")
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    assert network.subnet == "10.99.16.0/20"
    containers.append(start(connection, network, IDS[0]))
    shell(f"ip link delete far0; ip link delete {BRIDGE}")
    again, notices = ensure_bridge(Journal(), connection, BRIDGE)
    assert again.subnet == network.subnet
    assert notices == []
    containers.append(start(connection, again, IDS[1]))
    # The one that was there before, too: its cable is plugged in again.
    assert all(reaches("10.99.16.1", container) for container in containers)


def ipv6_is_off() -> bool:
    return Path(f"/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6").read_text().strip() == "1"


def test_a_container_is_not_the_hosts_ipv6_router(connection: sqlite3.Connection, containers: list[int]) -> None:
    """CVE-2020-13401: a router advertisement from a container gave the host a default route."""
    shell("echo 0 > /proc/sys/net/ipv6/conf/default/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/accept_ra")
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    containers.append(start(connection, network, IDS[0]))
    assert ipv6_is_off()

    def routes() -> str:
        advertise(containers[0])
        return shell("ip -6 route show default")

    assert routes() == ""
    # As a bridge of an older version is, or one that somebody has changed.
    shell(f"echo 0 > /proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6; ip link set {BRIDGE} down; ip link set {BRIDGE} up")
    wait_until(lambda: "fe80" in shell(f"ip -6 address show dev {BRIDGE} -tentative"))
    wait_until(lambda: "default" in routes())
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    assert ipv6_is_off()
    assert routes() == ""


def advertise(netns: int) -> None:
    """Send a router advertisement (RFC 4861, 4.2) from the container's eth0 to all nodes."""
    script = (
        "import socket, struct, os\n"
        "s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)\n"
        "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)\n"
        "s.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0),"
        " ('ff02::1', 0, 0, socket.if_nametoindex('eth0')))\n"
    )
    wait_until(lambda: "fe80" in shell("ip -6 address show dev eth0 -tentative", netns))
    arguments = ["nsenter", f"--net=/proc/self/fd/{netns}", sys.executable, "-c", script]
    subprocess.run(arguments, check=True, pass_fds=[netns])
    time.sleep(0.05)


@pytest.mark.parametrize(
    "damage",
    [f"nft flush table ip {TABLE}", f"nft flush chain ip {TABLE} postrouting", f"ip address flush dev {BRIDGE}"],
)
def test_what_somebody_has_flushed_is_mended(
    connection: sqlite3.Connection, containers: list[int], damage: str
) -> None:
    ensure_bridge(Journal(), connection, BRIDGE)
    rules_before = shell(f"nft list table ip {TABLE}")
    addresses = [link["addr_info"] for link in objects(f"-4 address show dev {BRIDGE}")]
    shell(damage)
    assert [rules_before, addresses] != [
        shell(f"nft list table ip {TABLE}"), [link["addr_info"] for link in objects(f"-4 address show dev {BRIDGE}")],
    ]  # fmt: skip
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    assert shell(f"nft list table ip {TABLE}") == rules_before
    assert [link["addr_info"] for link in objects(f"-4 address show dev {BRIDGE}")] == addresses
    containers.append(start(connection, network, IDS[0]))
    assert reaches("10.99.0.1", containers[0])


def test_whose_doing_forwarding_was_is_remembered(connection: sqlite3.Connection, tmp_path: Path) -> None:
    mark = tmp_path / "ip_forward"
    ensure_bridge(Journal(), connection, BRIDGE, forwarding_mark=str(mark))
    assert mark.exists() and shell("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
    mark.unlink()
    ensure_bridge(Journal(), connection, BRIDGE, forwarding_mark=str(mark))
    assert not mark.exists(), "it was on"


def test_subnet_moves_when_the_host_took_it_meanwhile(connection: sqlite3.Connection) -> None:
    ensure_bridge(Journal(), connection, BRIDGE)
    shell(f"ip link delete {BRIDGE}; ip link add vpn0 type bridge; ip link set vpn0 up")
    shell("ip route add 10.96.0.0/11 dev vpn0")
    connection.execute("INSERT INTO leases (network, address, container_id) VALUES ('bridge', '10.99.0.2', 'someone')")
    with pytest.raises(Conflict, match=r"10\.99\.0\.0/20: the host now uses 10\.96\.0\.0/11, which overlaps"):
        ensure_bridge(Journal(), connection, BRIDGE)
    assert BRIDGE not in links()
    detach(connection, "someone")
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    assert network.subnet == "10.199.0.0/20"
    assert "10.199.0.0/20" in shell(f"nft list table ip {TABLE}")
    stored = lease.find(connection, "bridge")
    assert stored is not None
    assert stored.subnet == network.subnet


def test_mtu_is_that_of_the_way_out(connection: sqlite3.Connection, containers: list[int]) -> None:
    shell("ip link add up0 mtu 1400 type bridge; ip link set up0 up; ip address add 192.0.2.1/24 dev up0")
    shell("ip route add default via 192.0.2.254")
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    containers.append(start(connection, network, IDS[0]))
    assert network.mtu == 1400
    assert objects("link show dev eth0", containers[0])[0]["mtu"] == 1400


def test_a_default_route_in_two_halves_does_not_count_as_taken(connection: sqlite3.Connection) -> None:
    shell("ip link add tun7 type bridge; ip link set tun7 up; ip route add 0.0.0.0/1 dev tun7")
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    assert network.subnet == "10.99.0.0/20"


def test_lost_database_takes_over_the_bridge(connection: sqlite3.Connection) -> None:
    shell(f"ip link add {BRIDGE} type bridge; ip address add 10.7.7.1/24 dev {BRIDGE}; ip link set {BRIDGE} up")
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    assert (network.subnet, network.gateway) == ("10.7.7.0/24", "10.7.7.1")


def test_link_of_that_name_is_not_a_bridge(connection: sqlite3.Connection) -> None:
    shell(f"ip link add {BRIDGE} type veth peer name far0")
    with pytest.raises(Conflict, match=f"{BRIDGE}: a link of that name exists and is not a bridge but veth"):
        ensure_bridge(Journal(), connection, BRIDGE)


def test_another_bridge_with_the_same_database(connection: sqlite3.Connection) -> None:
    ensure_bridge(Journal(), connection, BRIDGE)
    with pytest.raises(Conflict, match=f"its bridge is {BRIDGE}"):
        ensure_bridge(Journal(), connection, "pyct1")


def test_without_nft_nothing_is_left(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SBIN", "")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="apt-get install nftables"):
        ensure_bridge(Journal(), connection, BRIDGE)
    monkeypatch.undo()
    assert links() == {"lo"}
    assert lease.find(connection, "bridge") is None


def test_nft_that_refuses_is_quoted(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ruleset, "program", lambda *_: "add rule ip nosuch nosuch accept\n")
    with pytest.raises(HostError, match="apply nft rules: nft: could not process rule: no such file or directory"):
        ensure_bridge(Journal(), connection, BRIDGE)


def test_without_root(database: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            memory = sqlite3.connect(":memory:", isolation_level=None)
            memory.executescript(lease.SCHEMA)
            os.setresuid(65534, 65534, 65534)
            ensure_bridge(Journal(), memory, BRIDGE)
        except PycontainerError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as report:
        assert report.read() == (
            f"create bridge: {BRIDGE}: operation not permitted\nhint: changing the network needs root (CAP_NET_ADMIN)"
        )


def test_a_firewall_that_drops_forwarded_packets_is_mentioned(connection: sqlite3.Connection) -> None:
    shell(
        "nft add table inet fw; nft 'add chain inet fw through { type filter hook forward priority 0; policy drop; }'"
    )
    _, notices = ensure_bridge(Journal(), connection, BRIDGE)
    (notice,) = [line for line in notices if "drops forwarded packets" in line]
    # The advice must work.
    shell(notice.partition("to let them: ")[2])
    shell(f"nft delete table ip {TABLE}")
    _, notices = ensure_bridge(Journal(), connection, BRIDGE)
    assert notices == []


class Shell(Journal):
    """Runs the shell line of every operation that changes something, in place of the operation."""

    def perform(self, operation: Operation) -> object:
        if type(operation).__name__.startswith(("Find", "List", "Read", "Survey", "Open")):
            return super().perform(operation)
        shell(operation.shell())
        return None


def test_shell_lines_do_the_same(connection: sqlite3.Connection, containers: list[int]) -> None:
    network, _ = ensure_bridge(Shell(), connection, BRIDGE)
    containers.append(start(connection, network, IDS[0], Shell()))
    by_shell = comparable(containers[0])
    shell(f"ip link delete {BRIDGE}; nft delete table ip {TABLE}; ip link delete {link_name(IDS[0])}")
    connection.execute("DELETE FROM leases")
    network, _ = ensure_bridge(Journal(), connection, BRIDGE)
    containers.append(start(connection, network, IDS[0]))
    assert comparable(containers[1]) == by_shell


def comparable(container: int) -> list[object]:
    addresses = "address show | grep -v -e link/ -e inet6 -e valid_lft | sed 's/^[0-9]*: //; s/@if[0-9]*//'"
    return [
        shell(f"ip {addresses}"),
        shell(f"ip {addresses}; ip route; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu", container),
        shell(f"cat /sys/class/net/{BRIDGE}/address; nft list table ip {TABLE}"),
    ]


def test_pools_are_networks() -> None:
    assert all(IPv4Network(pool).is_private for pool in bridge.POOLS)
