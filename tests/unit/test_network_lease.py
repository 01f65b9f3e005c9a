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
    assert [lease.allocate(connection, "bridge", name) for name in "abc"] == ["10.99.0.2", "10.99.0.3", "10.99.0.4"]
    lease.release(connection, "b")
    assert lease.allocate(connection, "bridge", "d") == "10.99.0.3"
    assert lease.lease_count(connection, "bridge") == 3


def test_order_is_that_of_numbers(connection: sqlite3.Connection) -> None:
    lease.store(connection, StoredNetwork("wide", "pyc1", "10.98.0.0/20", "10.98.0.1"))
    addresses = [lease.allocate(connection, "wide", str(number)) for number in range(300)]
    assert addresses[8] == "10.98.0.10"
    assert addresses[253:256] == ["10.98.0.255", "10.98.1.0", "10.98.1.1"]


def test_a_container_keeps_its_lease(connection: sqlite3.Connection) -> None:
    assert lease.allocate(connection, "bridge", "a") == lease.allocate(connection, "bridge", "a") == "10.99.0.2"
    assert lease.lease_count(connection, "bridge") == 1


def test_exhausted_subnet(connection: sqlite3.Connection) -> None:
    for name in "abcde":
        lease.allocate(connection, "bridge", name)
    with pytest.raises(Conflict, match=r"10\.99\.0\.0/29: all 5 addresses of network bridge are leased"):
        lease.allocate(connection, "bridge", "f")
    lease.release(connection, "e")
    assert lease.allocate(connection, "bridge", "f") == "10.99.0.6"


def test_the_gateway_is_never_leased(connection: sqlite3.Connection) -> None:
    lease.store(connection, StoredNetwork("bridge", "pyc0", "10.99.0.0/29", "10.99.0.2"))
    assert lease.allocate(connection, "bridge", "a") == "10.99.0.1"
    assert lease.allocate(connection, "bridge", "b") == "10.99.0.3"


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
