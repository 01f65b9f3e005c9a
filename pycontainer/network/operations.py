"""The steps that connect a container, each an operation that can explain itself."""

from __future__ import annotations

import _socket
import errno
import os
import time

from pycontainer.kernel import files
from pycontainer.kernel.netfilter import get_rules, get_table, table_comment
from pycontainer.kernel.netlink import (
    Link,
    Message,
    Netlink,
    del_link,
    get_addresses,
    get_link,
    new_address,
    new_default_route,
    new_veth,
    parse_address,
    set_link_up,
    socket_in_namespace,
)
from pycontainer.kernel.netlink_bridge import set_hairpin, set_master
from pycontainer.kernel.netlink_ipv6 import get_addresses6, new_address6, new_default_route6, parse_address6
from pycontainer.kernel.operation import Operation

IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"
IPV6_SETTINGS = "/proc/sys/net/ipv6/conf"
CARRIER_ATTEMPTS = 200  # a millisecond apart

HINTS = {
    errno.EPERM: "changing the network needs root (CAP_NET_ADMIN)",
    errno.EOPNOTSUPP: "the kernel has no driver for this kind of link: try `modprobe veth` and `modprobe bridge`",
}


def in_namespace(netns: int, command: str) -> str:
    """`command` as a shell line that another terminal can run, as long as this process holds the descriptor `netns`."""
    return f"nsenter --net=/proc/{os.getpid()}/fd/{netns} {command}"


class NetworkOperation(Operation):
    group = "network"


class Request(NetworkOperation):
    """One netlink message through an open socket."""

    protocol = "NETLINK_ROUTE"

    def __init__(self, netlink: Netlink, message: Message, path: str, command: str) -> None:
        self.netlink = netlink
        self.message = message
        self.path = path
        self.command = command

    def shell(self) -> str:
        return self.command

    def send(self) -> list[bytes]:
        """The payloads of the answer. Raises OSError, and then there may be a hint."""
        try:
            return self.netlink.request(self.message)
        except OSError as error:
            self.hint = HINTS.get(error.errno or 0, self.hint)
            raise

    def execute(self) -> object:
        return self.send()


class FindLink(Request):
    """Its result is a Link, or None where there is no link of that name."""

    step = "find link"

    def __init__(self, netlink: Netlink, name: str, reason: str, netns: int = -1) -> None:
        command = f"ip -details link show dev {name}"
        super().__init__(netlink, get_link(name), name, command if netns < 0 else in_namespace(netns, command))
        self.reason = reason

    def execute(self) -> Link | None:
        try:
            payloads = self.send()
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return Link(payloads[0])


class AwaitCarrier(Request):
    """Ask until the link is running. Not so after a fifth of a second, the container starts all the same."""

    step = "wait for carrier"
    # Because the kernel switches a port on from a work queue, a moment after both ends are up. From Linux 6.8 the
    # question itself makes it do so.
    reason = "until the bridge has switched the port on, it drops what the container sends: a second lost to ARP"

    def __init__(self, netlink: Netlink, name: str) -> None:
        super().__init__(
            netlink, get_link(name), name, f"until ip link show dev {name} | grep -q 'state UP'; do :; done"
        )

    def execute(self) -> bool:
        for _ in range(CARRIER_ATTEMPTS):
            if Link(self.send()[0]).running:
                return True
            time.sleep(0.001)
        return False


class FindTable(Request):
    """Its result says whether the nft table of family ip exists, and says of itself that it has these rules."""

    protocol = "NETLINK_NETFILTER"
    step = "find nft table"
    reason = "are the address translation rules there"

    def __init__(self, netlink: Netlink, table: str, comment: str) -> None:
        super().__init__(netlink, get_table(table), table, f"nft list table ip {table}")
        self.comment = comment

    def execute(self) -> bool:
        try:
            payloads = self.send()
        except OSError as error:
            # EINVAL comes from a kernel that has not loaded nf_tables yet: nft will, or will say why not.
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return False
            raise
        return table_comment(payloads[0]) == self.comment


class FindRules(Request):
    """Its result says whether the nft table has as many rules as it was made with."""

    protocol = "NETLINK_NETFILTER"
    step = "find nft rules"
    reason = "a table whose rules somebody has flushed is still there"

    def __init__(self, netlink: Netlink, table: str, count: int) -> None:
        super().__init__(netlink, get_rules(table), table, f"nft list table ip {table}")
        self.count = count

    def execute(self) -> bool:
        return len(self.netlink.dump(self.message)) == self.count


class FindRules6(Request):
    """Its result says whether the nft table of family ip6 has as many rules as it was made with."""

    protocol = "NETLINK_NETFILTER"
    step = "find nft rules"
    reason = "and those of IPv6"

    def __init__(self, netlink: Netlink, table: str, count: int) -> None:
        super().__init__(netlink, get_rules(table, "ip6"), table, f"nft list table ip6 {table}")
        self.count = count

    def execute(self) -> bool:
        try:
            return len(self.netlink.dump(self.message)) == self.count
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return False
            raise


