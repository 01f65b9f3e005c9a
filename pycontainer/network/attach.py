"""Connect a container: the bridge, a veth pair into its network namespace, address and routes.

    host                                container
    ----                                ---------
    pyc0 (bridge, 10.99.0.1/20)
      └─ pyc0123456789ab  ═══ veth ═══  eth0 (10.99.0.2/20, default via 10.99.0.1)

This is the part that every run passes through: it imports nothing heavy. What happens once per boot is in bridge.py.
"""

from __future__ import annotations

import errno

from pycontainer.errors import Conflict, StepFailed, UsageError
from pycontainer.kernel.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Link, Netlink
from pycontainer.kernel.operation import Journal
from pycontainer.network import lease
from pycontainer.network.lease import StoredNetwork, pack_address, split_subnet
from pycontainer.network.operations import (
    AddAddress,
    AddDefaultRoute,
    AwaitCarrier,
    CreateVeth,
    DeleteLink,
    EnableForwarding,
    FindAddress,
    FindLink,
    FindRules,
    FindTable,
    OpenSocket,
    ReadForwarding,
    ReadWithoutIPv6,
    SetLinkUp,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pycontainer.network.publication import Publication

NAME = "bridge"  # what docker(1) calls its default network
LINK_PREFIX = "pyc"
ID_DIGITS = 12  # with the prefix 15 characters, the longest name that a link can have


class Network:
    """A network that is up: `interface` is the bridge, `subnet` is written as 10.99.0.0/20, `mtu` is in bytes."""

    __slots__ = ("gateway", "index", "interface", "mtu", "name", "prefix_length", "subnet")

    def __init__(self, stored: StoredNetwork, link: Link) -> None:
        self.name = stored.name
        self.interface = stored.interface
        self.subnet = stored.subnet
        _, self.prefix_length = split_subnet(stored.subnet)
        self.gateway = stored.gateway
        self.index = link.index
        self.mtu = link.mtu


def ensure_bridge(
    journal: Journal,
    connection: sqlite3.Connection,
    interface: str,
    published: Callable[[sqlite3.Connection], list[Publication]] = lambda _: [],
    forwarding_mark: str = "",
) -> tuple[Network, list[str]]:
    """The bridge network, made first if it is not there, and lines to show the user (mostly none).

    `published` tells what the running containers publish, for a table of rules that has to be made anew. The file
    `forwarding_mark` is made where IPv4 forwarding was off and is switched on. Several processes may do this at once.
    Do not call it inside a transaction. Raises UsageError, Conflict, HostError, StepFailed.
    """
    if len(interface) > 15 or not interface.isascii() or not interface.translate({45: "", 46: "", 95: ""}).isalnum():
        raise UsageError(
            "set up the bridge", interface, "not a name for a link: 1 to 15 letters, digits, '-', '.', '_'"
        )
    notices: list[str] = []
    network = _find_network(journal, connection, interface)
    if network is None:
        # The transaction is the lock: who waits for it finds the bridge made.
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            network = _find_network(journal, connection, interface)
            if network is None:
                from pycontainer.network import bridge

                table = table_name(interface)
                notices += bridge.make(journal, connection, NAME, interface, table, published(connection))
                network = _find_network(journal, connection, interface)
        if network is None:
            raise Conflict("set up the bridge", interface, "it was deleted while it was being made")
    if not journal.perform(ReadForwarding()):
        journal.perform(EnableForwarding(forwarding_mark))
        notices.append("IPv4 forwarding was off on this host; it is now on (net.ipv4.ip_forward=1)")
    return network, notices


def table_name(interface: str) -> str:
    """The nft table, of family ip, that belongs to the bridge."""
    return "pycontainer" if interface == "pyc0" else f"pycontainer_{interface}"


def attach(journal: Journal, network: Network, container_id: str, netns: int, address: str) -> None:
    """Give the network namespace `netns` (a descriptor) an eth0 with `address` on the bridge and a route.

    After a failure the pair dies with the namespace, which is the caller's to end. Raises StepFailed.
    """
    name = link_name(container_id)
    packed = pack_address(address)
    # A link address made of the leased one: whoever gets the address next is reached without waiting for ARP.
    peer_address = b"\x02\x42" + packed
    with Netlink(NETLINK_ROUTE) as route:
        create = CreateVeth(route, name, network.interface, network.index, network.mtu, peer_address, netns)
        try:
            journal.perform(create)
        except StepFailed as error:
            if error.errno != errno.EEXIST or not journal.perform(FindLink(route, name, "what took the name")):
                raise
            # The container's last run ended a moment ago and the kernel has not yet removed its link.
            journal.perform(DeleteLink(route, name, "its container is gone"))
            journal.perform(create)
    with journal.perform(OpenSocket(netns)) as inside:
        link = journal.perform(FindLink(inside, "eth0", "its index, by which the next messages name it", netns))
        journal.perform(AddAddress(inside, netns, link.index, packed, network.prefix_length))
        journal.perform(SetLinkUp(inside, netns, link.index, "eth0", "packets can pass"))
        journal.perform(AddDefaultRoute(inside, netns, pack_address(network.gateway)))
    with Netlink(NETLINK_ROUTE) as route:
        journal.perform(AwaitCarrier(route, name))


def detach(connection: sqlite3.Connection, container_id: str) -> None:
    """Release the container's lease, inside the caller's transaction. Its veth pair dies with its namespace."""
    lease.release(connection, container_id)


def link_name(container_id: str) -> str:
    """The name of the host's end of the container's veth pair."""
    return LINK_PREFIX + container_id[:ID_DIGITS]


def _find_network(journal: Journal, connection: sqlite3.Connection, interface: str) -> Network | None:
    """The network if all that a container needs is there: its row, the bridge, up and with its address, the rules."""
    stored = lease.find(connection, NAME)
    if stored and stored.interface != interface:
        raise Conflict(
            f"set up network {NAME}",
            interface,
            f"its bridge is {stored.interface}",
            "another PYCONTAINER_BRIDGE needs another PYCONTAINER_ROOT",
        )
    with Netlink(NETLINK_ROUTE) as route:
        link = journal.perform(FindLink(route, interface, "is the bridge there"))
        if not isinstance(link, Link):
            return None
        found = stored is not None and journal.perform(
            FindAddress(route, link, pack_address(stored.gateway), split_subnet(stored.subnet)[1])
        )
    if link.kind != "bridge":
        raise Conflict(
            f"set up network {NAME}",
            interface,
            f"a link of that name exists and is not a bridge but {link.kind or 'a physical device'}",
            f"rename it (ip link set {interface} name …) or name another bridge in PYCONTAINER_BRIDGE",
        )
    if stored is None or not link.up or not found or not journal.perform(ReadWithoutIPv6(interface)):
        return None
    table = table_name(interface)
    with Netlink(NETLINK_NETFILTER) as netfilter:
        if not journal.perform(FindTable(netfilter, table)) or not journal.perform(FindRules(netfilter, table)):
            return None
    return Network(stored, link)
