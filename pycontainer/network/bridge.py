"""Make the bridge network: what happens once per boot, or when somebody deleted it."""

from __future__ import annotations

import ipaddress
import os
import sqlite3
from ipaddress import IPv4Network
from typing import NamedTuple

from pycontainer.errors import Conflict, HostError, PycontainerError
from pycontainer.kernel.netlink import (
    NETLINK_ROUTE,
    Link,
    Netlink,
    get_addresses,
    new_address,
    parse_address,
    set_link_up,
)
from pycontainer.kernel.netlink_bridge import get_links, get_routes, new_bridge, parse_route
from pycontainer.kernel.operation import Journal
from pycontainer.network import lease, rules
from pycontainer.network.files import nameservers
from pycontainer.network.lease import StoredNetwork
from pycontainer.network.names import link_name
from pycontainer.network.operations import (
    AddAddress6,
    DeleteBridge,
    DeleteLink,
    DisableIPv6,
    FindLink,
    NetworkOperation,
    Request,
    SetMaster,
    SwitchOff6,
)
from pycontainer.network.publication import Publication

# Away from what others take by themselves: docker 172.17 and up and 192.168, podman 10.88 and up, libvirt 192.168.122,
# Kubernetes 10.96 and 10.244. A /20 has room for more ports than a bridge can have (1,023).
POOLS = ("10.99.0.0/16", "10.199.0.0/16", "172.30.0.0/16", "192.168.192.0/18")
PREFIX_LENGTH = 20

# Routes wider than this are default routes in disguise: a VPN that wants everything takes 0.0.0.0/1 and 128.0.0.0/1.
WIDEST_ROUTE = 5

# What the IPv6 of a bridge does without, and why.
_OFF = (
    ("accept_ra", "a container could announce itself as the host's IPv6 router (CVE-2020-13401)"),
    (
        "accept_dad",
        "until the bridge knows that nobody has its own address, a second or two, it asks for no container's",
    ),
)

MTU = 1500  # bytes; less where the host's own way out carries less


def reserve(journal: Journal, connection: sqlite3.Connection, wish: StoredNetwork) -> None:
    """Store a network that a user makes, in a place that is free. Inside the caller's transaction.

    wish  its row; the subnet and the gateway may be "", for what is free

    Raises Conflict, HostError, StepFailed.
    """
    with Netlink(NETLINK_ROUTE) as route:
        survey = journal.perform(SurveyHost(route, wish.interface))
    taken = survey.taken + [IPv4Network(each.subnet) for each in lease.find_all(connection)]
    survey = survey._replace(taken=taken)
    subnet = check_subnet(wish, survey) if wish.subnet else choose_subnet(taken)
    gateway = wish.gateway or str(subnet[1])
    lease.store(
        connection,
        StoredNetwork(wish.name, wish.interface, str(subnet), gateway, wish.id, wish.created, wish.traits),
    )


def make(
    journal: Journal,
    connection: sqlite3.Connection,
    wish: StoredNetwork,
    table: str,
    published: list[Publication],
) -> list[str]:
    """Make what is missing of a network; lines to show the user. `published` is what the containers of all publish.

    wish  its row; of the one that is always there the subnet and the gateway may be "", for what is free

    Runs inside the caller's transaction. Every step may have been done before: what was killed half way is continued
    here. Raises Conflict, HostError, StepFailed.
    """
    name, interface = wish.name, wish.interface
    with Netlink(NETLINK_ROUTE) as netlink:
        found = journal.perform(FindLink(netlink, interface, "a bridge that is there is kept"))
        survey = journal.perform(SurveyHost(netlink, interface))
        assert isinstance(survey, Survey)
        others = [each for each in lease.find_all(connection) if each.name != name]
        survey = survey._replace(taken=survey.taken + [IPv4Network(each.subnet) for each in others])
        stored = lease.find(connection, name)
        leases = lease.lease_count(connection, name)
        if wish.id:
            subnet = IPv4Network(wish.subnet) if stored and found else check_subnet(wish, survey)
        else:
            subnet = plan_subnet(stored, bool(found), bool(leases), survey)
        gateway = str(survey.own.ip) if survey.own and survey.own.network == subnet else str(subnet[1])
        gateway = wish.gateway if wish.id else gateway
        wish = StoredNetwork(name, interface, str(subnet), gateway, wish.id, wish.created, wish.traits)
        lease.store(connection, wish)
        if not found:
            mtu = wish.traits.mtu or survey.mtu
            journal.perform(CreateBridge(netlink, interface, gateway, mtu))
        try:
            link = journal.perform(FindLink(netlink, interface, "its index, by which the next messages name it"))
            if not isinstance(link, Link):
                raise Conflict("set up the bridge", interface, "it was deleted while it was being made")
            if wish.gateway6:
                for setting, reason in _OFF:
                    journal.perform(SwitchOff6(interface, setting, reason))
            else:
                journal.perform(DisableIPv6(interface))
            journal.perform(AddBridgeAddress(netlink, interface, link.index, gateway, subnet))
            if wish.gateway6:
                _, length = lease.split_subnet6(wish.traits.subnet6)
                journal.perform(AddAddress6(netlink, -1, link.index, wish.gateway6, length, interface))
            journal.perform(rules.ApplyRules(table, lease.find_all(connection), published))
            if leases:
                _plug_in(journal, connection, netlink, wish, link)
            # Last, because a bridge that is up is taken as complete.
            journal.perform(SetBridgeUp(netlink, interface, link.index))
        except PycontainerError:
            if not found:
                journal.perform(DeleteLink(netlink, interface, "half a network is worse than none"))
            raise
    return rules.firewall_notices(journal, wish)


