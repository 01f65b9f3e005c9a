"""Networks of one's own: made, listed, removed; containers in several of them, their names, addresses and ports."""

from __future__ import annotations

import ipaddress
import json
import os
import pathlib
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest
from conftest import (
    Pycontainer,
    copy_store,
    end_processes,
    new_environment,
    own_bridges,
    remove_environment,
    wait_until,
)

SERVE = "while :; do echo {} | nc -l -p 80 >/dev/null; done"


class Net:
    """An installation with busybox, and the networks `one` and `two`."""

    def __init__(self, pycontainer: Pycontainer, number: int) -> None:
        self.pycontainer = pycontainer
        # What nobody else takes while a bridge is away that a test has deleted.
        for place, name in enumerate(("one", "two")):
            subnet = f"10.97.{number + place}.0/24"
            pycontainer("network", "create", "--subnet", subnet, name, check=True)

    def run(self, name: str, *options: str, command: str = "sleep 1000") -> str:
        """Start a container in the background; its name."""
        self.pycontainer("run", "-d", "--name", name, *options, "busybox", "sh", "-c", command, check=True)
        return name

    def shell(self, name: str, command: str) -> subprocess.CompletedProcess:
        return self.pycontainer("exec", name, "sh", "-c", command)

    def addresses(self, name: str) -> dict[str, str]:
        """Network -> address of a container."""
        found = self.inspect(name)["NetworkSettings"]["Networks"]
        return {network: endpoint["IPAddress"] for network, endpoint in found.items()}

    def inspect(self, name: str) -> dict:
        (found,) = json.loads(self.pycontainer("inspect", name, check=True).stdout)
        return found

    def network(self, name: str) -> dict:
        (found,) = json.loads(self.pycontainer("network", "inspect", name, check=True).stdout)
        return found

    def lookup(self, name: str, wanted: str) -> set[str]:
        """What a container finds under a name."""
        done = self.shell(name, f"nslookup {wanted} 2>&1")
        # The first address is the server's.
        return set(re.findall(r"^Address(?: \d+)?: (\S+)$", done.stdout.partition("\n\n")[2], re.MULTILINE))

    def python(self, name: str, script: str) -> subprocess.CompletedProcess:
        """Run a Python program of the host's in a container's network."""
        command = ["nsenter", "-t", str(self.inspect(name)["State"]["Pid"]), "-n", "python3", "-ISc", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def are_refused(self, *table: tuple[list[str], str]) -> None:
        """`network create` with these words says so, and makes nothing."""
        before = self.pycontainer("network", "ls", "-q", check=True).stdout
        for words, message in table:
            refused = self.pycontainer("network", "create", *words)
            assert refused.returncode in (1, 125), words
            assert message in refused.stderr and "Traceback" not in refused.stderr, words
        assert self.pycontainer("network", "ls", "-q", check=True).stdout == before

    def reaches(self, name: str, address: str) -> bool:
        return self.shell(name, f"ping -c 1 -W 1 {address}").returncode == 0


@pytest.fixture(scope="module")
def shared(busybox_root: pathlib.Path) -> Iterator[Net]:
    environment = new_environment()
    copy_store(busybox_root, environment)
    yield Net(Pycontainer(environment), 1)
    remove_environment(environment)


@pytest.fixture
def net(shared: Net) -> Iterator[Net]:
    """For tests that leave the two networks as they are."""
    yield shared
    shared.pycontainer("rm", "-f", *shared.pycontainer("ps", "-aq").stdout.split())
    for name in shared.pycontainer("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").stdout.split():
        if name not in ("one", "two"):
            shared.pycontainer("network", "rm", name, check=True)


@pytest.fixture
def own(busybox: str, pycontainer: Pycontainer) -> Iterator[Net]:
    yield Net(pycontainer, 3)
    end_processes(pycontainer.environment)


def name_servers(pycontainer: Pycontainer) -> list[int]:
    """Those that serve and those that stand by: who holds a lock below STATE/dns."""
    found = set()
    for line in pathlib.Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] != "OFDLCK":
            continue
        inode = int(words[5].rpartition(":")[2])
        for lock in (pycontainer.state / "dns").glob("*"):
            if lock.stat().st_ino == inode:
                found.add(lock.name)
    pids = []
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            # The name first, because there are many processes, with many files.
            if not (place / "comm").read_text().startswith("pyc-dns"):
                continue
            opened = {os.readlink(each) for each in (place / "fd").iterdir()}
        except OSError:
            continue
        if any(f"{pycontainer.state}/dns/{name}" in opened for name in found):
            pids.append(int(place.name))
    return sorted(pids)


