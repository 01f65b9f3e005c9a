"""Next to other engines and firewalls: their rules, made by hand in a network namespace, and what we say of them.

What is said to let the containers through does so: the line is run, or does by hand what its command does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Pycontainer, new_environment, remove_environment

# What the host and its neighbour call each other: TEST-NET-2, RFC 5737.
HOST, NEIGHBOUR = "198.51.100.1", "198.51.100.2"

# A network namespace, in which whoever connects to port 80 is accepted.
HOLDER = """
import socket
server = socket.create_server(("", 80))
print(flush=True)
while True:
    server.accept()[0].close()
"""

# Connects to all places at once: which of them have answered.
CLIENT = """
import concurrent.futures, json, socket, sys
def ask(address):
    try:
        socket.create_connection(address, 1.5).close()
        return True
    except OSError:
        return False
places = [tuple(place) for place in json.loads(sys.argv[1])]
with concurrent.futures.ThreadPoolExecutor(len(places)) as threads:
    print(json.dumps(list(threads.map(ask, places))))
"""

# What others make, for iptables-restore(8) or nft(8); and by hand what the lines do that we say for them, where their
# own command is needed.
DOCKER = """*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""
REJECTING = """*filter
:FORWARD ACCEPT [0:0]
:INPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -m comment --comment "the rest" -j REJECT --reject-with icmp-host-prohibited
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp --dport 22 -j ACCEPT
-A INPUT -i up0 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-host-prohibited
COMMIT
"""
LIBVIRT = """*filter
:FORWARD ACCEPT [0:0]
:LIBVIRT_FWI - [0:0]
:LIBVIRT_FWO - [0:0]
:LIBVIRT_FWX - [0:0]
-A FORWARD -j LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWI
-A FORWARD -j LIBVIRT_FWO
-A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWO -s 192.168.122.0/24 -i virbr0 -j ACCEPT
-A LIBVIRT_FWO -i virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
COMMIT
*nat
:LIBVIRT_PRT - [0:0]
-A POSTROUTING -j LIBVIRT_PRT
-A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
COMMIT
"""
UFW = """*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:ufw-before-forward - [0:0]
:ufw-before-input - [0:0]
:ufw-not-local - [0:0]
:ufw-user-forward - [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -j DROP
COMMIT
"""
UFW_ALLOWS = """
iptables -A ufw-user-forward -i pyc+ -j ACCEPT; iptables -A ufw-user-forward -o pyc+ -j ACCEPT
iptables -A ufw-user-input -i pyc+ -p udp --dport 53 -j ACCEPT
"""
FIREWALLD = """
table inet firewalld {
  chain filter_FWD_public { reject with icmpx admin-prohibited; }
  chain filter_IN_public { tcp dport 22 accept; reject with icmpx admin-prohibited; }
  chain trusted { accept; }
  chain filter_FORWARD_ZONES { goto filter_FWD_public; }
  chain filter_INPUT_ZONES { goto filter_IN_public; }
  chain filter_FORWARD {
    type filter hook forward priority 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    ct state invalid drop
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_INPUT {
    type filter hook input priority 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "up0" accept
    jump filter_INPUT_ZONES
    reject with icmpx admin-prohibited
  }
}
"""
FIREWALLD_ALLOWS = """
nft 'insert rule inet firewalld filter_FORWARD_ZONES iifname "pyc*" goto trusted'
nft 'insert rule inet firewalld filter_INPUT_ZONES iifname "pyc*" goto trusted'
"""
OWN = """
table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname { "lo", "up0" } accept
  }
  chain forward { type filter hook forward priority 0; policy drop; }
}
"""


