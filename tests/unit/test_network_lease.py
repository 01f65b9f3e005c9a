from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontainer.errors import Conflict, NotFound
from pycontainer.network import lease
from pycontainer.network.lease import StoredNetwork


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(lease.SCHEMA)
    lease.store(database, StoredNetwork("bridge", "pyc0", "10.99.0.0/29", "10.99.0.1"))
    yield database
    database.close()


def test_lowest_free_address_first(connection: sqlite3.Connection) -> None:
    assert [lease.allocate(connection, "bridge", name).address for name in "abc"] == [
        "10.99.0.2",
        "10.99.0.3",
        "10.99.0.4",
    ]
    lease.release(connection, "b")
    assert lease.allocate(connection, "bridge", "d").address == "10.99.0.3"
    assert lease.lease_count(connection, "bridge") == 3


def test_order_is_that_of_numbers(connection: sqlite3.Connection) -> None:
    lease.store(connection, StoredNetwork("wide", "pyc1", "10.98.0.0/20", "10.98.0.1"))
    addresses = [lease.allocate(connection, "wide", str(number)).address for number in range(300)]
    assert addresses[8] == "10.98.0.10"
    assert addresses[253:256] == ["10.98.0.255", "10.98.1.0", "10.98.1.1"]


def test_a_container_keeps_its_lease(connection: sqlite3.Connection) -> None:
    assert (
        lease.allocate(connection, "bridge", "a").address
        == lease.allocate(connection, "bridge", "a").address
        == "10.99.0.2"
    )
    assert lease.lease_count(connection, "bridge") == 1


def test_exhausted_subnet(connection: sqlite3.Connection) -> None:
    for name in "abcde":
        lease.allocate(connection, "bridge", name)
    with pytest.raises(Conflict, match=r"10\.99\.0\.0/29: all 5 addresses of network bridge are leased"):
        lease.allocate(connection, "bridge", "f")
    lease.release(connection, "e")
    assert lease.allocate(connection, "bridge", "f").address == "10.99.0.6"


def test_the_gateway_is_never_leased(connection: sqlite3.Connection) -> None:
    lease.store(connection, StoredNetwork("bridge", "pyc0", "10.99.0.0/29", "10.99.0.2"))
    assert lease.allocate(connection, "bridge", "a").address == "10.99.0.1"
    assert lease.allocate(connection, "bridge", "b").address == "10.99.0.3"


def test_unknown_network(connection: sqlite3.Connection) -> None:
    assert lease.find(connection, "nosuch") is None
    with pytest.raises(NotFound):
        lease.allocate(connection, "nosuch", "a")


def test_releasing_nothing_is_no_failure(connection: sqlite3.Connection) -> None:
    lease.release(connection, "nobody")


def test_a_rolled_back_lease_is_free_again(tmp_path: Path) -> None:
    first = sqlite3.connect(tmp_path / "db", isolation_level=None)
    first.executescript(lease.SCHEMA)
    lease.store(first, StoredNetwork("bridge", "pyc0", "10.99.0.0/29", "10.99.0.1"))
    with pytest.raises(RuntimeError), first:
        first.execute("BEGIN IMMEDIATE")
        lease.allocate(first, "bridge", "a")
        raise RuntimeError
    second = sqlite3.connect(tmp_path / "db", isolation_level=None)
    assert lease.lease_count(second, "bridge") == 0
    first.close()
    second.close()


def test_a_chosen_address(connection: sqlite3.Connection) -> None:
    held = lease.allocate(
        connection, "bridge", "a", address="10.99.0.4", mac="02:00:00:00:00:07", aliases=["db", "sql"]
    )
    assert (held.address, held.mac, held.aliases) == ("10.99.0.4", "02:00:00:00:00:07", ["db", "sql"])
    assert [lease.allocate(connection, "bridge", name).address for name in "bcd"] == [
        "10.99.0.2",
        "10.99.0.3",
        "10.99.0.5",
    ]
    for address, cause in (
        ("10.99.0.4", "in use by container a"),
        ("10.99.0.1", "gateway"),
        ("10.98.0.4", "no address of"),
    ):
        with pytest.raises(Conflict, match=cause):
            lease.allocate(connection, "bridge", "e", address=address)


def test_a_range_of_the_subnet(connection: sqlite3.Connection) -> None:
    traits = lease.Traits(ip_range="10.97.0.252/30", labels={"a": "b"})
    lease.store(connection, StoredNetwork("ranged", "pyc2", "10.97.0.0/24", "10.97.0.254", "f" * 64, 1.5, traits))
    found = [lease.allocate(connection, "ranged", name).address for name in "ab"]
    assert found == ["10.97.0.252", "10.97.0.253"]
    with pytest.raises(Conflict, match="leased"):
        lease.allocate(connection, "ranged", "c")
    assert lease.allocate(connection, "ranged", "c", address="10.97.0.7").address == "10.97.0.7"
    stored = lease.find(connection, "ranged")
    assert stored and (stored.id, stored.created, stored.traits.labels) == ("f" * 64, 1.5, {"a": "b"})
    assert [each.name for each in lease.find_all(connection)] == ["bridge", "ranged"]


def test_several_networks(connection: sqlite3.Connection) -> None:
    lease.store(connection, StoredNetwork("two", "pyc2", "10.97.0.0/24", "10.97.0.1"))
    lease.allocate(connection, "two", "a", link="eth0", way_out=False)
    lease.allocate(connection, "bridge", "a", link="eth1")
    assert [(each.network, each.link, each.way_out) for each in lease.leases_of(connection, "a")] == [
        ("two", "eth0", False),
        ("bridge", "eth1", True),
    ]
    lease.release(connection, "a", "two")
    assert [each.network for each in lease.leases_of(connection, "a")] == ["bridge"]
    with pytest.raises(Conflict, match="another network has the bridge"):
        lease.store(connection, StoredNetwork("three", "pyc2", "10.96.0.0/24", "10.96.0.1"))
