"""The steps that publish a port and take it back, each an operation that can explain itself."""

from __future__ import annotations

import _socket
import errno

from pycontainer.kernel import record
from pycontainer.kernel.netfilter import (
    Flow,
    batch,
    del_elements,
    del_flow,
    generation,
    get_elements,
    get_flows_answered_by,
    get_flows_to,
    get_generation,
    new_elements,
    parse_elements,
)
from pycontainer.kernel.netlink import Message, Netlink
from pycontainer.network.operations import EnableSetting, NetworkOperation, ReadSetting
from pycontainer.network.publication import (
    ANY,
    ANY6,
    EVERYWHERE,
    MAPS,
    MAPS6,
    PROTOCOLS,
    Publication,
    by_map,
    is_ipv6,
    pack,
    place,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BACKLOG = 1024  # connections that wait until they are relayed


class ReservePort(NetworkOperation):
    """Its result is a socket that keeps the port from all others; host port 0 means one that is free.

    One of IPv6, which is one for all of the host's addresses too, also serves: what comes there was not translated, and
    is relayed (relay.py).
    """

    step = "reserve port"
    reason = "as long as this socket is open, no other process gets the port of the host's"

    def __init__(self, protocol: str, host_address: str, host_port: int) -> None:
        self.protocol = protocol
        self.host_address = host_address
        self.host_port = host_port
        self.path = f"{place(host_address, host_port) if host_address else f'*:{host_port}'}/{protocol}"
        if protocol == "sctp":
            self.hint = "the container needs SCTP of the kernel as well: modprobe sctp"

    @property
    def _type(self) -> str:
        return "SOCK_DGRAM" if self.protocol == "udp" else "SOCK_STREAM"

    @property
    def _may_linger(self) -> bool:
        """Whether a server that has just ended may have left connections in TIME_WAIT, which are in nobody's way."""
        return self.protocol == "tcp" and self.host_port != 0

    def execute(self) -> _socket.socket:
        serves = self.host_address == EVERYWHERE or is_ipv6(self.host_address)
        family = "AF_INET6" if serves else "AF_INET"
        kind: int = getattr(_socket, self._type)
        holder = _socket.socket(getattr(_socket, family), kind | _socket.SOCK_CLOEXEC, PROTOCOLS[self.protocol])
        number = holder.fileno()
        record.made("socket", [family, f"{self._type}|SOCK_CLOEXEC", f"IPPROTO_{self.protocol.upper()}"], number)
        record.name(number, f"port {self.path}")
        try:
            if serves:
                self._bind6(holder)
            else:
                self._bind(holder)
        except BaseException:
            holder.close()
            raise
        return holder

    def _bind(self, holder: _socket.socket) -> None:
        if self._may_linger:
            _set(holder, "SOL_SOCKET", "SO_REUSEADDR", 1)
        port, address = f"htons({self.host_port})", f'inet_addr("{self.host_address}")'
        where = f"{{sa_family=AF_INET, sin_port={port}, sin_addr={address}}}"
        _make("bind", holder, [where, "16"], holder.bind, (self.host_address, self.host_port))
        if self._may_linger:
            # Others that set SO_REUSEADDR could still bind the same port: listen(2) is what only one gets, and
            # what it keeps once the option is off. Then no more, because nobody is there to accept anything.
            _make("listen", holder, ["0"], holder.listen, 0)
            _set(holder, "SOL_SOCKET", "SO_REUSEADDR", 0)
            _make("shutdown", holder, ["SHUT_RD"], holder.shutdown, _socket.SHUT_RD)

    def _bind6(self, holder: _socket.socket) -> None:
        # Said, because net.ipv6.bindv6only has the default.
        _set(holder, "IPPROTO_IPV6", "IPV6_V6ONLY", int(self.host_address != EVERYWHERE))
        if self.protocol == "tcp":
            _set(holder, "SOL_SOCKET", "SO_REUSEADDR", 1)
        else:
            # Which of its own addresses was meant, so that the answer comes from there.
            _set(holder, "IPPROTO_IPV6", "IPV6_RECVPKTINFO", 1)
        host_address = self.host_address or ANY6
        address = f'inet_pton(AF_INET6, "{host_address}", &sin6_addr)'
        where = f"{{sa_family=AF_INET6, sin6_port=htons({self.host_port}), sin6_flowinfo=htonl(0), {address}, "
        shown = [f"{where}sin6_scope_id=0}}", "28"]
        _make("bind", holder, shown, holder.bind, (host_address, self.host_port, 0, 0))
        if self.protocol == "tcp":
            _make("listen", holder, [str(_BACKLOG)], holder.listen, _BACKLOG)
            _set(holder, "SOL_SOCKET", "SO_REUSEADDR", 0)


def _make(call: str, holder: _socket.socket, shown: list[str], function: Callable[..., None], *values: object) -> None:
    record.make(call, lambda: [record.descriptor(holder.fileno()), *shown], function, *values)


def _set(holder: _socket.socket, level: str, option: str, value: int) -> None:
    numbers: tuple[int, int] = (getattr(_socket, level), getattr(_socket, option))
    _make("setsockopt", holder, [level, option, f"[{value}]", "4"], holder.setsockopt, *numbers, value)


class ReadLocalRouting(ReadSetting):
    reason = "may what the host sends to 127.0.0.1 leave it over the bridge"

    def __init__(self, interface: str) -> None:
        self.path = f"/proc/sys/net/ipv4/conf/{interface}/route_localnet"


class EnableLocalRouting(EnableSetting):
    reason = "127.0.0.1 on the host leads to published ports too; what comes the other way to 127.0.0.0/8 is dropped"

    def __init__(self, interface: str) -> None:
        self.path = f"/proc/sys/net/ipv4/conf/{interface}/route_localnet"


class Transaction(NetworkOperation):
    """A batch of messages, all or nothing: ERESTART where the ruleset is not that of the generation `expected`."""

    def __init__(self, netlink: Netlink, table: str, messages: list[Message], commands: list[str], expected: bytes):
        self.netlink = netlink
        self.path = table
        self.messages = batch(messages, expected)
        self.commands = commands

    def shell(self) -> str:
        return "\n".join(self.commands)

    def execute(self) -> None:
        self.netlink.transact(self.messages)


class AddElements(Transaction):
    """An element that is there already is no failure; one with the same key and another value is: EEXIST or EBUSY."""

    step = "publish ports"
    reason = "what comes to these ports of the host's goes on to the container"

    def __init__(
        self,
        netlink: Netlink,
        table: str,
        publications: list[Publication],
        leftovers: list[Publication],
        expected: bytes,
    ) -> None:
        removed = removal(table, leftovers)
        added = [
            (
                new_elements(table, name, [(each.key(), each.value()) for each in members], family),
                f"nft 'add element {family} {table} {name} {{ {', '.join(map(str, members))} }}'",
            )
            for family, name, members in by_map(publications)
        ]
        messages, commands = zip(*removed, *added, strict=True)
        super().__init__(netlink, table, list(messages), list(commands), expected)

    def execute(self) -> None:
        try:
            super().execute()
        except OSError as error:
            if error.errno == errno.ENOENT:
                self.hint = "somebody has flushed the nft rules: start the container again, which makes them anew"
            raise


class RemoveElements(Transaction):
    step = "take published ports back"
    reason = "the container is gone, and its address may be another's next"

    def __init__(self, netlink: Netlink, table: str, publications: list[Publication], expected: bytes) -> None:
        messages, commands = zip(*removal(table, publications), strict=True)
        super().__init__(netlink, table, list(messages), list(commands), expected)


def removal(table: str, publications: list[Publication]) -> list[tuple[Message, str]]:
    """Messages that remove elements, each with nft's words for it."""
    return [
        (
            del_elements(table, name, [each.key() for each in members], family),
            f"nft 'delete element {family} {table} {name} {{ {', '.join(each.key_text() for each in members)} }}'",
        )
        for family, name, members in by_map(publications)
    ]


_ALL_MAPS = [*(("ip", name) for name in MAPS), *(("ip6", name) for name in MAPS6)]


class ListElements(NetworkOperation):
    """Its result: the generation of the ruleset, and all that is published. Without the tables that is nothing."""

    step = "list published ports"

    def __init__(self, netlink: Netlink, table: str, reason: str) -> None:
        self.netlink = netlink
        self.path = table
        self.reason = reason

    def shell(self) -> str:
        return "\n".join(f"nft list map {family} {self.path} {name}" for family, name in _ALL_MAPS)

    def execute(self) -> tuple[bytes, list[Publication]]:
        try:
            # First, because a change after it makes a transaction that expects it fail.
            number = generation(self.netlink.request(get_generation())[0])
        except OSError as error:
            # The kernel has not even loaded nf_tables.
            if error.errno == errno.EINVAL:
                return b"", []
            raise
        pairs = [pair for family, name in _ALL_MAPS for pair in self._elements(family, name)]
        return number, [Publication.parse(*pair) for pair in pairs]

    def _elements(self, family: str, name: str) -> list[tuple[bytes, bytes]]:
        try:
            payloads = self.netlink.dump(get_elements(self.path, name, family))
        except OSError as error:
            # Somebody flushed the rules, or no network has IPv6.
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return []
            raise
        return [pair for payload in payloads for pair in parse_elements(payload)]


class ForgetFlows(NetworkOperation):
    """Flows of protocols that have no connections: as long as packets come, their translation stays what it was."""

    step = "forget flows"

    def __init__(self, netlink: Netlink, message: Message, path: str, command: str) -> None:
        self.netlink = netlink
        self.message = message
        self.path = path
        self.command = command

    def shell(self) -> str:
        return self.command

    def concerns(self, flow: Flow) -> bool:
        raise NotImplementedError

    def execute(self) -> None:
        try:
            flows = [flow for flow in map(Flow, self.netlink.dump(self.message)) if self.concerns(flow)]
        except OSError as error:
            # A kernel without nf_conntrack_netlink: its flows end when nothing has come for half a minute.
            if error.errno == errno.EINVAL:
                return
            raise
        for flow in flows:
            try:
                self.netlink.request(del_flow(flow))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise


class ForgetFlowsTo(ForgetFlows):
    """Those that went to the published ports of one protocol and family (ip, ip6) before these were published."""

    reason = "what has been coming to the port all the time would go on to where it went before"

    def __init__(self, netlink: Netlink, protocol: str, publications: list[Publication], family: str) -> None:
        ports = {publication.binding.host_port for publication in publications}
        one = next(iter(ports)) if len(ports) == 1 else 0
        message = get_flows_to(PROTOCOLS[protocol], one, family)
        option = " -f ipv6" if family == "ip6" else ""
        commands = [f"conntrack -D{option} -p {protocol} --orig-port-dst {port}" for port in sorted(ports)]
        super().__init__(netlink, message, ", ".join(map(str, sorted(ports))) + f"/{protocol}", "\n".join(commands))
        self.places = {
            (publication.binding.host_address, publication.binding.host_port) for publication in publications
        }

    def concerns(self, flow: Flow) -> bool:
        if (flow.address, flow.port) in self.places:
            return True
        # What only passes through to the same port elsewhere is none of ours.
        anywhere = ANY6 if is_ipv6(flow.address) else ANY
        return (anywhere, flow.port) in self.places and _is_local(flow.address)


class ForgetFlowsFrom(ForgetFlows):
    """Those that were translated to a container's address."""

    reason = "what is still being sent to the container must not reach the next one with its address"

    def __init__(self, netlink: Netlink, address: str) -> None:
        option = " -f ipv6" if is_ipv6(address) else ""
        command = f"conntrack -D{option} --reply-src {address}"
        super().__init__(netlink, get_flows_answered_by(pack(address)), address, command)

    def concerns(self, flow: Flow) -> bool:
        return True


def _is_local(address: str) -> bool:
    """Whether it is one of the host's: then a socket can be bound to it."""
    family = _socket.AF_INET6 if is_ipv6(address) else _socket.AF_INET
    probe = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        probe.bind((address, 0))
    except OSError:
        return False
    finally:
        probe.close()
    return True