class TestMaking:
    def test_a_network_is_there_until_it_is_removed(self, net: Net) -> None:
        pycontainer = net.pycontainer
        made = pycontainer("network", "create", "--label", "a=b", "--label", "c", "three", check=True).stdout.strip()
        assert re.fullmatch(r"[0-9a-f]{64}", made)
        listed = pycontainer("network", "ls", "--no-trunc", "--format", "{{.Name}} {{.ID}}", check=True).stdout
        assert f"three {made}" in listed.splitlines()
        shown = net.network(made[:10])
        assert (shown["Name"], shown["Driver"], shown["Labels"]) == ("three", "bridge", {"a": "b", "c": ""})
        interface = shown["Options"]["com.docker.network.bridge.name"]
        assert os.path.exists(f"/sys/class/net/{interface}/bridge")
        assert pycontainer("network", "ls", "-q", "--filter", "label=a=b", check=True).stdout.split() == [made[:12]]
        assert pycontainer("network", "rm", "three", check=True).stdout == "three\n"
        assert not os.path.exists(f"/sys/class/net/{interface}")
        refused = pycontainer("network", "rm", "three")
        assert (refused.returncode, refused.stderr.splitlines()[0]) == (
            1,
            "pycontainer: find network: three: no such network",
        )
        pycontainer("network", "rm", "-f", "three", check=True)

    def test_what_is_asked_for(self, net: Net) -> None:
        options = ["--subnet", "10.98.7.0/24", "--gateway", "10.98.7.9", "--ip-range", "10.98.7.128/28"]
        options += ["--opt", "com.docker.network.driver.mtu=1400"]
        net.pycontainer("network", "create", *options, "three", check=True)
        assert net.network("three")["IPAM"]["Config"] == [
            {"Subnet": "10.98.7.0/24", "Gateway": "10.98.7.9", "IPRange": "10.98.7.128/28"}
        ]
        net.run("ant", "--network", "three")
        assert net.addresses("ant") == {"three": "10.98.7.128"}
        shown = net.shell("ant", "ip route; cat /sys/class/net/eth0/mtu").stdout
        assert "default via 10.98.7.9 dev eth0" in shown and "\n1400\n" in shown

    def test_what_is_refused(self, net: Net) -> None:
        net.are_refused(
            (["one"], "network with name one already exists"),
            (["bridge"], "already exists"),
            (["a b"], "not a name"),
            (["--subnet", "10.98.0.0/33", "x"], "not a subnet"),
            (["--subnet", "127.0.0.0/24", "x"], "not for containers"),
            (["--subnet", "10.98.0.0/24", "--gateway", "10.97.0.1", "x"], "no address of 10.98.0.0/24"),
            (["--gateway", "10.97.0.1", "x"], "without --subnet"),
            (["--subnet", "10.98.0.0/24", "--ip-range", "10.97.0.0/28", "x"], "does not lie in"),
            (["--opt", "com.docker.network.bridge.enable_icc=false", "x"], "no such option of the bridge driver"),
            (["--opt", "com.docker.network.driver.mtu=9", "x"], "not an MTU"),
            (["--opt", "com.docker.network.bridge.name=lo", "x"], "a link of that name is there already"),
            (["--driver", "macvlan", "x"], "no such driver"),
        )

    def test_subnets_do_not_overlap(self, net: Net) -> None:
        subnet = net.network("one")["IPAM"]["Config"][0]["Subnet"]
        assert subnet != net.network("two")["IPAM"]["Config"][0]["Subnet"]
        refused = net.pycontainer("network", "create", "--subnet", subnet, "three")
        assert refused.returncode == 1 and f"it overlaps {subnet}" in refused.stderr

    def test_one_that_is_used_stays(self, own: Net) -> None:
        own.run("ant", "--network", "one")
        refused = own.pycontainer("network", "rm", "one")
        assert refused.returncode == 1 and "it has containers: ant" in refused.stderr
        refused = own.pycontainer("network", "rm", "bridge")
        assert refused.returncode == 1 and "pre-defined" in refused.stderr
        assert own.pycontainer("network", "prune", "-f", check=True).stdout == "Deleted Networks:\ntwo\n\n"
        own.pycontainer("stop", "-t", "0", "ant", check=True)
        # A container that does not run still has it, for prune; rm is of one's own will.
        assert own.pycontainer("network", "prune", "-f", check=True).stdout == ""
        own.pycontainer("network", "rm", "one", check=True)
        refused = own.pycontainer("start", "ant")
        assert refused.returncode == 1 and "find network: one: no such network" in refused.stderr

    def test_events(self, own: Net) -> None:
        own.run("ant", "--network", "one")
        own.pycontainer("network", "connect", "two", "ant", check=True)
        own.pycontainer("network", "disconnect", "two", "ant", check=True)
        own.pycontainer("rm", "-f", "ant", check=True)
        own.pycontainer("network", "rm", "two", check=True)
        told = own.pycontainer(
            "events", "--since", "1h", "--until", "0s", "--filter", "type=network",
            "--format", "{{.Action}} {{.Actor.Attributes.name}}", check=True,
        ).stdout  # fmt: skip
        assert told.splitlines() == ["create one", "create two", "connect two", "disconnect two", "destroy two"]


