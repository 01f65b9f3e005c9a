"""What is published, as values: what a user wants, what came of it, and the map element that makes it so.

Every command that may publish something reads this: it imports nothing of what does it.
"""

from __future__ import annotations

import _socket

from pycontainer.network.lease import pack_address, unpack_address

ANY, ANY6, LOOPBACK6 = "0.0.0.0", "::", "::1"
EVERYWHERE = ""  # at both of them
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

# The maps of the nft tables, those of family ip and those of ip6, by the types of their keys; the value is the
# container's address and port.
MAPS = {
    "published": "inet_proto . inet_service",
    "published_at": "ipv4_addr . inet_proto . inet_service",
}
VALUE = "ipv4_addr . inet_service"
MAPS6 = {
    "published": "inet_proto . inet_service",
    "published_at": "ipv6_addr . inet_proto . inet_service",
}
VALUE6 = "ipv6_addr . inet_service"
_PIECE = 256  # elements: a netlink attribute ends at 64 KiB


def is_ipv6(address: str) -> bool:
    """Whether an address is none of IPv4."""
    return ":" in address


def pack(address: str) -> bytes:
    """The 4 or 16 bytes of an address. Raises ValueError, OSError."""
    return _socket.inet_pton(_socket.AF_INET6, address) if is_ipv6(address) else pack_address(address)


def place(address: str, port: int) -> str:
    """As a URL has it: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    return f"[{address}]:{port}" if is_ipv6(address) else f"{address}:{port}"


class Wanted:
    """A port of a container's to be published at one of the host's from `first` to `last`; both 0 for any.

    host_address  may be ANY, ANY6, or EVERYWHERE for both of them
    """

    __slots__ = ("first", "host_address", "last", "port", "protocol")

    def __init__(self, protocol: str, port: int, host_address: str = EVERYWHERE, first: int = 0, last: int = 0) -> None:
        self.protocol = protocol
        self.port = port
        self.host_address = host_address
        self.first = first
        self.last = last


class Binding:
    """A port of a container's and the one of the host's at which it is published. `host_address` may be ANY or ANY6."""

    __slots__ = ("host_address", "host_port", "port", "protocol")

    def __init__(self, protocol: str, port: int, host_address: str, host_port: int) -> None:
        self.protocol = protocol
        self.port = port
        self.host_address = host_address
        self.host_port = host_port

    def __str__(self) -> str:
        return f"{place(self.host_address, self.host_port)}->{self.port}/{self.protocol}"

    @property
    def is_ipv6(self) -> bool:
        return is_ipv6(self.host_address)

    def leads_to(self, port: int, protocol: str) -> bool:
        """Whether this is the container's port."""
        return (self.port, self.protocol) == (port, protocol)

    def clashes(self, other: Binding) -> bool:
        """Whether the two cannot be there at the same time."""
        return bool(
            self.protocol == other.protocol
            and self.host_port == other.host_port
            and self.is_ipv6 == other.is_ipv6
            and (self.host_address == other.host_address or {ANY, ANY6} & {self.host_address, other.host_address})
        )


class Publication:
    """One element of the maps: a binding, and the address of the container that it leads to, both of one family."""

    __slots__ = ("address", "binding")

    def __init__(self, binding: Binding, address: str) -> None:
        self.binding = binding
        self.address = address

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> Publication:
        """What `key` and `value` wrote."""
        address, port = value[:-4], int.from_bytes(value[-4:-2], "big")
        protocol = next(name for name, number in PROTOCOLS.items() if number == key[-8])
        host_port = int.from_bytes(key[-4:-2], "big")
        if len(address) == 4:
            host_address = unpack_address(key[:-8]) if len(key) > 8 else ANY
            return cls(Binding(protocol, port, host_address, host_port), unpack_address(address))
        host_address = _unpack6(key[:-8]) if len(key) > 8 else ANY6
        return cls(Binding(protocol, port, host_address, host_port), _unpack6(address))

    @property
    def map(self) -> str:
        """Which of MAPS or MAPS6 it is in."""
        return "published" if self._is_anywhere else "published_at"

    @property
    def _is_anywhere(self) -> bool:
        return self.binding.host_address in (ANY, ANY6)

    def key(self) -> bytes:
        binding = self.binding
        where = b"" if self._is_anywhere else pack(binding.host_address)
        return where + _concatenation(bytes((PROTOCOLS[binding.protocol],)), binding.host_port.to_bytes(2, "big"))

    def value(self) -> bytes:
        return _concatenation(pack(self.address), self.binding.port.to_bytes(2, "big"))

    def key_text(self) -> str:
        """The key as nft(8) writes it."""
        binding = self.binding
        where = "" if self._is_anywhere else f"{binding.host_address} . "
        return f"{where}{binding.protocol} . {binding.host_port}"

    def __str__(self) -> str:
        return f"{self.key_text()} : {self.address} . {self.binding.port}"


def by_map(publications: list[Publication]) -> list[tuple[str, str, list[Publication]]]:
    """Family (ip, ip6), name and publications of each map that has some, in pieces that one message can hold."""
    pieces = []
    for family, maps in (("ip", MAPS), ("ip6", MAPS6)):
        for name in maps:
            members = [each for each in publications if each.map == name and each.binding.is_ipv6 == (family == "ip6")]
            pieces += [(family, name, members[start : start + _PIECE]) for start in range(0, len(members), _PIECE)]
    return pieces


def _unpack6(packed: bytes) -> str:
    return _socket.inet_ntop(_socket.AF_INET6, packed)


def _concatenation(*fields: bytes) -> bytes:
    """A key or value of several fields, each of which begins a new register of 32 bits."""
    return b"".join(field + bytes(-len(field) % 4) for field in fields)