def _plug_in(
    journal: Journal, connection: sqlite3.Connection, netlink: Netlink, network: StoredNetwork, bridge: Link
) -> None:
    """The cables of the containers that run, into a bridge that was gone: their ends have stayed."""
    for leased in lease.leases_in(connection, network.name):
        name = link_name(leased.container_id, network.name)
        link = journal.perform(FindLink(netlink, name, "a cable that was in the bridge before"))
        if isinstance(link, Link) and link.master != bridge.index:
            journal.perform(SetMaster(netlink, name, link.index, network.interface, bridge.index))


def remove(
    journal: Journal,
    connection: sqlite3.Connection,
    network: StoredNetwork,
    table: str,
    published: list[Publication],
) -> None:
    """Take away what `make` has made, with the row. Inside the caller's transaction. Raises HostError, StepFailed."""
    lease.delete(connection, network.name)
    with Netlink(NETLINK_ROUTE) as netlink:
        journal.perform(DeleteBridge(netlink, network.interface))
    rest = lease.find_all(connection)
    journal.perform(rules.ApplyRules(table, rest, published, drop6=bool(network.traits.subnet6)))


class Survey(NamedTuple):
    """What a new subnet has to get along with: what is in use, the bridge's own address, the MTU (bytes) outwards."""

    taken: list[IPv4Network]
    own: ipaddress.IPv4Interface | None
    mtu: int


def plan_subnet(stored: StoredNetwork | None, exists: bool, leased: bool, survey: Survey) -> IPv4Network:
    """The stored subnet if it can be kept, else that of a bridge which is there already, else one that is free.

    Raises Conflict where the stored one can neither be used nor given up, HostError where none is free.
    """
    if stored is None:
        return survey.own.network if exists and survey.own else choose_subnet(survey.taken)
    subnet = IPv4Network(stored.subnet)
    # The bridge's own routes are not in the survey: what overlaps now came after the subnet had been chosen.
    clash = next((other for other in survey.taken if other.overlaps(subnet)), None)
    if exists or clash is None:
        return subnet
    if leased:
        raise Conflict(
            f"set up network {stored.name}",
            stored.subnet,
            f"the host now uses {clash}, which overlaps",
            "remove the containers that hold addresses of this network, or the host's route; then it can move",
        )
    return choose_subnet(survey.taken)


def check_subnet(wish: StoredNetwork, survey: Survey) -> IPv4Network:
    """The subnet that a user has chosen, or that was chosen once. Raises Conflict where the host uses it otherwise."""
    subnet = IPv4Network(wish.subnet)
    clash = next((other for other in survey.taken if other.overlaps(subnet)), None)
    if clash is not None:
        raise Conflict(
            f"set up network {wish.name}",
            wish.subnet,
            f"it overlaps {clash}, which is another network's or the host's",
            "see `ip route` and `pycontainer network inspect`; a network without --subnet takes what is free",
        )
    return subnet


