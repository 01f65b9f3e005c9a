"""Connect a container: the bridge, a veth pair into its network namespace, address and routes; one for each network.

    host                                container
    ----                                ---------
    pyc0 (bridge, 10.99.0.1/20)
      └─ pyc0123456789ab  ═══ veth ═══  eth0 (10.99.0.2/20, default via 10.99.0.1)
    pyc-0123456789a (bridge, 10.99.16.1/20)
      └─ pycba9876543210  ═══ veth ═══  eth1 (10.99.16.2/20)

This is the part that every run passes through: it imports nothing heavy. What happens once per boot is in bridge.py.
"""

from __future__ import annotations

import _socket
import errno

from pycontainer.errors import Conflict, NotFound, StepFailed, UsageError
from pycontainer.kernel.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Link, Netlink
from pycontainer.kernel.operation import Journal
from pycontainer.network import lease, ruleset
from pycontainer.network.lease import Lease, StoredNetwork, pack_address, split_subnet, split_subnet6
from pycontainer.network.names import NAME, is_link_name, link_name, table_name
from pycontainer.network.operations import (
    AddAddress,
    AddAddress6,
    AddDefaultRoute,
    AddDefaultRoute6,
    AwaitCarrier,
    CreateVeth,
    DeleteLink,
    EnableForwarding,
    EnableForwarding6,
    FindAddress,
    FindAddress6,
    FindLink,
    FindRules,
    FindRules6,
    FindTable,
    OpenSocket,
    ReadForwarding,
    ReadForwarding6,
    ReadWithoutIPv6,
    SetLinkUp,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pycontainer.network.publication import Publication


class Network:
    """A network that is up: `interface` is the bridge, `subnet` is written as 10.99.0.0/20, `mtu` is in bytes.

    table  the nft table that has its rules
    """

    __slots__ = (
        "gateway",
        "gateway6",
        "id",
        "index",
        "interface",
        "internal",
        "mtu",
        "name",
        "prefix_length",
        "stored",
        "subnet",
        "table",
    )

    def __init__(self, stored: StoredNetwork, link: Link, table: str) -> None:
        self.name = stored.name
        self.interface = stored.interface
        self.subnet = stored.subnet
        _, self.prefix_length = split_subnet(stored.subnet)
        self.gateway = stored.gateway
        self.internal = stored.traits.internal
        self.id = stored.id
        self.gateway6 = stored.gateway6
        self.stored = stored
        self.index = link.index
        self.mtu = link.mtu
        self.table = table

    def address6(self, address: str) -> str:
        """The IPv6 address that goes with an address of the network; "" where it has no IPv6."""
        return self.stored.address6(address)

    @property
    def prefix_length6(self) -> int:
        """Bits; where it has IPv6."""
        return split_subnet6(self.stored.traits.subnet6)[1]

    @property
    def has_names(self) -> bool:
        """Whether its containers reach each other by name: in those that users have made."""
        return bool(self.id)


def ensure(
    journal: Journal,
    connection: sqlite3.Connection,
    names: list[str],
    interface: str,
    published: Callable[[sqlite3.Connection], list[Publication]] = lambda _: [],
    forwarding_mark: str = "",
) -> tuple[list[Network], list[str]]:
    """The networks of these names, made first what is not there, and lines to show the user (mostly none).

    `interface` is the bridge of the network that is always there. `published` tells what the running containers
    publish, for a table of rules that has to be made anew. The file `forwarding_mark` is made where IPv4 forwarding
    was off and is switched on. Several processes may do this at once. Do not call it inside a transaction.

    Raises UsageError, NotFound, Conflict, HostError, StepFailed.
    """
    if not is_link_name(interface):
        raise UsageError(
            "set up the bridge", interface, "not a name for a link: 1 to 15 letters, digits, '-', '.', '_'"
        )
    notices: list[str] = []
    found = _find_networks(journal, connection, names, interface)
    if found is None:
        # The transaction is the lock: who waits for it finds them made.
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            found = _find_networks(journal, connection, names, interface)
            if found is None:
                from pycontainer.network import bridge

                for name in names:
                    wish = lease.find(connection, name) or StoredNetwork(NAME, interface, "", "")
                    notices += bridge.make(journal, connection, wish, table_name(interface), published(connection))
                found = _find_networks(journal, connection, names, interface)
        if found is None:
            raise Conflict("set up the network", ", ".join(names), "it was deleted while it was being made")
    if not journal.perform(ReadForwarding()):
        journal.perform(EnableForwarding(forwarding_mark))
        notices.append("IPv4 forwarding was off on this host; it is now on (net.ipv4.ip_forward=1)")
    if any(network.gateway6 for network in found) and not journal.perform(ReadForwarding6()):
        journal.perform(EnableForwarding6(f"{forwarding_mark}6" if forwarding_mark else ""))
        notices.append("IPv6 forwarding was off on this host; it is now on (net.ipv6.conf.all.forwarding=1)")
    return found, notices


def attach(
    journal: Journal,
    network: Network,
    leased: Lease,
    netns: int,
) -> None:
    """Give the network namespace `netns` (a descriptor) a link on the bridge with the leased address, and a route.

    After a failure the pair dies with the namespace, which is the caller's to end. Raises StepFailed.
    """
    name = link_name(leased.container_id, network.name)
    packed = pack_address(leased.address)
    peer_address = bytes.fromhex(leased.mac.replace(":", ""))
    with Netlink(NETLINK_ROUTE) as route:
        create = CreateVeth(
            route, name, network.interface, network.index, network.mtu, peer_address, netns, leased.link
        )
        try:
            journal.perform(create)
        except StepFailed as error:
            if error.errno != errno.EEXIST or not journal.perform(FindLink(route, name, "what took the name")):
                raise
            # The container's last run ended a moment ago and the kernel has not yet removed its link.
            journal.perform(DeleteLink(route, name, "its container is gone"))
            journal.perform(create)
    with journal.perform(OpenSocket(netns)) as inside:
        link = journal.perform(FindLink(inside, leased.link, "its index, by which the next messages name it", netns))
        journal.perform(AddAddress(inside, netns, link.index, packed, network.prefix_length, leased.link))
        journal.perform(SetLinkUp(inside, netns, link.index, leased.link, "packets can pass"))
        if network.gateway6:
            address6 = network.address6(leased.address)
            journal.perform(AddAddress6(inside, netns, link.index, address6, network.prefix_length6, leased.link))
        if leased.way_out and not network.internal:
            if network.gateway6:
                journal.perform(AddDefaultRoute6(inside, netns, network.gateway6))
            journal.perform(AddDefaultRoute(inside, netns, pack_address(network.gateway)))
    with Netlink(NETLINK_ROUTE) as route:
        journal.perform(AwaitCarrier(route, name))


def detach(connection: sqlite3.Connection, container_id: str) -> None:
    """Release the container's leases, inside the caller's transaction. Its veth pairs die with its namespace."""
    lease.release(connection, container_id)


def open_route() -> Netlink:
    """A socket for the links of this network namespace. Raises OSError."""
    return Netlink(NETLINK_ROUTE)


def is_there(journal: Journal, name: str) -> bool:
    """Whether the host has a link of that name. Raises StepFailed."""
    with Netlink(NETLINK_ROUTE) as route:
        return journal.perform(FindLink(route, name, "is the name free")) is not None


def _find_networks(
    journal: Journal, connection: sqlite3.Connection, names: list[str], interface: str
) -> list[Network] | None:
    """The networks if all that a container needs is there: rows, bridges, up and with their addresses, rules."""
    stored = lease.find_all(connection)
    by_name = {each.name: each for each in stored}
    table = table_name(interface)
    found: list[Network] = []
    for name in names:
        if name != NAME and name not in by_name:
            raise NotFound("find network", name, "no such network", "pycontainer network ls lists them")
        link = _find_bridge(journal, by_name.get(name), name, interface)
        if link is None:
            return None
        found.append(Network(by_name[name], link, table))
    with Netlink(NETLINK_NETFILTER) as netfilter:
        if not journal.perform(FindTable(netfilter, table, ruleset.comment(stored))):
            return None
        if not journal.perform(FindRules(netfilter, table, ruleset.count(stored))):
            return None
        rules6 = ruleset.count6(stored)
        if rules6 and not journal.perform(FindRules6(netfilter, table, rules6)):
            return None
    return found


def _find_bridge(journal: Journal, stored: StoredNetwork | None, name: str, interface: str) -> Link | None:
    """The network's bridge, if it is up and has what belongs to it."""
    if stored and name == NAME and stored.interface != interface:
        raise Conflict(
            f"set up network {name}",
            interface,
            f"its bridge is {stored.interface}",
            "another PYCONTAINER_BRIDGE needs another PYCONTAINER_ROOT",
        )
    interface = stored.interface if stored else interface
    with Netlink(NETLINK_ROUTE) as route:
        link = journal.perform(FindLink(route, interface, "is the bridge there"))
        if not isinstance(link, Link):
            return None
        found = stored is not None and journal.perform(
            FindAddress(route, link, pack_address(stored.gateway), split_subnet(stored.subnet)[1])
        )
    if link.kind != "bridge":
        raise Conflict(
            f"set up network {name}",
            interface,
            f"a link of that name exists and is not a bridge but {link.kind or 'a physical device'}",
            f"rename it (ip link set {interface} name …)"
            + (" or name another bridge in PYCONTAINER_BRIDGE" if name == NAME else ""),
        )
    if stored is None or not link.up or not found:
        return None
    if not stored.gateway6:
        return link if journal.perform(ReadWithoutIPv6(interface)) else None
    packed, (_, length) = _socket.inet_pton(_socket.AF_INET6, stored.gateway6), split_subnet6(stored.traits.subnet6)
    with Netlink(NETLINK_ROUTE) as route:
        return link if journal.perform(FindAddress6(route, link, packed, length)) else None
