"""What is plugged into what: the host's links, the bridges of networks, and the cables of containers that run."""

from __future__ import annotations

# The C module itself, because `import socket` takes 10 ms, and nothing of that is used here.
import _socket
import errno

from pycontainer.engine import containers, networks, ports
from pycontainer.errors import StepFailed
from pycontainer.kernel.netlink import NETLINK_ROUTE, Link, Netlink, get_addresses, get_link, parse_address
from pycontainer.network import lease
from pycontainer.network.names import link_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from pycontainer.engine.settings import Settings


class Cable:
    """A container's place in a network. Where that has no bridge, all but its name is empty.

    address   IPv4, such as 10.99.0.2
    address6  IPv6, "" where the network has none
    host_end  the link's name on the host, `link` in the container
    aliases   what else it is called there
    ports     what leads to it, such as `*:8080 -> 80/tcp`
    """

    __slots__ = ("address", "address6", "aliases", "container", "host_end", "link", "ports")

    def __init__(
        self,
        container: str,
        address: str = "",
        host_end: str = "",
        link: str = "",
        aliases: tuple[str, ...] = (),
        ports: tuple[str, ...] = (),
        address6: str = "",
    ) -> None:
        self.container = container
        self.address = address
        self.address6 = address6
        self.host_end = host_end
        self.link = link
        self.aliases = aliases
        self.ports = ports


class Bridge:
    """A network, with the cables in it.

    interface  the bridge's name, "" where it has none
    address    the host's there, such as 10.99.0.1/20, or two of them with a blank between
    way_out    NAT, no NAT or internal
    state      "" for one that is as it should be, down, or gone
    """

    __slots__ = ("address", "cables", "interface", "network", "state", "way_out")

    def __init__(
        self, network: str, interface: str, address: str, way_out: str, state: str, cables: tuple[Cable, ...]
    ) -> None:
        self.network = network
        self.interface = interface
        self.address = address
        self.way_out = way_out
        self.state = state
        self.cables = cables


def host_links(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The host's links that have IPv4 addresses, one for each: name, address with the length of its prefix.

    Without the loopback, and without the bridges of networks. Raises StepFailed.
    """
    ours = {"lo", *(each.interface for each in lease.find_all(connection))}
    found: list[tuple[str, str]] = []
    try:
        with Netlink(NETLINK_ROUTE) as route:
            addresses = list(map(parse_address, route.dump(get_addresses())))
        names = dict(_socket.if_nameindex())
    except OSError as error:
        raise StepFailed("list the host's addresses", "", error.errno or 0) from error
    for index, address, prefix_length in addresses:
        # One that has gone meanwhile has no name.
        name = names.get(index, "lo")
        if name not in ours:
            found.append((name, f"{lease.unpack_address(address)}/{prefix_length}"))
    return found


def describe(settings: Settings, connection: sqlite3.Connection, name_or_id: str) -> Bridge:
    """A network with the containers that run in it. Raises NotFound, Conflict, StepFailed."""
    network = networks.find(settings, connection, name_or_id)
    inside = [each for each in containers.list_all(connection) if each.is_active and network.name in networks.of(each)]
    stored = network.stored
    if stored is None:
        return Bridge(network.name, "", "", "", "", tuple(Cable(each.name) for each in inside))
    leases = {each.container_id: each for each in lease.leases_in(connection, network.name)}
    cables = [_cable(stored, leases[each.id], each) for each in inside if each.id in leases]
    way_out = "internal" if stored.traits.internal else "NAT" if stored.traits.masquerade else "no NAT"
    _, prefix_length = lease.split_subnet(stored.subnet)
    address = f"{stored.gateway}/{prefix_length}"
    if stored.gateway6:
        address += f" {stored.gateway6}/{lease.split_subnet6(stored.traits.subnet6)[1]}"
    return Bridge(network.name, stored.interface, address, way_out, _state(stored.interface), tuple(cables))


def _cable(network: lease.StoredNetwork, leased: lease.Lease, container: containers.Container) -> Cable:
    leads_here = leased.way_out and not network.traits.internal
    published = ports.drawn(container) if leads_here else []
    host_end = link_name(container.id, network.name)
    return Cable(
        container.name,
        leased.address,
        host_end,
        leased.link,
        tuple(leased.aliases),
        tuple(published),
        network.address6(leased.address),
    )


def _state(interface: str) -> str:
    try:
        with Netlink(NETLINK_ROUTE) as route:
            return "" if Link(route.request(get_link(interface))[0]).up else "down"
    except OSError as error:
        if error.errno == errno.ENODEV:
            return "gone"
        raise StepFailed("find link", interface, error.errno or 0) from error
