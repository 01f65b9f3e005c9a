"""The survey of a host before a bridge is made, and the bridge, as pyroute2 sees them: it knows nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# In a network namespace of its own, with what makes surveys hard.
SCRIPT = """
import json, sqlite3, subprocess
from pyroute2 import IPRoute
from pycontainer.kernel.netlink import NETLINK_ROUTE, Netlink
from pycontainer.kernel.operation import Journal
from pycontainer.network import lease
from pycontainer.network.attach import ensure
from pycontainer.network.bridge import SurveyHost
for line in '''
    ip link set lo up
    ip link add one type veth peer name far1
    ip link add two mtu 1280 type veth peer name far2
    ip link set far1 up
    ip link set far2 up
    ip link set one up
    ip link set two up
    ip address add 192.0.2.5/24 dev one
    ip address add 198.51.100.1 peer 198.51.100.77/32 dev two
    ip route add default via 192.0.2.1 dev one
    ip route add 10.99.0.0/17 via 192.0.2.1 dev one
    ip route add blackhole 10.99.128.0/17
    ip route add 10.199.0.0/16 nexthop via 192.0.2.2 dev one nexthop dev two
    ip route add 172.30.0.0/20 dev two table 77
    ip route add 0.0.0.0/1 dev two
'''.strip().splitlines():
    subprocess.run(line.split(), check=True)
with IPRoute() as theirs, Netlink(NETLINK_ROUTE) as netlink:
    survey = Journal().perform(SurveyHost(netlink, "pyct0"))
    routes = [
        f"{each.get_attr('RTA_DST')}/{each['dst_len']}" for each in theirs.get_routes(family=2) if each["dst_len"] >= 5
    ]
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(lease.SCHEMA)
    ensure(Journal(), connection, ["bridge"], "pyct0")
    again = Journal().perform(SurveyHost(netlink, "pyct0"))
    (bridge,) = theirs.get_links(ifname="pyct0")
    (address,) = theirs.get_addr(family=2, index=bridge["index"])
print(json.dumps({
    "survey": [str(each) for each in survey.taken], "mtu": survey.mtu, "own": str(survey.own), "routes": routes,
    "again": [str(each) for each in again.taken], "again own": str(again.own),
    "kind": bridge.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND"),
    "link": [bridge.get_attr(name) for name in ("IFLA_ADDRESS", "IFLA_MTU")], "up": bridge["flags"] & 1,
    "address": [address.get_attr(name) for name in ("IFA_LOCAL", "IFA_BROADCAST")] + [address["prefixlen"]],
}))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["unshare", "--net", sys.executable, "-c", SCRIPT]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_route_is_in_the_survey(seen: dict[str, Any]) -> None:
    assert len(seen["routes"]) > 10
    assert set(seen["routes"]) <= set(seen["survey"])
    # What the host reaches by way of several links, by none, and in another table.
    hard = {"10.99.0.0/17", "10.99.128.0/17", "10.199.0.0/16", "172.30.0.0/20", "192.0.2.0/24", "198.51.100.77/32"}
    assert hard <= set(seen["survey"])
    # Half of everything is a default route in disguise, and what goes there has to fit.
    assert "0.0.0.0/1" not in seen["survey"] and seen["mtu"] == 1280


def test_the_bridge(seen: dict[str, Any]) -> None:
    assert (seen["kind"], seen["up"], seen["own"]) == ("bridge", 1, "None")
    assert seen["link"] == ["02:42:ac:1e:10:01", 1280]
    assert seen["address"] == ["172.30.16.1", "172.30.31.255", 20], "the first that is free"


def test_its_own_address_and_routes_are_in_nobodys_way(seen: dict[str, Any]) -> None:
    assert seen["again own"] == "172.30.16.1/20"
    assert seen["again"] == seen["survey"]