class FindAddress6(Request):
    """Its result says whether the link has the IPv6 address."""

    step = "find address"
    reason = "is the gateway's IPv6 address there, which somebody may have flushed"

    def __init__(self, netlink: Netlink, link: Link, address: bytes, prefix_length: int) -> None:
        super().__init__(netlink, get_addresses6(), link.name, f"ip -6 address show dev {link.name}")
        self.wanted = link.index, address, prefix_length

    def execute(self) -> bool:
        return self.wanted in map(parse_address6, self.netlink.dump(self.message))


class FindAddress(Request):
    """Its result says whether the link has the address, of four bytes."""

    step = "find address"
    reason = "is the gateway there, which somebody may have flushed"

    def __init__(self, netlink: Netlink, link: Link, address: bytes, prefix_length: int) -> None:
        super().__init__(netlink, get_addresses(), link.name, f"ip -4 address show dev {link.name}")
        self.wanted = link.index, address, prefix_length

    def execute(self) -> bool:
        return self.wanted in map(parse_address, self.netlink.dump(self.message))


class ReadSetting(NetworkOperation):
    """A sysctl that is on or off; its result says which. `path` is below /proc/sys."""

    step = "read"

    def shell(self) -> str:
        return f"cat {self.path}"

    def execute(self) -> bool:
        descriptor = files.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 8).strip() != b"0"
        finally:
            os.close(descriptor)


class EnableSetting(NetworkOperation):
    step = "write"

    @property
    def assignment(self) -> str:
        # With slashes, because a link's name may have dots.
        return self.path.removeprefix("/proc/sys/") + "=1"

    def shell(self) -> str:
        return f"sysctl -w {self.assignment}"

    def execute(self) -> None:
        descriptor = files.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            files.write(descriptor, b"1")
        finally:
            os.close(descriptor)


def _without_ipv6(interface: str) -> str:
    return f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"


class ReadWithoutIPv6(ReadSetting):
    """Its result says whether a link takes no part in IPv6; so it is where the kernel has none."""

    reason = "is IPv6 off on the bridge"

    def __init__(self, interface: str) -> None:
        self.path = _without_ipv6(interface)

    def execute(self) -> bool:
        try:
            return super().execute()
        except FileNotFoundError:
            return True


class DisableIPv6(EnableSetting):
    reason = (
        "a container could announce itself as the host's IPv6 router (CVE-2020-13401), and the network is IPv4 only"
    )

    def __init__(self, interface: str) -> None:
        self.path = _without_ipv6(interface)

    def execute(self) -> None:
        try:
            super().execute()
        except FileNotFoundError:
            pass


class SwitchOff6(NetworkOperation):
    """A setting of a link's IPv6, before it goes up."""

    step = "write"

    def __init__(self, interface: str, setting: str, reason: str) -> None:
        self.path = f"/proc/sys/net/ipv6/conf/{interface}/{setting}"
        self.reason = reason

    def shell(self) -> str:
        return f"sysctl -w {self.path.removeprefix('/proc/sys/')}=0"

    def execute(self) -> None:
        _write_setting(self.path, b"0")


class ReadForwarding6(ReadSetting):
    path = f"{IPV6_SETTINGS}/all/forwarding"
    reason = "does the host pass IPv6 packets between the bridge and its other links"


