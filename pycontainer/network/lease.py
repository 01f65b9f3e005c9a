"""Networks and the addresses leased from them: two tables of the engine's database.

The functions run inside the caller's transaction, begun with BEGIN IMMEDIATE, so that two processes never choose the
same address.
"""

from __future__ import annotations

import _socket

from pycontainer import json_text
from pycontainer.errors import Conflict, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

SCHEMA = """
CREATE TABLE IF NOT EXISTS networks (
    name TEXT PRIMARY KEY,
    interface TEXT NOT NULL UNIQUE,
    subnet TEXT NOT NULL,
    gateway TEXT NOT NULL,
    id TEXT NOT NULL DEFAULT '',       -- of one that a user has made, 64 hexadecimal digits
    created REAL NOT NULL DEFAULT 0,   -- seconds since the epoch
    traits TEXT NOT NULL DEFAULT ''    -- JSON object: Traits
);
CREATE TABLE IF NOT EXISTS leases (
    network TEXT NOT NULL REFERENCES networks (name),
    address TEXT NOT NULL,
    container_id TEXT NOT NULL,
    mac TEXT NOT NULL DEFAULT '',      -- where a user has chosen it
    aliases TEXT NOT NULL DEFAULT '',  -- what else the container is called in this network, with spaces between
    link TEXT NOT NULL DEFAULT 'eth0', -- what the container calls its end of the cable
    way_out INTEGER NOT NULL DEFAULT 1, -- 1 where its default route leads here, and its published ports to here
    PRIMARY KEY (network, address),
    UNIQUE (network, container_id)
);
"""
# Of a database that an older version has made.
MIGRATIONS = {
    3: [
        "ALTER TABLE networks ADD COLUMN id TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE networks ADD COLUMN created REAL NOT NULL DEFAULT 0",
        "ALTER TABLE networks ADD COLUMN traits TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE leases ADD COLUMN mac TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE leases ADD COLUMN aliases TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE leases ADD COLUMN link TEXT NOT NULL DEFAULT 'eth0'",
        "ALTER TABLE leases ADD COLUMN way_out INTEGER NOT NULL DEFAULT 1",
    ]
}
_LEASE_COLUMNS = "network, address, container_id, mac, aliases, link, way_out"
_COLUMNS = "name, interface, subnet, gateway, id, created, traits"