def overlap_notices(journal: Journal, networks: list[StoredNetwork]) -> list[str]:
    """Lines to show the user: what on the host has come into a subnet since that was chosen. Raises StepFailed."""
    notices = []
    with Netlink(NETLINK_ROUTE) as route:
        for network in networks:
            taken = journal.perform(SurveyHost(route, network.interface)).taken
            if clash := next((each for each in taken if each.overlaps(IPv4Network(network.subnet))), None):
                notices.append(
                    f"network {network.name}: the host now uses {clash}, which overlaps its {network.subnet}: what is "
                    "sent there may go the wrong way; see `ip route`, and give one of them another subnet"
                )
    return notices


def choose_subnet(taken: list[IPv4Network]) -> IPv4Network:
    """The first subnet of POOLS that overlaps none of `taken`. Raises HostError."""
    for pool in POOLS:
        for subnet in IPv4Network(pool).subnets(new_prefix=PREFIX_LENGTH):
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
    raise HostError(
        "choose a subnet for the bridge", "", f"the host has routes into all of {', '.join(POOLS)}", "see `ip route`"
    )


def free_subnet() -> str:
    """One that a new bridge could have now; nothing is made. Raises HostError, StepFailed."""
    with Netlink(NETLINK_ROUTE) as route:
        return str(choose_subnet(Journal().perform(SurveyHost(route, "")).taken))


class SurveyHost(NetworkOperation):
    """Its result is a Survey."""

    step = "list routes and addresses"
    reason = "the containers' subnet must not hide a network that the host can reach"

    def __init__(self, netlink: Netlink, interface: str) -> None:
        self.netlink = netlink
        self.interface = interface

    def shell(self) -> str:
        return "ip link; ip -4 address; ip -4 route show table all"

    def execute(self) -> Survey:
        links = {link.index: link for link in map(Link, self.netlink.dump(get_links()))}
        bridge = next((link.index for link in links.values() if link.name == self.interface), -1)
        own = None
        mtu = MTU
        taken = []
        for index, address, length in map(parse_address, self.netlink.dump(get_addresses())):
            found = ipaddress.IPv4Interface((address, length))
            if index == bridge:
                own = own or found
            else:
                taken.append(found.network)
        for destination, length, index in map(parse_route, self.netlink.dump(get_routes())):
            if index == bridge:
                continue
            if length >= WIDEST_ROUTE:
                taken.append(IPv4Network((destination, length)))
            elif index in links:
                mtu = min(mtu, links[index].mtu)
        return Survey(taken + _nameservers(), own, mtu)


class CreateBridge(Request):
    step = "create bridge"
    reason = "a switch inside the kernel, to which every container is plugged"

    def __init__(self, netlink: Netlink, interface: str, gateway: str, mtu: int) -> None:
        # Its own for good: by default a bridge takes that of a port, and changes it when the port goes.
        mac = b"\x02\x42" + ipaddress.IPv4Address(gateway).packed
        command = f"ip link add {interface} address {mac.hex(':')} mtu {mtu} type bridge"
        super().__init__(netlink, new_bridge(interface, mac, mtu), interface, command)


class AddBridgeAddress(Request):
    """An address that is there already is no failure."""

    step = "add address"
    reason = "the host's own place on the bridge, which is the containers' gateway"

    def __init__(self, netlink: Netlink, interface: str, index: int, gateway: str, subnet: IPv4Network) -> None:
        path = f"{gateway}/{subnet.prefixlen}"
        message = new_address(index, lease.pack_address(gateway), subnet.prefixlen, "NLM_F_REPLACE")
        command = f"ip address replace {path} broadcast {subnet.broadcast_address} dev {interface}"
        super().__init__(netlink, message, path, command)


class SetBridgeUp(Request):
    step = "set bridge up"
    reason = "packets can pass"

    def __init__(self, netlink: Netlink, interface: str, index: int) -> None:
        super().__init__(netlink, set_link_up(index), interface, f"ip link set dev {interface} up")


def _nameservers() -> list[IPv4Network]:
    """The host's name servers: reached through the default route, they have no route of their own."""
    if not os.path.exists("/etc/resolv.conf"):
        return []
    with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
        return [IPv4Network(server) for server in nameservers(file.read()) if ":" not in server]