class TestContainers:
    def test_names_and_addresses(self, net: Net) -> None:
        net.run("ant", "--network", "one", "--network-alias", "first", "--network-alias", "any")
        net.run("bee", "--network", "name=one,alias=any,mac-address=02:00:00:00:00:07", "--hostname", "beehive")
        net.run("cat", "--network", "two")
        a, b, c = (next(iter(net.addresses(name).values())) for name in ("ant", "bee", "cat"))
        container_id = net.inspect("ant")["Id"]
        for name in ("ant", "ANT", "first", container_id[:12], "ant.one", "first.one"):
            assert net.lookup("bee", name) == {a}, name
        assert net.lookup("ant", "any") == {a, b}
        assert net.lookup("ant", "bee") == net.lookup("ant", "beehive") == {b}
        assert net.lookup("ant", "cat") == net.lookup("cat", "ant") == set()
        assert "name = bee.one" in net.shell("ant", f"nslookup {b}").stdout
        assert net.shell("bee", "cat /sys/class/net/eth0/address").stdout == "02:00:00:00:00:07\n"
        assert net.reaches("ant", "bee") and not net.reaches("cat", a) and not net.reaches("ant", c)
        endpoint = net.inspect("ant")["NetworkSettings"]["Networks"]["one"]
        assert endpoint["Aliases"] == ["first", "any"]
        assert endpoint["DNSNames"] == ["ant", "first", "any", container_id[:12]]
        assert {each["Name"] for each in net.network("one")["Containers"].values()} == {"ant", "bee"}

    def test_names_follow_every_change(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        net.run("bee", "--network", "one")
        address = net.addresses("bee")["one"]
        assert net.lookup("ant", "bee") == {address}
        net.pycontainer("rename", "bee", "bb", check=True)
        assert net.lookup("ant", "bee") == set() and net.lookup("ant", "bb") == {address}
        net.pycontainer("pause", "bb", check=True)
        assert net.lookup("ant", "bb") == {address}
        net.pycontainer("unpause", "bb", check=True)
        net.pycontainer("stop", "-t", "0", "bb", check=True)
        assert net.lookup("ant", "bb") == set()
        net.pycontainer("start", "bb", check=True)
        assert net.lookup("ant", "bb") == {net.addresses("bb")["one"]}

    def test_several_networks(self, net: Net) -> None:
        net.run("ant", "--network", "one", "--network", "two")
        net.run("bee", "--network", "one")
        net.run("cat", "--network", "two")
        assert list(net.addresses("ant")) == ["one", "two"]
        gateway = net.network("one")["IPAM"]["Config"][0]["Gateway"]
        assert f"default via {gateway} dev eth0" in net.shell("ant", "ip route").stdout
        assert net.reaches("ant", "bee") and net.reaches("ant", "cat")
        assert net.reaches("bee", "ant") and net.reaches("cat", "ant")
        assert net.lookup("ant", "bee") and net.lookup("ant", "cat") and not net.lookup("bee", "cat")
        listed = net.pycontainer("ps", "-q", "--filter", "network=two", check=True).stdout
        assert len(listed.split()) == 2

    def test_which_network_gives_the_route(self, net: Net) -> None:
        net.run("ant", "--network", "one", "--network", "name=two,gw-priority=1")
        gateway = net.network("two")["IPAM"]["Config"][0]["Gateway"]
        assert f"default via {gateway} dev eth1" in net.shell("ant", "ip route").stdout

    def test_a_chosen_address(self, net: Net) -> None:
        net.pycontainer("network", "create", "--subnet", "10.98.7.0/24", "three", check=True)
        net.run("ant", "--network", "three", "--ip", "10.98.7.77")
        assert net.addresses("ant") == {"three": "10.98.7.77"}
        net.pycontainer("restart", "-t", "0", "ant", check=True)
        assert net.addresses("ant") == {"three": "10.98.7.77"}
        for address, cause in (
            ("10.98.7.77", "already in use"),
            ("10.98.7.1", "gateway"),
            ("10.98.8.1", "no address of"),
        ):
            refused = net.pycontainer("run", "--rm", "--network", "three", "--ip", address, "busybox", "true")
            assert refused.returncode == 125 and cause in refused.stderr
        assert net.pycontainer("ps", "-aq", check=True).stdout.split() == [net.inspect("ant")["Id"][:12]]

    def test_another_containers_network(self, net: Net) -> None:
        net.run("ant", "--network", "one", "--hostname", "aitch")
        shared = ["run", "--rm", "--network", "container:ant", "busybox", "sh", "-c"]
        shown = net.pycontainer(*shared, "hostname; ip -4 -o address; cat /etc/hosts", check=True).stdout
        assert shown.startswith("aitch\n") and net.addresses("ant")["one"] in shown and "\taitch" in shown
        same = net.pycontainer(*shared, "readlink /proc/self/ns/net", check=True).stdout
        assert same == net.shell("ant", "readlink /proc/self/ns/net").stdout
        # Also by way of one that has it itself.
        net.run("bee", "--network", "container:ant")
        looks = "hostname; cat /etc/hosts /etc/resolv.conf"
        chained = net.pycontainer("run", "--rm", "--network", "container:bee", "busybox", "sh", "-c", looks, check=True)
        assert chained.stdout == net.shell("ant", looks).stdout
        # It is known by its id: another one may be called so by the next start.
        net.pycontainer("rename", "ant", "asp", check=True)
        net.pycontainer("restart", "-t", "0", "bee", check=True)
        assert net.shell("bee", "readlink /proc/self/ns/net").stdout == same
        net.pycontainer("rename", "asp", "ant", check=True)
        refused = net.pycontainer("run", "-p", "80", "--network", "container:ant", "busybox")
        assert refused.returncode == 125 and "the network is the other container's" in refused.stderr
        net.pycontainer("stop", "-t", "0", "ant", check=True)
        refused = net.pycontainer(*shared, "true")
        assert refused.returncode == 125 and "only a running one has a network" in refused.stderr

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--network", "nosuch"], "find network: nosuch: no such network"),
            (["--network", "one", "--network", "host"], "host goes with no other network"),
            (["--network", "one", "--network", "one"], "named twice"),
            (["--network", "name=one,colour=red"], "no such property"),
            (["--network", "alias=x"], "does not name one network"),
            (["--network", "none", "--network-alias", "x"], "no network of its own"),
            (["--network-alias", "x"], "no names for each other"),
            (["--ip", "10.99.0.9"], "not on the default bridge"),
            (["--network", "one", "--ip", "x"], "not an IPv4 address"),
            (["--network", "one", "--mac-address", "01:02:03:04:05:06"], "not the address of one link"),
            (["--network", "container:nosuch"], "no such container"),
        ],
    )
    def test_what_is_refused(self, net: Net, options: list[str], message: str) -> None:
        refused = net.pycontainer("run", "--rm", *options, "busybox", "true")
        assert refused.returncode == 125 and message in refused.stderr, refused.stderr
        assert net.pycontainer("ps", "-aq", check=True).stdout == ""

    def test_an_id_in_the_place_of_a_name(self, net: Net) -> None:
        net.run("ant", "--network", net.network("one")["Id"][:12])
        assert list(net.addresses("ant")) == ["one"]
        net.pycontainer("restart", "-t", "0", "ant", check=True)
        assert list(net.addresses("ant")) == ["one"]