class EnableForwarding6(EnableSetting):
    """Also keep the host's own way out where a router has told it: a host that forwards stops listening to routers."""

    path = f"{IPV6_SETTINGS}/all/forwarding"
    reason = "without forwarding, containers reach the host and each other by IPv6, and nothing beyond"
    hint = "switch it on yourself: sysctl -w net.ipv6.conf.all.forwarding=1"

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def execute(self) -> None:
        if self.mark:
            os.close(files.open(self.mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for name in os.listdir(IPV6_SETTINGS):
            path = f"{IPV6_SETTINGS}/{name}/accept_ra"
            # 2: also where it forwards itself.
            if name not in ("all", "default", "lo") and _read_setting(path) == b"1":
                _write_setting(path, b"2")
        super().execute()


def _read_setting(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 8).strip()
    finally:
        os.close(descriptor)


def _write_setting(path: str, value: bytes) -> None:
    descriptor = files.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        files.write(descriptor, value)
    finally:
        os.close(descriptor)


class ReadForwarding(ReadSetting):
    path = IP_FORWARD
    reason = "does the host pass packets between the bridge and its other links"


class EnableForwarding(EnableSetting):
    path = IP_FORWARD
    reason = "without forwarding, containers reach the host and each other, and nothing beyond"
    hint = "switch it on yourself: sysctl -w net.ipv4.ip_forward=1"

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def execute(self) -> None:
        if self.mark:
            # First, because whoever uninstalls has to know whose doing it was.
            os.close(files.open(self.mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        super().execute()


class CreateVeth(Request):
    step = "create veth pair"
    reason = "a cable: one end is a port of the bridge, the other is the container's eth0"

    def __init__(
        self,
        netlink: Netlink,
        name: str,
        bridge: str,
        master: int,
        mtu: int,
        peer_address: bytes,
        netns: int,
        peer: str = "eth0",
    ) -> None:
        super().__init__(
            netlink,
            new_veth(name, master, mtu, peer, peer_address, netns),
            name,
            f"ip link add {name} mtu {mtu} master {bridge} up type veth "
            f"peer name {peer} mtu {mtu} address {peer_address.hex(':')} netns /proc/{os.getpid()}/fd/{netns}",
        )


class DeleteLink(Request):
    """A link that is gone already is no failure."""

    step = "delete link"

    def __init__(self, netlink: Netlink, name: str, reason: str) -> None:
        super().__init__(netlink, del_link(name), name, f"ip link delete dev {name}")
        self.reason = reason

    def execute(self) -> None:
        try:
            self.send()
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise


class DeleteBridge(DeleteLink):
    step = "delete bridge"

    def __init__(self, netlink: Netlink, name: str) -> None:
        super().__init__(netlink, name, "nobody is in the network")


class SetMaster(Request):
    """Plug the host's end of a container's cable into a bridge."""

    step = "plug into the bridge"
    reason = "the bridge was gone, and is made again: the cables of those that run are plugged in again"

    def __init__(self, netlink: Netlink, name: str, index: int, bridge: str, master: int) -> None:
        super().__init__(netlink, set_master(index, master), name, f"ip link set dev {name} master {bridge}")


class OpenNamespace(NetworkOperation):
    """Its result is a descriptor of a process's network namespace."""

    step = "open the container's network namespace"
    reason = "by this descriptor the kernel is told where a link is to be, and a socket to be opened"

    def __init__(self, pid: int) -> None:
        self.path = f"/proc/{pid}/ns/net"

    def shell(self) -> str:
        return f"exec {{netns}}<{self.path}"

    def execute(self) -> int:
        return files.open(self.path, os.O_RDONLY | os.O_CLOEXEC)


class OpenSocket(NetworkOperation):
    """Its result is a Netlink of the network namespace `netns`."""

    step = "open a netlink socket in the container's network namespace"
    reason = "what is sent through this socket happens in the container's network"

    def __init__(self, netns: int) -> None:
        self.netns = netns

    def execute(self) -> Netlink:
        return socket_in_namespace(self.netns)


class AddAddress(Request):
    step = "add address"
    reason = "the address that is leased to this container"

    def __init__(
        self, netlink: Netlink, netns: int, index: int, address: bytes, prefix_length: int, name: str = "eth0"
    ) -> None:
        text = ".".join(str(byte) for byte in address)
        command = f"ip address add {text}/{prefix_length} broadcast + dev {name}"
        super().__init__(
            netlink, new_address(index, address, prefix_length), f"{text}/{prefix_length}", in_namespace(netns, command)
        )


class AddAddress6(Request):
    step = "add address"
    reason = "the IPv6 address that goes with the other one"

    def __init__(self, netlink: Netlink, netns: int, index: int, address: str, prefix_length: int, name: str) -> None:
        """netns is -1 where it is the host's own."""
        packed = _socket.inet_pton(_socket.AF_INET6, address)
        command = f"ip address replace {address}/{prefix_length} nodad dev {name}"
        super().__init__(
            netlink,
            new_address6(index, packed, prefix_length),
            f"{address}/{prefix_length}",
            command if netns < 0 else in_namespace(netns, command),
        )


class AddDefaultRoute6(Request):
    step = "add default route"
    reason = "and the way to everything else by IPv6"

    def __init__(self, netlink: Netlink, netns: int, gateway: str) -> None:
        packed = _socket.inet_pton(_socket.AF_INET6, gateway)
        command = in_namespace(netns, f"ip -6 route add default via {gateway}")
        super().__init__(netlink, new_default_route6(packed), gateway, command)


class SetLinkUp(Request):
    step = "set link up"

    def __init__(self, netlink: Netlink, netns: int, index: int, name: str, reason: str) -> None:
        super().__init__(netlink, set_link_up(index), name, in_namespace(netns, f"ip link set dev {name} up"))
        self.reason = reason


class AddDefaultRoute(Request):
    step = "add default route"
    reason = "the way to everything else leads over the bridge"

    def __init__(self, netlink: Netlink, netns: int, gateway: bytes) -> None:
        text = ".".join(str(byte) for byte in gateway)
        super().__init__(
            netlink, new_default_route(gateway), text, in_namespace(netns, f"ip route add default via {text}")
        )


class SetHairpin(Request):
    step = "set hairpin mode"
    reason = "what the container sends to a port that it has published itself goes out where it came in"

    def __init__(self, netlink: Netlink, name: str, index: int) -> None:
        super().__init__(netlink, set_hairpin(index), name, f"bridge link set dev {name} hairpin on")