class Machine(Pycontainer):
    """A host of its own: a network namespace with a neighbour, and our containers in there."""

    def __init__(self, environment: dict[str, str], host: int, neighbour: int) -> None:
        super().__init__(environment)
        self.processes = {"host": host, "neighbour": neighbour}

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.run("host", [*COMMAND, *arguments], check=check)

    def run(self, who: str, command: list[str], input: str = "", check: bool = True) -> subprocess.CompletedProcess:
        entered = ["nsenter", "-t", str(self.processes[who]), "-n", *command]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(entered, input=input, capture_output=True, text=True, timeout=120, env=environment)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done

    def shell(self, script: str) -> None:
        self.run("host", ["sh", "-ec", script])

    def start(self, name: str, *options: str) -> None:
        self("run", "-d", "--name", name, *options, "busybox", "httpd", "-f", "-p", "80")
        self.processes[name] = self.inspect(name)["State"]["Pid"]

    def inspect(self, name: str) -> dict:
        (found,) = json.loads(self("inspect", name).stdout)
        return found

    def address(self, name: str) -> str:
        (network,) = self.inspect(name)["NetworkSettings"]["Networks"].values()
        return network["IPAddress"]

    def reach(self, who: str, *places: tuple[str, int]) -> list[bool]:
        return json.loads(self.run(who, [sys.executable, "-ISc", CLIENT, json.dumps(places)]).stdout)

    def notices(self) -> list[str]:
        """What we say that the user should run."""
        # Without its status: /sys is the one of the tests' own network namespace, where it does not find our links.
        said = self("doctor", check=False).stderr.splitlines()
        return [line.partition("; to let them: ")[2] for line in said if "; to let them: " in line]

    def reached(self) -> dict[str, bool]:
        """Each way that containers have to reach somebody, and to be reached."""
        ways = {
            "server": {"out": (NEIGHBOUR, 80), "friend": (self.address("friend"), 80), "lone's port": (HOST, 8080)},
            "lone": {"out": (NEIGHBOUR, 80), "server's port": (HOST, 8081)},
            "neighbour": {"server's port": (HOST, 8081), "lone's port": (HOST, 8080)},
            "host": {"server's port": (HOST, 8081), "lone": (self.address("lone"), 80)},
        }
        return {
            f"{who}: {whom}": answer
            for who, places in ways.items()
            for whom, answer in zip(places, self.reach(who, *places.values()), strict=True)
        }


@pytest.fixture(scope="module")
def machine(busybox_archive: str) -> Iterator[Machine]:
    environment = new_environment()
    with _namespace() as host, _namespace() as neighbour:
        machine = Machine(environment, host.pid, neighbour.pid)
        try:
            machine.shell(f"ip link add up0 type veth peer name up0 netns {neighbour.pid}; ip link set lo up")
            machine.shell(f"ip address add {HOST}/30 dev up0; ip link set up0 up; ip route add default via {NEIGHBOUR}")
            machine.run("neighbour", ["sh", "-ec", f"ip address add {NEIGHBOUR}/30 dev up0; ip link set up0 up"])
            # Another engine's network was here first.
            machine.shell("ip link add br-other type bridge; ip address add 10.99.0.1/20 dev br-other")
            machine("load", "-i", str(busybox_archive))
            machine("network", "create", "one")
            machine.start("server", "--network", "one", "-p", "8081:80")
            machine.start("friend", "--network", "one")
            machine.start("lone", "-p", "8080:80")
            yield machine
        finally:
            machine("rm", "-f", "server", "friend", "lone", check=False)
            remove_environment(environment)
            for holder in (host, neighbour):
                holder.send_signal(signal.SIGKILL)