class TestConnecting:
    def test_while_it_runs(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        net.run("bee", "--network", "two")
        net.pycontainer("network", "connect", "--alias", "ay", "two", "ant", check=True)
        assert net.reaches("bee", "ay") and net.reaches("ant", "bee")
        assert list(net.addresses("ant")) == ["one", "two"]
        refused = net.pycontainer("network", "connect", "two", "ant")
        assert refused.returncode == 1 and "connected to network two already" in refused.stderr
        # The route goes with the network that gave it, and another one gives it.
        net.pycontainer("network", "disconnect", "one", "ant", check=True)
        gateway = net.network("two")["IPAM"]["Config"][0]["Gateway"]
        assert f"default via {gateway} dev eth1" in net.shell("ant", "ip route").stdout
        assert f"nameserver {gateway}" in net.shell("ant", "cat /etc/resolv.conf").stdout
        assert net.lookup("ant", "bee") and net.reaches("bee", "ant")
        # And it is kept.
        net.pycontainer("restart", "-t", "0", "ant", check=True)
        assert list(net.addresses("ant")) == ["two"] and net.reaches("bee", "ay")

    @pytest.mark.parametrize("left", ["nothing", "half of it"])
    def test_what_a_killed_one_has_not_plugged_in(self, net: Net, left: str) -> None:
        net.run("ant", "--network", "one")
        net.run("bee", "--network", "two")
        net.pycontainer("network", "connect", "two", "ant", check=True)
        address = net.addresses("ant")["two"]
        pid = net.inspect("ant")["State"]["Pid"]
        # As if it had been killed before it had made the link, or before it had set the container's end up.
        change = "delete" if left == "nothing" else "set down"
        subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "link", *change.split(), "dev", "eth1"], check=True)
        assert not net.reaches("bee", "ant")
        found = net.pycontainer("doctor")
        assert found.returncode == 1 and "cable" in found.stdout and "ant in two" in found.stdout, found.stdout
        net.pycontainer("doctor", "--fix", check=True)
        # The kernel of the other one asks once a second where it is, and has asked before.
        wait_until(lambda: net.reaches("bee", "ant"))
        assert net.addresses("ant")["two"] == address
        assert net.pycontainer("doctor").stdout == "Nothing is left behind.\n"

    def test_while_it_does_not_run(self, net: Net) -> None:
        net.pycontainer("create", "--name", "ant", "--network", "one", "busybox", "sleep", "1000", check=True)
        net.pycontainer("network", "connect", "two", "ant", check=True)
        net.pycontainer("network", "disconnect", "one", "ant", check=True)
        net.pycontainer("start", "ant", check=True)
        assert list(net.addresses("ant")) == ["two"]

    def test_the_last_one(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        net.pycontainer("network", "disconnect", "one", "ant", check=True)
        assert net.addresses("ant") == {"none": ""}
        assert "eth0" not in net.shell("ant", "ls /sys/class/net").stdout
        net.pycontainer("network", "connect", "two", "ant", check=True)
        assert list(net.addresses("ant")) == ["two"]
        net.run("bee", "--network", "two")
        assert net.reaches("ant", "bee")

    def test_a_resolv_conf_that_fits_in_no_memory(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        assert net.shell("ant", "truncate -s 1000G /etc/resolv.conf").returncode == 0
        net.pycontainer("network", "connect", "two", "ant", check=True)
        net.pycontainer("network", "disconnect", "one", "ant", check=True)
        assert list(net.addresses("ant")) == ["two"]

    def test_a_failure_leaves_no_cable(self, net: Net) -> None:
        """A container has what the host was about to make."""
        net.pycontainer("network", "create", "--internal", "three", check=True)
        net.run("ant", "--network", "three", "--cap-add", "NET_ADMIN")
        assert net.shell("ant", "ip route add default dev eth0").returncode == 0
        refused = net.pycontainer("network", "connect", "two", "ant")
        assert refused.returncode == 1 and "add default route" in refused.stderr
        assert list(net.addresses("ant")) == ["three"]
        assert "eth1" not in net.shell("ant", "ls /sys/class/net").stdout
        # And what it has made itself keeps it in no network.
        net.shell("ant", "ip route del default")
        net.pycontainer("network", "connect", "two", "ant", check=True)
        net.pycontainer("network", "connect", "one", "ant", check=True)
        net.shell("ant", "ip route del default; ip route add default dev eth0")
        net.pycontainer("network", "disconnect", "two", "ant", check=True)
        assert sorted(net.addresses("ant")) == ["one", "three"]

    def test_ports_go_along(self, net: Net) -> None:
        net.run("ant", "--network", "one", "-p", "127.0.0.1:0:80", command=SERVE.format("served"))
        port = net.pycontainer("port", "ant", "80", check=True).stdout.strip().rpartition(":")[2]
        net.pycontainer("network", "connect", "two", "ant", check=True)
        assert fetch("127.0.0.1", port) == "served"
        net.pycontainer("network", "disconnect", "one", "ant", check=True)
        assert fetch("127.0.0.1", port) == "served"
        refused = net.pycontainer("network", "disconnect", "two", "ant")
        assert refused.returncode == 1 and "publishes ports" in refused.stderr

    def test_from_the_network_that_is_always_there(self, own: Net) -> None:
        own.run("ant")
        own.run("bee", "--network", "one")
        own.pycontainer("network", "connect", "one", "ant", check=True)
        assert own.lookup("ant", "bee") and own.reaches("ant", "bee")
        own.pycontainer("network", "disconnect", "bridge", "ant", check=True)
        assert list(own.addresses("ant")) == ["one"]

    @pytest.mark.parametrize("options", [("--network", "host"), ("--network", "container:bee")])
    def test_what_has_no_network_of_its_own(self, own: Net, options: tuple[str, ...]) -> None:
        own.run("bee")
        own.run("ant", *options)
        refused = own.pycontainer("network", "connect", "one", "ant")
        assert refused.returncode == 1 and "has no network of its own" in refused.stderr


def fetch(address: str, port: str) -> str:
    """What a published port answers; "" where nothing does."""
    done = subprocess.run(
        ["python3", "-IS", "-c", f"import socket; print(socket.create_connection(('{address}', {port}), 2).recv(99))"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip().removeprefix("b'").removesuffix("\\n'")


class TestInternal:
    @pytest.fixture
    def inside(self, net: Net) -> Net:
        net.pycontainer("network", "create", "--internal", "in", check=True)
        return net

    def test_nothing_gets_out_and_nothing_in(self, inside: Net) -> None:
        net = inside
        net.run("ant", "--network", "in")
        net.run("bee", "--network", "in")
        net.run("cat", "--network", "one")
        outside, hidden = net.addresses("cat")["one"], net.addresses("ant")["in"]
        assert net.network("in")["Internal"] is True
        assert net.reaches("ant", "bee")
        assert "default" not in net.shell("ant", "ip route").stdout
        # Nor by a route of its own.
        gateway = net.network("in")["IPAM"]["Config"][0]["Gateway"]
        net.pycontainer("run", "--rm", "--network", "in", "--cap-add", "NET_ADMIN", "busybox", "true", check=True)
        tried = f"ip route add default via {gateway}; ping -c 1 -W 1 {outside}"
        done = net.pycontainer("run", "--rm", "--network", "in", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", tried)
        assert done.returncode == 1 and "100% packet loss" in done.stdout
        assert not net.reaches("cat", hidden)
        assert "SERVFAIL" in net.shell("ant", "nslookup nosuch.example 2>&1").stdout

    def test_with_another_network_the_way_out_leads_there(self, inside: Net) -> None:
        net = inside
        net.run("ant", "--network", "in", "--network", "one")
        gateway = net.network("one")["IPAM"]["Config"][0]["Gateway"]
        assert f"default via {gateway} dev eth1" in net.shell("ant", "ip route").stdout

    def test_ports_are_discarded(self, inside: Net) -> None:
        done = inside.pycontainer("run", "--rm", "--network", "in", "-p", "0:80", "busybox", "true", check=True)
        assert "published ports are discarded" in done.stderr


class TestPicture:
    def test_it_is_what_the_kernel_has(self, net: Net) -> None:
        net.run("ant", "--network", "name=one,alias=ay,alias=bay", "-p", "127.0.0.1:0:80")
        net.run("bee", "--network", "two", "--network", "one", "-p", "127.0.0.1:0:80")
        port = net.pycontainer("port", "ant", "80", check=True).stdout.strip()
        lines = net.pycontainer("network", "inspect", "--picture", "one", check=True).stdout.splitlines()
        shown = net.network("one")
        interface, gateway = shown["Options"]["com.docker.network.bridge.name"], shown["IPAM"]["Config"][0]["Gateway"]
        assert f"└─ {interface}  {gateway}/24  NAT  network one" in lines
        rows = [re.split(r"  +|─ | ═ ", line)[1:] for line in lines if " ═ " in line]
        assert [[row[1], *row[3:]] for row in rows] == [
            [net.addresses("ant")["one"], "eth0", "ant", f"{port} -> 80/tcp, also ay, also bay"],
            # Its ports are at the other one.
            [net.addresses("bee")["one"], "eth1", "bee"],
        ]
        assert {row[2] for row in rows} == set(os.listdir(f"/sys/class/net/{interface}/brif"))
        there = subprocess.run(["ip", "-br", "-4", "address"], capture_output=True, text=True, check=True).stdout
        for name, address in re.findall(r"^├─ (\S+) +([\d.]+/\d+)$", "\n".join(lines), re.MULTILINE):
            assert re.search(rf"^{re.escape(name)}(@\S+)? .*{re.escape(address)}", there, re.MULTILINE)

    def test_what_is_wrong_with_a_bridge(self, net: Net) -> None:
        interface = net.network("one")["Options"]["com.docker.network.bridge.name"]
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)
        shown = net.pycontainer("network", "inspect", "--picture", "one", "two", check=True).stdout
        assert f"{interface} (down: the next start sets it up)" in shown and shown.count(" network ") == 2
        net.pycontainer("run", "--rm", "--network", "one", "busybox", "true", check=True)
        shown = net.pycontainer("network", "inspect", "--picture", "nosuch", "one")
        assert (shown.returncode, f"{interface}  " in shown.stdout) == (1, True)
        assert "nosuch: no such network" in shown.stderr

    def test_it_has_no_other_form(self, net: Net) -> None:
        refused = net.pycontainer("network", "inspect", "--picture", "--format", "json", "one")
        assert (refused.returncode, refused.stdout) == (1, "") and "it goes with no --format" in refused.stderr


class TestIPv6:
    @pytest.fixture
    def six(self, net: Net) -> Iterator[Net]:
        """With the networks `six` and `other`, both of IPv6 too."""
        forwarding = pathlib.Path("/proc/sys/net/ipv6/conf/all/forwarding")
        before = forwarding.read_text()
        for name in ("six", "other"):
            net.pycontainer("network", "create", "--ipv6", name, check=True)
        yield net
        forwarding.write_text(before)

    def address(self, net: Net, name: str, network: str = "six") -> str:
        found = net.inspect(name)["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"]
        assert isinstance(found, str)
        return found

    def test_addresses_names_and_who_is_reached(self, six: Net) -> None:
        net = six
        net.run("ant", "--network", "six")
        net.run("bee", "--network", "six", "--network", "other")
        net.run("cat", "--network", "other")
        (four, shown) = net.network("six")["IPAM"]["Config"]
        assert re.fullmatch(r"fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}::/64", shown["Subnet"])
        assert net.network("six")["EnableIPv6"] is True and "." in four["Subnet"]
        ant, bee, cat = self.address(net, "ant"), self.address(net, "bee"), self.address(net, "cat", "other")
        assert ant.startswith(shown["Subnet"].removesuffix(":/64"))
        assert net.lookup("ant", "bee") == {net.addresses("bee")["six"], bee}
        assert "name = bee.six" in net.shell("ant", f"nslookup {bee}").stdout
        assert f"{ant}\t" in net.shell("ant", "cat /etc/hosts").stdout
        # At once, because nobody else can have the address.
        ping = "ping -6 -c 1 -W 1 "
        assert net.shell("ant", f"{ping}{bee}").returncode == 0
        assert net.shell("ant", f"{ping}{shown['Gateway']}").returncode == 0
        assert net.shell("ant", f"{ping}{cat}").returncode != 0
        assert net.shell("cat", f"{ping}{ant}").returncode != 0
        assert f"default via {shown['Gateway']}" in net.shell("ant", "ip -6 route").stdout
        assert len(re.findall("default via", net.shell("bee", "ip -6 route").stdout)) == 1

    def test_a_chosen_address(self, six: Net) -> None:
        net = six
        four, shown = net.network("six")["IPAM"]["Config"]
        base, base6 = four["Gateway"].rpartition(".")[0], shown["Subnet"].removesuffix("/64")
        net.run("ant", "--network", "six", "--ip6", f"{base6}007")
        assert (self.address(net, "ant"), net.addresses("ant")["six"]) == (f"{base6}7", f"{base}.7")
        net.pycontainer("network", "create", "four", check=True)
        net.run("bee", "--network", "four")
        net.pycontainer("network", "connect", "--ip6", f"{base6}9", "six", "bee", check=True)
        assert self.address(net, "bee") == f"{base6}9"
        assert f"{base6}9/64" in net.shell("bee", "ip -6 address").stdout
        net.pycontainer("restart", "-t", "0", "bee", check=True)
        assert self.address(net, "bee") == f"{base6}9"
        picture = net.pycontainer("network", "inspect", "--picture", "six", check=True).stdout
        assert f"{base6}9" in picture and f"{shown['Gateway']}/64" in picture
        for network, address, cause in (
            ("six", f"{base6}7", "already in use"),
            ("six", f"{base6}1", "gateway"),
            ("six", "fd00::5", "the same number in"),
            ("six", f"{base6}ffff", f"one from {base6}1 to {base6}ffe"),
            (f"name=six,ip={base}.8", f"{base6}a", f"{base6}8 goes with {base}.8"),
            ("four", f"{base6}5", "network four has no IPv6"),
            ("six", "10.99.0.5", "not an IPv6 address"),
            ("bridge", f"{base6}5", "not on the default bridge"),
        ):
            refused = net.pycontainer("run", "--rm", "--network", network, "--ip6", address, "busybox", "true")
            assert refused.returncode == 125 and cause in refused.stderr, refused.stderr

    def test_it_is_made_again(self, six: Net) -> None:
        net = six
        net.run("ant", "--network", "six")
        net.run("bee", "--network", "six")
        interface = net.network("six")["Options"]["com.docker.network.bridge.name"]
        table = f"pycontainer_{net.pycontainer.environment['PYCONTAINER_BRIDGE']}"
        gateway = net.network("six")["IPAM"]["Config"][1]["Gateway"]
        for damage in (
            ["nft", "delete", "table", "ip6", table],
            ["ip", "-6", "address", "flush", "dev", interface, "scope", "global"],
            ["ip", "link", "delete", interface],
        ):
            subprocess.run(damage, check=True)
            net.pycontainer("run", "--rm", "--network", "six", "busybox", "true", check=True)
            assert subprocess.run(["nft", "list", "table", "ip6", table], capture_output=True).returncode == 0
            assert net.shell("ant", f"ping -6 -c 1 -W 1 {gateway}").returncode == 0
        settings = pathlib.Path(f"/proc/sys/net/ipv6/conf/{interface}")
        assert [(settings / name).read_text() for name in ("accept_ra", "accept_dad")] == ["0\n", "0\n"]

    def test_what_leaves_takes_the_hosts_address(self, six: Net) -> None:
        net = six
        net.run("ant", "--network", "six")
        net.pycontainer("network", "create", "--internal", "--ipv6", "in", check=True)
        net.run("bee", "--network", "in")
        script = (
            "import socket; s=socket.socket(10,2); s.bind(('::',9999)); print(flush=True); print(s.recvfrom(9)[1][0])"
        )
        with subprocess.Popen(
            ["unshare", "--net", "sh", "-c", f"read x; python3 -ISc \"{script}\""],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as neighbour:  # fmt: skip
            assert neighbour.stdin and neighbour.stdout
            link = f"out{neighbour.pid % 100000}"
            try:
                wait_until(lambda: os.stat(f"/proc/{neighbour.pid}/ns/net") != os.stat("/proc/self/ns/net"))
                for command in (
                    f"ip link add {link} type veth peer name up0 netns {neighbour.pid}",
                    f"ip address add fd00:db8::1/64 nodad dev {link}",
                    f"ip link set {link} up",
                    f"nsenter -t {neighbour.pid} -n ip address add fd00:db8::2/64 nodad dev up0",
                    f"nsenter -t {neighbour.pid} -n ip link set up0 up",
                ):
                    subprocess.run(command.split(), check=True)
                neighbour.stdin.write("\n")
                neighbour.stdin.flush()
                neighbour.stdout.readline()
                send = "import socket; socket.socket(10, 2).sendto(b'x', ('fd00:db8::2', 9999))"
                assert "Network is unreachable" in net.python("bee", send).stderr
                assert net.python("ant", send).returncode == 0
                assert neighbour.stdout.readline() == "fd00:db8::1\n"
            finally:
                neighbour.kill()
                subprocess.run(["ip", "link", "delete", link], stderr=subprocess.DEVNULL)

    def test_the_table_goes_with_the_last_of_them(self, net: Net) -> None:
        forwarding = pathlib.Path("/proc/sys/net/ipv6/conf/all/forwarding")
        before = forwarding.read_text()
        table = f"pycontainer_{net.pycontainer.environment['PYCONTAINER_BRIDGE']}"
        net.pycontainer("network", "create", "--subnet", "fd00:77::/64", "--subnet", "10.98.7.0/24", "six", check=True)
        forwarding.write_text("0\n")
        done = net.pycontainer("run", "--rm", "--network", "six", "busybox", "ip", "-6", "address", check=True)
        assert "fd00:77::2/64" in done.stdout and "IPv6 forwarding was off on this host" in done.stderr
        assert forwarding.read_text() == "1\n" and (net.pycontainer.state / "ip_forward6").exists()
        net.pycontainer("network", "rm", "six", check=True)
        assert subprocess.run(["nft", "list", "table", "ip6", table], capture_output=True).returncode != 0
        forwarding.write_text(before)

    def test_what_is_refused(self, net: Net) -> None:
        net.are_refused(
            (["--subnet", "fd00::/120", "x"], "not for containers"),
            (["--subnet", "fe80::/64", "x"], "not for containers"),
            (["--subnet", "fd00::/200", "x"], "not a subnet"),
            (["--subnet", "fd00::/64", "--subnet", "fd01::/64", "x"], "one IPv6 subnet"),
            (["--subnet", "10.98.1.0/24", "--subnet", "10.98.2.0/24", "x"], "one IPv4 subnet"),
        )


class TestRepair:
    def test_a_name_server_that_is_killed(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        net.run("bee", "--network", "one")
        address = net.addresses("bee")["one"]
        for _ in range(3):
            wait_until(lambda: len(name_servers(net.pycontainer)) == 2)
            os.kill(name_servers(net.pycontainer)[0], signal.SIGKILL)
            assert net.lookup("ant", "bee") == {address}
            wait_until(lambda: len(name_servers(net.pycontainer)) == 2)
            os.kill(name_servers(net.pycontainer)[1], signal.SIGKILL)
            assert net.lookup("ant", "bee") == {address}

    def test_both_at_once(self, own: Net) -> None:
        own.run("ant", "--network", "one")
        wait_until(lambda: len(name_servers(own.pycontainer)) == 2)
        before = name_servers(own.pycontainer)
        # Stopped first, so that neither sees the other's end.
        for sent in (signal.SIGSTOP, signal.SIGKILL):
            for pid in before:
                os.kill(pid, sent)
        # Any command repairs it, and the launcher, when it sees one of its processes killed.
        own.pycontainer("ps", check=True)
        wait_until(lambda: len(name_servers(own.pycontainer)) == 2)
        assert not set(before) & set(name_servers(own.pycontainer))
        assert own.lookup("ant", "ant") == {own.addresses("ant")["one"]}

    def test_they_may_do_nothing(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        wait_until(lambda: len(name_servers(net.pycontainer)) == 2)
        for pid in name_servers(net.pycontainer):
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            assert "CapPrm:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
            assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
            opened = {os.readlink(each) for each in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
            assert not [path for path in opened if "containers" in path or "launcher" in path], opened

    def test_it_ends_with_the_last_container(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        assert name_servers(net.pycontainer)
        net.pycontainer("rm", "-f", "ant", check=True)
        wait_until(lambda: not name_servers(net.pycontainer))

    def test_garbage_does_not_end_it(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        gateway = net.network("one")["IPAM"]["Config"][0]["Gateway"]
        before = name_servers(net.pycontainer)
        script = f"""
import os, socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for size in range(0, 1200, 7):
    udp.sendto(os.urandom(size), ("{gateway}", 53))
for size in (1, 100, 70000):
    with socket.create_connection(("{gateway}", 53)) as tcp:
        try:
            tcp.sendall(os.urandom(size))
        except OSError:
            pass
"""
        assert net.python("ant", script).returncode == 0
        assert net.lookup("ant", "ant") and set(before) <= set(name_servers(net.pycontainer))

    def test_a_bridge_that_is_deleted(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        net.run("bee", "--network", "one")
        interface = net.network("one")["Options"]["com.docker.network.bridge.name"]
        subprocess.run(["ip", "link", "delete", interface], check=True)
        assert not net.reaches("ant", net.addresses("bee")["one"])
        net.pycontainer("run", "--rm", "--network", "one", "busybox", "true", check=True)
        assert net.reaches("ant", "bee")

    def test_a_table_that_is_flushed(self, net: Net) -> None:
        net.run("ant", "--network", "one")
        net.run("cat", "--network", "two")
        table = f"pycontainer_{net.pycontainer.environment['PYCONTAINER_BRIDGE']}"
        subprocess.run(["nft", "flush", "table", "ip", table], check=True)
        assert net.reaches("cat", net.addresses("ant")["one"])
        net.run("bee", "--network", "two")
        assert not net.reaches("cat", net.addresses("ant")["one"])

    def test_a_port_that_is_taken(self, net: Net) -> None:
        gateway = net.network("one")["IPAM"]["Config"][0]["Gateway"]
        script = (
            f"import socket,time; s=socket.socket(2,2); s.bind(('{gateway}',53)); print(flush=True); time.sleep(60)"
        )
        with subprocess.Popen(["python3", "-IS", "-c", script], stdout=subprocess.PIPE) as holder:
            assert holder.stdout
            holder.stdout.readline()
            try:
                refused = net.pycontainer("run", "--rm", "--network", "one", "busybox", "true")
            finally:
                holder.kill()
        assert refused.returncode == 125
        assert f"start the name server: {gateway}:53: address already in use" in refused.stderr
        net.pycontainer("run", "--rm", "--network", "one", "busybox", "true", check=True)

    def test_a_reboot(self, own: Net) -> None:
        """What is below STATE is gone, and so are bridges and rules."""
        interfaces = own_bridges(own.pycontainer.environment)
        for interface in interfaces:
            subprocess.run(["ip", "link", "delete", interface], check=True)
        table = f"pycontainer_{own.pycontainer.environment['PYCONTAINER_BRIDGE']}"
        subprocess.run(["nft", "delete", "table", "ip", table], check=True)
        own.run("ant", "--network", "one")
        own.run("bee", "--network", "one")
        assert own.reaches("ant", "bee")
        assert own_bridges(own.pycontainer.environment) == interfaces


def test_somebody_takes_an_address_in_a_subnet(net: Net) -> None:
    """As docker does, without a word; the network goes on where nothing else leads."""
    subnet = ipaddress.IPv4Network(net.network("one")["IPAM"]["Config"][0]["Subnet"])
    interface = f"oth{os.getpid() % 100000}"
    assert net.pycontainer("doctor", check=True).stderr == ""
    other = ipaddress.IPv4Interface(f"{subnet[-20]}/28")
    subprocess.run(["ip", "link", "add", interface, "type", "bridge"], check=True)
    try:
        for words in (["link", "set", interface, "up"], ["address", "add", str(other), "dev", interface]):
            subprocess.run(["ip", *words], check=True)
        (line,) = net.pycontainer("doctor", check=True).stderr.splitlines()
        assert line.startswith(
            f"pycontainer: network one: the host now uses {other.network}, which overlaps its {subnet}: "
        )
    finally:
        subprocess.run(["ip", "link", "delete", interface], check=True)
    assert net.pycontainer("doctor", check=True).stderr == ""


def test_nothing_is_left_of_a_network(own: Net) -> None:
    bridges = own_bridges(own.pycontainer.environment)
    own.run("ant", "--network", "one", "--network", "two", "-p", "0:80")
    own.pycontainer("rm", "-f", "ant", check=True)
    own.pycontainer("network", "rm", "one", "two", check=True)
    assert not [name for name in bridges if os.path.exists(f"/sys/class/net/{name}")]
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    assert not any(name in rules for name in bridges)
