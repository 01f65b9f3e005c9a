"""Published ports: reserved by a socket, translated by an element of an nft map.

    192.0.2.1:8080 ──▶ map `published`: tcp . 8080 : 10.99.0.2 . 80 ──▶ 10.99.0.2:80
    host                                                                container

The rules that look into the maps are made with the table (rules.py): to publish is to add an element, to take it back
is to remove it. A socket that the container's monitor holds, bound and not listening, keeps the port from every other
process; the kernel closes it with the monitor, however that ends. Elements are found again by the container's address,
so that they can be removed without knowing what had been published.

IPv6 is the same, in a table of family ip6, where the container has an IPv6 address. Where it has none, and for what the
host sends to ::1, which the kernel does not translate, the socket listens, and what comes there is relayed: relay.py.
"""

from __future__ import annotations

import errno

from pycontainer.errors import Conflict, StepFailed
from pycontainer.kernel.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Link, Netlink
from pycontainer.network.names import link_name, table_name
from pycontainer.network.operations import FindLink, SetHairpin
from pycontainer.network.publication import (
    ANY,
    ANY6,
    EVERYWHERE,
    LOOPBACK6,
    PROTOCOLS,
    Binding,
    Publication,
    Wanted,
    place,
)
from pycontainer.network.translation import (
    AddElements,
    EnableLocalRouting,
    ForgetFlowsFrom,
    ForgetFlowsTo,
    ListElements,
    ReadLocalRouting,
    RemoveElements,
    ReservePort,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from pycontainer.kernel.operation import Journal
    from pycontainer.network.attach import Network

_ATTEMPTS = 100  # at a change of the ruleset between two of somebody else's
# This host has no IPv6.
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
# Another value of the same key, as older kernels and newer ones say it; or the ruleset has changed meanwhile.
_IN_THE_WAY = (errno.EBUSY, errno.EEXIST, errno.ERESTART)


class PortTaken(Conflict):
    """Somebody else has a port of the host's: `binding` is what was wanted."""

    def __init__(self, binding: Binding, holder: str) -> None:
        super().__init__(
            "publish port",
            f"{place(binding.host_address, binding.host_port)}/{binding.protocol}",
            "address already in use" + (f" by {holder}" if holder else ""),
            f"choose another port of the host's: -p PORT:{binding.port}, or -p {binding.port} for one that is free",
        )
        self.binding = binding


class Reserved:
    """Ports that nobody else gets until `close`, or as long as a process has what `detach` gave."""

    __slots__ = ("_sockets", "bindings")

    def __init__(self) -> None:
        self.bindings: list[Binding] = []
        self._sockets: list[_socket.socket] = []

    def add(self, bindings: list[Binding], holder: _socket.socket) -> None:
        self.bindings += bindings
        self._sockets.append(holder)

    def detach(self) -> list[int]:
        """The sockets' descriptors, which are the caller's from now on."""
        descriptors = [holder.detach() for holder in self._sockets]
        self._sockets = []
        return descriptors

    def close(self) -> None:
        """Give them up. May be called twice."""
        while self._sockets:
            self._sockets.pop().close()


def reserve(journal: Journal, wanted: list[Wanted]) -> Reserved:
    """Take ports of the host's, by sockets that must stay open. All or none. Raises PortTaken, StepFailed."""
    reserved = Reserved()
    try:
        # Those with least choice first, so that no other takes what they need.
        for each in sorted(wanted, key=lambda wish: wish.last - wish.first if wish.first else 1 << 16):
            reserved.add(*_reserve_one(journal, each))
    except BaseException:
        reserved.close()
        raise
    reserved.bindings.sort(key=lambda each: (each.port, each.protocol, each.is_ipv6, each.host_port))
    return reserved


def _reserve_one(journal: Journal, wanted: Wanted) -> tuple[list[Binding], _socket.socket]:
    """One port of the host's, at one address or at all of both families. Raises PortTaken, StepFailed."""
    for host_port in range(wanted.first, wanted.last + 1):
        try:
            return _reserve_at(journal, wanted, host_port)
        except StepFailed as error:
            if error.errno != errno.EADDRINUSE:
                raise
    from pycontainer.network.holder import find_holder

    binding = Binding(wanted.protocol, wanted.port, wanted.host_address or ANY, wanted.first)
    raise PortTaken(binding, find_holder(binding))


def _reserve_at(journal: Journal, wanted: Wanted, host_port: int) -> tuple[list[Binding], _socket.socket]:
    """Raises StepFailed."""
    addresses = [wanted.host_address]
    if wanted.host_address == EVERYWHERE:
        # SCTP is not relayed, and so not published where nothing would translate it.
        addresses = [ANY] if wanted.protocol == "sctp" else [ANY, ANY6]
    try:
        address = EVERYWHERE if len(addresses) > 1 else addresses[0]
        holder = journal.perform(ReservePort(wanted.protocol, address, host_port))
    except StepFailed as error:
        if len(addresses) == 1 or error.errno not in _NO_IPV6:
            raise
        addresses = [ANY]
        holder = journal.perform(ReservePort(wanted.protocol, ANY, host_port))
    chosen = holder.getsockname()[1]
    return [Binding(wanted.protocol, wanted.port, address, chosen) for address in addresses], holder


def publish(journal: Journal, network: Network, container_id: str, address: str, bindings: list[Binding]) -> None:
    """Lead what comes to reserved ports on to the container at `address`, whose link is attached.

    May be done again. After a failure some may be published: `unpublish`. Raises StepFailed.
    """
    if not bindings:
        return
    # Not before there is something to reach, because it is one more thing that the rules have to guard.
    if not journal.perform(ReadLocalRouting(network.interface)):
        journal.perform(EnableLocalRouting(network.interface))
    name = link_name(container_id, network.name)
    with Netlink(NETLINK_ROUTE) as route:
        # Because where br_netfilter is loaded, what a container sends to itself this way never leaves the bridge.
        link = journal.perform(FindLink(route, name, "its index, by which the next message names it"))
        if isinstance(link, Link):
            journal.perform(SetHairpin(route, name, link.index))
    publications = led_to(bindings, address, network.address6(address))
    if not publications:
        # All of it is relayed.
        return
    with Netlink(NETLINK_NETFILTER) as netfilter:
        _add(journal, netfilter, network.table, publications)
        for protocol in PROTOCOLS:
            for family in ("ip", "ip6"):
                concerned = [
                    each
                    for each in publications
                    if each.binding.protocol == protocol and each.binding.is_ipv6 == (family == "ip6")
                ]
                if concerned and protocol != "tcp":
                    journal.perform(ForgetFlowsTo(netfilter, protocol, concerned, family))


def led_to(bindings: list[Binding], address: str, address6: str) -> list[Publication]:
    """What leads to a container with these addresses, the second "" for none; without what is only relayed."""
    return [
        Publication(binding, address6 if binding.is_ipv6 else address)
        for binding in bindings
        if not binding.is_ipv6 or (address6 and binding.host_address != LOOPBACK6)
    ]


def _add(journal: Journal, netfilter: Netlink, table: str, publications: list[Publication]) -> None:
    keys = {publication.key() for publication in publications}
    leftovers: list[Publication] = []
    expected = b""
    for attempt in range(_ATTEMPTS):
        try:
            journal.perform(AddElements(netfilter, table, publications, leftovers, expected))
            return
        except StepFailed as error:
            if error.errno not in _IN_THE_WAY or attempt == _ATTEMPTS - 1:
                raise
        # The ports are reserved, so whoever published them before was killed.
        expected, found = journal.perform(ListElements(netfilter, table, "what a killed container has left"))
        leftovers = [each for each in found if each.key() in keys]


def unpublish(journal: Journal, interface: str, addresses: list[str]) -> None:
    """Take back all that leads to the container with these addresses, which must still be leased to it.

    Nothing to take back is no failure, nor is a table that is gone. Raises StepFailed.
    """
    withdraw(journal, interface, lambda publication: publication.address in addresses)


def withdraw(journal: Journal, interface: str, chosen: Callable[[Publication], bool]) -> None:
    """Take back every publication of the bridge's that is `chosen`. Raises StepFailed."""
    table = table_name(interface)
    with Netlink(NETLINK_NETFILTER) as netfilter:
        for attempt in range(_ATTEMPTS):
            expected, found = journal.perform(ListElements(netfilter, table, "which of them are to be taken back"))
            removed = list(filter(chosen, found))
            if not removed:
                return
            try:
                journal.perform(RemoveElements(netfilter, table, removed, expected))
                break
            except StepFailed as error:
                if error.errno != errno.ERESTART or attempt == _ATTEMPTS - 1:
                    raise
        for address in {each.address for each in removed if each.binding.protocol != "tcp"}:
            journal.perform(ForgetFlowsFrom(netfilter, address))


def find_published(journal: Journal, interface: str) -> list[Publication]:
    """All that the bridge's maps hold; nothing where there is no table. Raises StepFailed."""
    with Netlink(NETLINK_NETFILTER) as netfilter:
        _, found = journal.perform(ListElements(netfilter, table_name(interface), "what is published now"))
    return list(found)