class Traits:
    """What a user has asked of a network when making it.

    internal    nothing gets out of it, and nothing in
    masquerade  what leaves takes the host's address
    mtu         bytes; 0 for what the host's own way out has
    ip_range    where addresses are leased from, such as 10.99.4.0/24; "" for the whole subnet
    subnet6     IPv6, such as fd12:3456:789a::/64; "" for none
    labels      the user's
    options     the driver's, as they were given
    """

    __slots__ = ("internal", "ip_range", "labels", "masquerade", "mtu", "options", "subnet6")

    def __init__(
        self,
        *,
        internal: bool = False,
        masquerade: bool = True,
        mtu: int = 0,
        ip_range: str = "",
        subnet6: str = "",
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.internal = internal
        self.masquerade = masquerade
        self.mtu = mtu
        self.ip_range = ip_range
        self.subnet6 = subnet6
        self.labels = labels or {}
        self.options = options or {}

    def to_json(self) -> str:
        return json_text.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> Traits:
        return cls(**json_text.loads(text)) if text else cls()


class StoredNetwork:
    """One row of the table. `subnet` is written as 10.99.0.0/20, `interface` is the bridge's name.

    id       64 hexadecimal digits; "" for the one that is always there
    created  seconds since the epoch
    """

    __slots__ = ("created", "gateway", "id", "interface", "name", "subnet", "traits")

    def __init__(
        self,
        name: str,
        interface: str,
        subnet: str,
        gateway: str,
        network_id: str = "",
        created: float = 0,
        traits: Traits | None = None,
    ) -> None:
        self.name = name
        self.interface = interface
        self.subnet = subnet
        self.gateway = gateway
        self.id = network_id
        self.created = created
        self.traits = traits or Traits()

    @property
    def gateway6(self) -> str:
        """The host's IPv6 address in it; "" where it has no IPv6."""
        return self.address6(self.gateway)

    def address6(self, address: str) -> str:
        """The IPv6 address that goes with an IPv4 address of the network: the same number in the other subnet."""
        if not self.traits.subnet6:
            return ""
        base6, _ = split_subnet6(self.traits.subnet6)
        base, _ = split_subnet(self.subnet)
        number = base6 + int.from_bytes(pack_address(address), "big") - base
        return _socket.inet_ntop(_socket.AF_INET6, number.to_bytes(16, "big"))


class Lease:
    """One row: what a container holds of a network.

    mac      its link address, by default made of the address
    link     what the container calls its end of the cable
    way_out  its default route leads here, and its published ports to here
    """

    __slots__ = ("address", "aliases", "container_id", "link", "mac", "network", "way_out")

    def __init__(
        self, network: str, address: str, container_id: str, mac: str, aliases: str, link: str, way_out: int
    ) -> None:
        self.network = network
        self.address = address
        self.container_id = container_id
        # Of the leased one, so that whoever gets the address next is reached without waiting for ARP.
        self.mac = mac or (b"\x02\x42" + pack_address(address)).hex(":")
        self.aliases = aliases.split()
        self.link = link
        self.way_out = bool(way_out)


def find(connection: sqlite3.Connection, name: str) -> StoredNetwork | None:
    """The network of that name, if it was ever made."""
    return next(_networks(connection, "WHERE name = ?", name), None)


def find_all(connection: sqlite3.Connection) -> list[StoredNetwork]:
    """All that were ever made and not removed, the oldest first."""
    return list(_networks(connection, "ORDER BY created, name"))


def _networks(connection: sqlite3.Connection, condition: str, *values: str) -> Iterator[StoredNetwork]:
    for *fields, traits in connection.execute(f"SELECT {_COLUMNS} FROM networks {condition}", values):
        name, interface, subnet, gateway, network_id, created = fields
        yield StoredNetwork(name, interface, subnet, gateway, network_id, created, Traits.from_json(traits))


def store(connection: sqlite3.Connection, network: StoredNetwork) -> None:
    """Insert `network`, or give the one of the same name another place. Raises Conflict: another has its bridge."""
    try:
        connection.execute(
            f"INSERT INTO networks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET interface = excluded.interface, "
            "subnet = excluded.subnet, gateway = excluded.gateway",
            (
                network.name,
                network.interface,
                network.subnet,
                network.gateway,
                network.id,
                network.created,
                network.traits.to_json(),
            ),
        )
    except connection.IntegrityError:
        raise Conflict("make network", network.name, f"another network has the bridge {network.interface}") from None


def delete(connection: sqlite3.Connection, name: str) -> None:
    """Forget a network that nobody has a lease of."""
    connection.execute("DELETE FROM networks WHERE name = ?", (name,))


def lease_count(connection: sqlite3.Connection, name: str) -> int:
    """How many addresses of the network are leased."""
    (count,) = connection.execute("SELECT count(*) FROM leases WHERE network = ?", (name,)).fetchone()
    return int(count)


def allocate(
    connection: sqlite3.Connection,
    network: str,
    container_id: str,
    *,
    address: str = "",
    address6: str = "",
    mac: str = "",
    aliases: Iterable[str] = (),
    link: str = "eth0",
    way_out: bool = True,
) -> Lease:
    """Lease an address of `network` to the container; one that holds a lease already keeps its address.

    address   the one that it shall be; else it is the lowest that is free
    address6  the same, by the IPv6 address that goes with it

    Raises NotFound, Conflict where it is taken, or none is left.
    """
    if held := lease_of(connection, network, container_id):
        # Its networks may have changed since.
        held.link, held.way_out = link, way_out
        connection.execute(
            "UPDATE leases SET link = ?, way_out = ? WHERE network = ? AND container_id = ?",
            (link, int(way_out), network, container_id),
        )
        return held
    stored = find(connection, network)
    if stored is None:
        raise NotFound("lease an address", network, "no such network")
    rows = connection.execute("SELECT address, container_id FROM leases WHERE network = ?", (network,)).fetchall()
    holders: dict[str, str] = dict(rows)
    if address6:
        address = _other_address(stored, address6, address)
    if address:
        _check_free(stored, address, holders)
    chosen = address or _lowest(stored, holders)
    row = (network, chosen, container_id, mac, " ".join(aliases), link, int(way_out))
    connection.execute(f"INSERT INTO leases ({_LEASE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return Lease(*row)


def lease_of(connection: sqlite3.Connection, network: str, container_id: str) -> Lease | None:
    """What the container has leased of a network."""
    return next((lease for lease in leases_of(connection, container_id) if lease.network == network), None)


def leases_of(connection: sqlite3.Connection, container_id: str) -> list[Lease]:
    """What the container has leased, in the order in which it came to that."""
    return _leases(connection, "container_id", container_id)


def leases_in(connection: sqlite3.Connection, network: str) -> list[Lease]:
    """What is leased of a network, in the order in which it came to that."""
    return _leases(connection, "network", network)


def _leases(connection: sqlite3.Connection, column: str, value: str) -> list[Lease]:
    rows = connection.execute(f"SELECT {_LEASE_COLUMNS} FROM leases WHERE {column} = ? ORDER BY rowid", (value,))
    return [Lease(*row) for row in rows]


def release(connection: sqlite3.Connection, container_id: str, network: str = "") -> None:
    """Give back what is leased to the container, of one network or of all; nothing is no failure."""
    connection.execute(
        "DELETE FROM leases WHERE container_id = ? AND (network = ? OR ? = '')", (container_id, network, network)
    )


def pack_address(text: str) -> bytes:
    """An IPv4 address as its four bytes. Raises ValueError."""
    try:
        return _socket.inet_pton(_socket.AF_INET, text)
    except OSError:
        raise ValueError(f"not an IPv4 address: {text}") from None


def unpack_address(data: bytes) -> str:
    """Four bytes as an IPv4 address."""
    return _socket.inet_ntoa(data)


def split_subnet(subnet: str) -> tuple[int, int]:
    """`10.99.0.0/20` as its first address, a number, and its prefix length."""
    base, _, length = subnet.partition("/")
    return int.from_bytes(pack_address(base), "big"), int(length)


def _hosts(subnet: str) -> range:
    """What a subnet can give, as numbers: all but its own address and the broadcast address."""
    base, length = split_subnet(subnet)
    return range(base + 1, base + (1 << 32 - length) - 1)


def split_subnet6(subnet: str) -> tuple[int, int]:
    """`fd12::/64` as its first address, a number, and its prefix length."""
    base, _, length = subnet.partition("/")
    return int.from_bytes(_socket.inet_pton(_socket.AF_INET6, base), "big"), int(length)


def contains(subnet: str, address: str) -> bool:
    """Whether a subnet can give that address. Raises ValueError."""
    return int.from_bytes(pack_address(address), "big") in _hosts(subnet)


def is_within(subnet: str, address: str) -> bool:
    """Whether an address lies in a subnet of the same family, IPv4 or IPv6."""
    base, _, length = subnet.partition("/")
    family, bits = (_socket.AF_INET6, 128) if ":" in subnet else (_socket.AF_INET, 32)
    first, number = (int.from_bytes(_socket.inet_pton(family, each), "big") for each in (base, address))
    return first >> bits - int(length) == number >> bits - int(length)


def _other_address(stored: StoredNetwork, address6: str, address: str) -> str:
    """The IPv4 address that goes with one of IPv6, which is `address` if that is given. Raises Conflict."""
    step = "lease an address"
    if not stored.traits.subnet6:
        raise Conflict(step, address6, f"network {stored.name} has no IPv6", "make one that has: network create --ipv6")
    base6, _ = split_subnet6(stored.traits.subnet6)
    base, _ = split_subnet(stored.subnet)
    number = int.from_bytes(_socket.inet_pton(_socket.AF_INET6, address6), "big") - base6 + base
    if number not in _hosts(stored.subnet):
        hosts = _hosts(stored.subnet)
        ends = [stored.address6(_socket.inet_ntoa(each.to_bytes(4, "big"))) for each in (hosts[0], hosts[-1])]
        cause = f"a container has the same number in {stored.subnet} and in {stored.traits.subnet6}"
        raise Conflict(step, address6, cause, f"one from {ends[0]} to {ends[1]}")
    other = _socket.inet_ntoa(number.to_bytes(4, "big"))
    if address not in ("", other):
        cause = f"a container has the same number in {stored.subnet} and in {stored.traits.subnet6}"
        raise Conflict(step, address6, cause, f"{stored.address6(address)} goes with {address}")
    return other


def _check_free(stored: StoredNetwork, address: str, holders: dict[str, str]) -> None:
    try:
        inside = contains(stored.subnet, address)
    except ValueError:
        inside = False
    if not inside:
        cause = f"it is no address of network {stored.name}, which is {stored.subnet}"
        raise Conflict("lease an address", address, cause)
    if address == stored.gateway:
        raise Conflict("lease an address", address, f"it is the gateway of network {stored.name}")
    if address in holders:
        raise Conflict("lease an address", address, f"address already in use by container {holders[address][:12]}")


def _lowest(stored: StoredNetwork, holders: dict[str, str]) -> str:
    offered = stored.traits.ip_range or stored.subnet
    possible = _hosts(stored.subnet)
    for number in range(*_bounds(offered)) if stored.traits.ip_range else possible:
        address = _socket.inet_ntoa(number.to_bytes(4, "big"))
        if number in possible and address != stored.gateway and address not in holders:
            return address
    raise Conflict(
        "lease an address",
        offered,
        f"all {len(holders)} addresses of network {stored.name} are leased",
        "remove containers that are not needed",
    )


def _bounds(subnet: str) -> tuple[int, int]:
    base, length = split_subnet(subnet)
    return base, base + (1 << 32 - length)