def _namespace() -> subprocess.Popen:
    holder = subprocess.Popen(["unshare", "--net", sys.executable, "-IS", "-c", HOLDER], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    return holder


@pytest.fixture
def clean(machine: Machine) -> Iterator[Machine]:
    """The machine, whose rules are ours alone before and after."""
    yield machine
    machine.shell("nft flush ruleset")
    machine("run", "--rm", "busybox", "true")


PLAIN = (
    "iptables -I {0} -i pyc+ -j ACCEPT; "
    "iptables -I {0} -o pyc+ -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT"
)
ASKING = "iptables -I INPUT -i pyc+ -p udp --dport 53 -j ACCEPT; iptables -I INPUT -i pyc+ -p tcp --dport 53 -j ACCEPT"
FORWARDING = (
    """nft 'insert rule inet filter forward iifname "pyc*" accept; """
    """insert rule inet filter forward oifname "pyc*" ct state established,related accept; """
    """insert rule inet filter forward oifname "pyc*" ct status dnat accept'"""
)
ASKING_NFT = (
    """nft 'insert rule inet filter input iifname "pyc*" udp dport 53 accept; """
    """insert rule inet filter input iifname "pyc*" tcp dport 53 accept'"""
)
UFW_LINES = ["ufw route allow in on pyc+; ufw route allow out on pyc+", "ufw allow in on pyc+ to any port 53"]
FIREWALLD_LINES = ["firewall-cmd --permanent --zone=trusted --add-interface=pyc+; firewall-cmd --reload"]


@pytest.mark.parametrize(
    ("command", "theirs", "said", "by_hand"),
    [
        pytest.param("iptables-restore -n", DOCKER, [PLAIN.format("DOCKER-USER")], "", id="docker"),
        pytest.param("iptables-restore -n", REJECTING, [PLAIN.format("FORWARD"), ASKING], "", id="rejecting"),
        pytest.param("iptables-restore -n", UFW, UFW_LINES, UFW_ALLOWS, id="ufw"),
        pytest.param("nft -f -", FIREWALLD, FIREWALLD_LINES, FIREWALLD_ALLOWS, id="firewalld"),
        pytest.param("nft -f -", OWN, [FORWARDING, ASKING_NFT], "", id="own"),
    ],
)
def test_what_drops_is_said_and_the_line_mends_it(
    clean: Machine, command: str, theirs: str, said: list[str], by_hand: str
) -> None:
    machine = clean
    assert machine.notices() == []
    machine.run("host", command.split(), theirs)
    before = machine.reached()
    assert not before["server: out"] and not before["server: friend"]
    assert machine.notices() == said
    machine.shell(by_hand or "\n".join(said))
    assert machine.notices() == []
    assert [way for way, is_open in machine.reached().items() if not is_open] == []
    assert machine.address("friend") in machine("exec", "server", "nslookup", "friend").stdout


def test_who_makes_the_bridge_is_told(clean: Machine) -> None:
    clean.run("host", ["iptables-restore", "-n"], DOCKER)
    try:
        assert PLAIN.format("DOCKER-USER") in clean("network", "create", "two").stderr
    finally:
        clean("network", "rm", "two")


def test_libvirts_rules_and_ours_get_along(clean: Machine) -> None:
    clean.run("host", ["iptables-restore", "-n"], LIBVIRT)
    assert clean.notices() == []
    assert all(clean.reached().values())


def test_after_a_flush_the_next_run_mends_ours(clean: Machine) -> None:
    clean.run("host", ["iptables-restore", "-n"], LIBVIRT)
    clean.shell("nft flush ruleset")
    assert clean.reach("server", (NEIGHBOUR, 80)) == [False]
    clean("run", "--rm", "busybox", "true")
    assert all(clean.reached().values())


def test_subnets_of_others_are_left_alone_and_one_that_takes_ours_harms_nobody_here(clean: Machine) -> None:
    addresses = [clean.address(name) for name in ("server", "lone")]
    assert not any(address.startswith("10.99.0.") for address in addresses)
    gateway = clean.inspect("server")["NetworkSettings"]["Networks"]["one"]["Gateway"]
    clean.shell(f"ip link add br-late type bridge; ip address add {gateway}/20 dev br-late; ip link set br-late up")
    try:
        assert all(clean.reached().values())
    finally:
        clean.shell("ip link delete br-late")
