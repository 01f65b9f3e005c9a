"""What is published, as values: what a user wants, what came of it, and the map element that makes it so.

Every command that may publish something reads this: it imports nothing of what does it.
"""

from __future__ import annotations

from pycontainer.network.lease import pack_address, unpack_address

ANY = "0.0.0.0"
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

# The maps of the nft table by the types of their keys; the value is the container's address and port.
MAPS = {
    "published": "inet_proto . inet_service",
    "published_at": "ipv4_addr . inet_proto . inet_service",
}
VALUE = "ipv4_addr . inet_service"
_PIECE = 256  # elements: a netlink attribute ends at 64 KiB


class Wanted:
    """A port of a container's to be published at one of the host's from `first` to `last`; both 0 for any."""

    __slots__ = ("first", "host_address", "last", "port", "protocol")

    def __init__(self, protocol: str, port: int, host_address: str = ANY, first: int = 0, last: int = 0) -> None:
        self.protocol = protocol
        self.port = port
        self.host_address = host_address
        self.first = first
        self.last = last


class Binding:
    """A port of a container's and the one of the host's at which it is published. `host_address` may be ANY."""

    __slots__ = ("host_address", "host_port", "port", "protocol")

    def __init__(self, protocol: str, port: int, host_address: str, host_port: int) -> None:
        self.protocol = protocol
        self.port = port
        self.host_address = host_address
        self.host_port = host_port

    def __str__(self) -> str:
        return f"{self.host_address}:{self.host_port}->{self.port}/{self.protocol}"

    def leads_to(self, port: int, protocol: str) -> bool:
        """Whether this is the container's port."""
        return (self.port, self.protocol) == (port, protocol)

    def clashes(self, other: Binding) -> bool:
        """Whether the two cannot be there at the same time."""
        return (
            self.protocol == other.protocol
            and self.host_port == other.host_port
            and (self.host_address == other.host_address or ANY in (self.host_address, other.host_address))
        )


class Publication:
    """One element of the maps: a binding, and the address of the container that it leads to."""

    __slots__ = ("address", "binding")

    def __init__(self, binding: Binding, address: str) -> None:
        self.binding = binding
        self.address = address

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> Publication:
        """What `key` and `value` wrote."""
        address = unpack_address(key[:4]) if len(key) == 12 else ANY
        protocol = next(name for name, number in PROTOCOLS.items() if number == key[-8])
        host_port, port = (int.from_bytes(field, "big") for field in (key[-4:-2], value[4:6]))
        return cls(Binding(protocol, port, address, host_port), unpack_address(value[:4]))

    @property
    def map(self) -> str:
        """Which of MAPS it is in."""
        return "published" if self.binding.host_address == ANY else "published_at"

    def key(self) -> bytes:
        binding = self.binding
        place = b"" if binding.host_address == ANY else pack_address(binding.host_address)
        return place + _concatenation(bytes((PROTOCOLS[binding.protocol],)), binding.host_port.to_bytes(2, "big"))

    def value(self) -> bytes:
        return _concatenation(pack_address(self.address), self.binding.port.to_bytes(2, "big"))

    def key_text(self) -> str:
        """The key as nft(8) writes it."""
        binding = self.binding
        place = "" if binding.host_address == ANY else f"{binding.host_address} . "
        return f"{place}{binding.protocol} . {binding.host_port}"

    def __str__(self) -> str:
        return f"{self.key_text()} : {self.address} . {self.binding.port}"


def by_map(publications: list[Publication]) -> list[tuple[str, list[Publication]]]:
    """The publications of each map that has some, in pieces that one message can hold."""
    pieces = []
    for name in MAPS:
        members = [each for each in publications if each.map == name]
        pieces += [(name, members[start : start + _PIECE]) for start in range(0, len(members), _PIECE)]
    return pieces


def _concatenation(*fields: bytes) -> bytes:
    """A key or value of several fields, each of which begins a new register of 32 bits."""
    return b"".join(field + bytes(-len(field) % 4) for field in fields)
