"""Containers in the database: names, ranges, status; and the lock that says who is alive."""

from __future__ import annotations

import itertools
import os
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from pycontainer.engine import containers, events, volumes
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.errors import Conflict, HostError, NotFound


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(containers.SCHEMA)
    connection.executescript(events.SCHEMA)
    connection.executescript(volumes.SCHEMA)
    yield connection
    connection.close()


def insert(connection: sqlite3.Connection, container_id: str, **values: Any) -> containers.Container:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        return containers.insert(
            connection,
            container_id,
            ContainerConfig("busybox", ["sh"], values),
            "sha256:1",
            ["sh", "-c", "\u00e9"],
            "created",
        )


ID = "0123456789ab" + "c" * 52


def test_a_container_is_found_as_it_was_recorded(connection: sqlite3.Connection) -> None:
    made = insert(connection, ID, name="web", label=["a=\u00e9", "b"], rm=True)
    for key in ("web", ID, ID[:12], ID[:1]):
        found = containers.find(connection, key)
        assert (found.id, found.name, found.image, found.image_id) == (ID, "web", "busybox", "sha256:1")
        assert (found.command, found.labels) == (["sh", "-c", "\u00e9"], {"a": "\u00e9", "b": ""})
        assert (found.status, found.exit_status, found.error) == ("created", None, "")
        assert found.id_base == made.id_base
        assert [str(extent) for extent in found.id_maps] == [f"0 {made.id_base} 65536"]
        assert found.created > 0
        assert (found.started, found.finished) == (None, None)
    # Whoever repairs after its owner asks the table.
    assert connection.execute("SELECT auto_remove FROM containers").fetchall() == [(1,)]


def test_the_hosts_ids_have_no_range_and_no_map(connection: sqlite3.Connection) -> None:
    insert(connection, ID, name="web", userns="host")
    found = containers.find(connection, "web")
    assert (found.id_base, found.id_maps) == (0, [])
    assert connection.execute("SELECT id_base, auto_remove FROM containers").fetchall() == [(None, 0)]


def test_a_name_comes_before_an_id(connection: sqlite3.Connection) -> None:
    insert(connection, "ab" + "0" * 62, name="first")
    insert(connection, "cd" + "0" * 62, name="ab")
    assert containers.find(connection, "ab").id.startswith("cd")


@pytest.mark.parametrize("key", ["", "nope", "we", "%", "_", "0123456789abd", "web' OR 1=1 --"])
def test_who_is_not_there_is_not_found(connection: sqlite3.Connection, key: str) -> None:
    insert(connection, ID, name="web")
    insert(connection, "f" * 64, name="db")
    with pytest.raises(NotFound):
        containers.find(connection, key)


def test_an_id_that_fits_two_is_refused(connection: sqlite3.Connection) -> None:
    insert(connection, "aa" + "0" * 62)
    insert(connection, "ab" + "0" * 62)
    with pytest.raises((Conflict, NotFound)):
        containers.find(connection, "a")
    assert containers.find(connection, "ab").id.startswith("ab")


def test_status(connection: sqlite3.Connection) -> None:
    insert(connection, ID, name="web")
    containers.set_running(connection, ID, 4711)
    found = containers.find(connection, ID)
    assert (found.status, found.pid) == ("running", 4711)
    assert found.started is not None
    containers.set_exited(connection, ID, 42, "why")
    found = containers.find(connection, ID)
    assert (found.status, found.exit_status, found.error, found.pid) == ("exited", 42, "why", 0)
    assert found.finished is not None
    containers.delete(connection, ID)
    assert containers.list_all(connection) == []


def test_a_taken_name_names_its_holder_and_the_way_out(connection: sqlite3.Connection) -> None:
    insert(connection, ID, name="web")
    with pytest.raises(Conflict) as caught:
        insert(connection, "f" * 64, name="web")
    assert ID[:12] in caught.value.cause
    assert "pycontainer rm web" in caught.value.hint
    assert len(containers.list_all(connection)) == 1


def test_ranges_never_overlap_and_are_given_out_again(connection: sqlite3.Connection) -> None:
    ids = [f"{number:064x}" for number in range(20)]
    bases = {insert(connection, container_id).id_base for container_id in ids}
    assert len(bases) == 20
    for base in bases:
        assert base % containers.RANGE_SIZE == 0
        # outside what useradd(8) gives to ordinary users and systemd to dynamic ones, inside 31 bits
        assert 600_100_000 < base < (1 << 31) - containers.RANGE_SIZE
    ordered = sorted(bases)
    assert all(second - first >= containers.RANGE_SIZE for first, second in itertools.pairwise(ordered))
    freed = containers.find(connection, ids[3]).id_base
    containers.delete(connection, ids[3])
    assert insert(connection, "f" * 64).id_base == freed


def test_without_a_user_namespace_no_range_is_taken(connection: sqlite3.Connection) -> None:
    for number, values in enumerate(({"userns": "host"}, {"privileged": True}, {"userns": "host"})):
        assert insert(connection, f"{number:064x}", **values).id_base == 0


def test_the_last_range_is_the_last(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_LAST_BASE", containers._FIRST_BASE + 2 * containers.RANGE_SIZE)
    insert(connection, "a" * 64)
    insert(connection, "b" * 64)
    with pytest.raises(HostError):
        insert(connection, "c" * 64)


def test_names_are_made_up_and_never_twice(connection: sqlite3.Connection) -> None:
    names = [insert(connection, f"{number:064x}").name for number in range(300)]
    assert len(set(names)) == 300
    for name in names:
        assert ContainerConfig("busybox", [], {"name": name}).name == name, "a user could have chosen it"


def test_only_one_owns_a_container(tmp_path: pathlib.Path) -> None:
    state = str(tmp_path)
    owner = containers.lock(state, ID)
    assert containers.locked_ids(state) == [ID]
    # From another process, because the lock is this one's.
    pid = os.fork()
    if pid == 0:
        os._exit(containers.try_lock(state, ID) is not None)
    assert os.waitpid(pid, 0)[1] == 0
    containers.unlock(state, ID, owner)
    assert containers.locked_ids(state) == []
    again = containers.try_lock(state, ID)
    assert again is not None
    containers.unlock(state, ID, again)


def test_a_dead_owner_leaves_a_file_without_a_lock(tmp_path: pathlib.Path) -> None:
    state = str(tmp_path)
    pid = os.fork()
    if pid == 0:
        containers.lock(state, ID)
        os._exit(0)
    os.waitpid(pid, 0)
    assert containers.locked_ids(state) == [ID]
    owner = containers.try_lock(state, ID)
    assert owner is not None
    containers.unlock(state, ID, owner)


def test_a_lock_on_a_file_that_is_gone_counts_for_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between open and flock the owner may have ended and removed the file."""
    state = str(tmp_path)
    path = tmp_path / "containers" / ID
    owner = containers.lock(state, ID)
    really = containers._open_lock

    def open_and_lose(state: str, container_id: str) -> int:
        descriptor = really(state, container_id)
        path.unlink()
        return descriptor

    monkeypatch.setattr(containers, "_open_lock", open_and_lose)
    os.close(owner)
    assert containers.try_lock(state, ID) is None
