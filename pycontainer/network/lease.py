"""Networks and the addresses leased from them: two tables of the engine's database.

The functions run inside the caller's transaction, begun with BEGIN IMMEDIATE, so that two processes never choose the
same address.
"""

from __future__ import annotations

import _socket

from pycontainer.errors import Conflict, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS networks (
    name TEXT PRIMARY KEY,
    interface TEXT NOT NULL UNIQUE,
    subnet TEXT NOT NULL,
    gateway TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS leases (
    network TEXT NOT NULL REFERENCES networks (name),
    address TEXT NOT NULL,
    container_id TEXT NOT NULL,
    PRIMARY KEY (network, address),
    UNIQUE (network, container_id)
);
"""


class StoredNetwork:
    """One row of the table. `subnet` is written as 10.99.0.0/20, `interface` is the bridge's name."""

    __slots__ = ("gateway", "interface", "name", "subnet")

    def __init__(self, name: str, interface: str, subnet: str, gateway: str) -> None:
        self.name = name
        self.interface = interface
        self.subnet = subnet
        self.gateway = gateway


def find(connection: sqlite3.Connection, name: str) -> StoredNetwork | None:
    """The network of that name, if it was ever made."""
    row = connection.execute("SELECT name, interface, subnet, gateway FROM networks WHERE name = ?", (name,)).fetchone()
    return StoredNetwork(*row) if row else None


def store(connection: sqlite3.Connection, network: StoredNetwork) -> None:
    """Insert `network`, or replace the one of the same name."""
    connection.execute(
        "INSERT INTO networks (name, interface, subnet, gateway) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET interface = excluded.interface, "
        "subnet = excluded.subnet, gateway = excluded.gateway",
        (network.name, network.interface, network.subnet, network.gateway),
    )


def lease_count(connection: sqlite3.Connection, name: str) -> int:
    """How many addresses of the network are leased."""
    (count,) = connection.execute("SELECT count(*) FROM leases WHERE network = ?", (name,)).fetchone()
    return int(count)


def allocate(connection: sqlite3.Connection, network: str, container_id: str) -> str:
    """Lease the lowest free address of `network` to the container; one that holds a lease already keeps it.

    Raises NotFound, Conflict where none is left.
    """
    stored = find(connection, network)
    if stored is None:
        raise NotFound("lease an address", network, "no such network")
    rows = connection.execute("SELECT address, container_id FROM leases WHERE network = ?", (network,)).fetchall()
    holders: dict[str, str] = dict(rows)
    for address, holder in holders.items():
        if holder == container_id:
            return address
    chosen = _lowest(stored, holders)
    connection.execute(
        "INSERT INTO leases (network, address, container_id) VALUES (?, ?, ?)", (network, chosen, container_id)
    )
    return chosen


def address_of(connection: sqlite3.Connection, network: str, container_id: str) -> str:
    """What of `network` is leased to the container, "" for nothing."""
    row = connection.execute(
        "SELECT address FROM leases WHERE network = ? AND container_id = ?", (network, container_id)
    ).fetchone()
    return str(row[0]) if row else ""


def release(connection: sqlite3.Connection, container_id: str) -> None:
    """Give back whatever is leased to the container; nothing is no failure."""
    connection.execute("DELETE FROM leases WHERE container_id = ?", (container_id,))


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


def _lowest(stored: StoredNetwork, holders: dict[str, str]) -> str:
    for number in _hosts(stored.subnet):
        address = _socket.inet_ntoa(number.to_bytes(4, "big"))
        if address != stored.gateway and address not in holders:
            return address
    raise Conflict(
        "lease an address",
        stored.subnet,
        f"all {len(holders)} addresses of network {stored.name} are leased",
        "remove containers that are not needed",
    )
