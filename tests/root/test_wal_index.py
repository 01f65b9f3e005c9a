"""The index of SQLite's log, kept by engine/wal_index.py, against what SQLite itself makes of the log."""

from __future__ import annotations

import os
import pathlib
import signal
import sqlite3
from collections.abc import Callable

import pytest

from pycontainer.engine.database import open_database
from pycontainer.image.store import settle


def in_child(function: Callable[[], None], *, killed: bool = False) -> None:
    """Call it in a process of its own, which ends without closing anything, as every command does."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os.kill(os.getpid(), signal.SIGKILL) if killed else os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == (-signal.SIGKILL if killed else 0)


def insert(root: pathlib.Path, count: int = 1) -> None:
    connection = open_database(str(root))
    for _ in range(count):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO layers VALUES (hex(randomblob(16)), 1)")


def count(root: pathlib.Path) -> int:
    """As a command sees it."""
    reader, writer = os.pipe()

    def look() -> None:
        found = open_database(str(root)).execute("SELECT count(*) FROM layers").fetchone()[0]
        os.write(writer, b"%d" % found)

    in_child(look)
    os.close(writer)
    with open(reader, "rb") as file:
        return int(file.read())


def truth(root: pathlib.Path, copy: pathlib.Path) -> int:
    """As SQLite sees it, with nothing but database and log."""
    for suffix in ("", "-wal"):
        (copy / f"db{suffix}").write_bytes((root / f"db.sqlite{suffix}").read_bytes())
    connection = sqlite3.connect(copy / "db")
    try:
        return int(connection.execute("SELECT count(*) FROM layers").fetchone()[0])
    finally:
        connection.close()
        for name in os.listdir(copy):
            os.unlink(copy / name)


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "copy").mkdir()
    return tmp_path / "copy"


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_many_rounds_through_the_log(root: pathlib.Path, copy: pathlib.Path) -> None:
    """More transactions than the log holds, by processes that come and go."""
    total = 0
    for number in (1, 7, 400, 3, 700, 1, 1):
        in_child(lambda number=number: insert(root, number))  # type: ignore[misc]
        total += number
        assert count(root) == truth(root, copy) == total


def test_it_is_kept_from_one_command_to_the_next(root: pathlib.Path) -> None:
    in_child(lambda: insert(root))
    before = (root / "db.sqlite-shm").stat()
    count(root)
    in_child(lambda: insert(root))
    after = (root / "db.sqlite-shm").stat()
    assert (after.st_ino, after.st_blocks) == (before.st_ino, before.st_blocks)
    assert after.st_blocks * 512 >= 64 << 10


@pytest.mark.parametrize("rounds", [1, 900])
def test_a_transaction_that_was_written_and_not_published(root: pathlib.Path, copy: pathlib.Path, rounds: int) -> None:
    """Whoever looks next sees what SQLite will see for ever after: not the one now, and the other then."""
    in_child(lambda: insert(root, rounds))
    before = (root / "db.sqlite-shm").read_bytes()
    in_child(lambda: insert(root))
    # As if it had been killed after it had written the log, and before the index.
    (root / "db.sqlite-shm").write_bytes(before)
    assert truth(root, copy) == rounds + 1
    assert count(root) == rounds + 1
    in_child(lambda: insert(root))
    assert count(root) == truth(root, copy) == rounds + 2


@pytest.mark.parametrize("settled", [True, False])
def test_one_that_shows_up_when_the_last_of_the_others_has_gone(
    root: pathlib.Path, copy: pathlib.Path, settled: bool
) -> None:
    """Who destroys what the database does not know, settles first that it never will."""
    in_child(lambda: insert(root))
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        held = open_database(str(root))
        os.write(writer, b"%d" % held.execute("SELECT count(*) FROM layers").fetchone()[0])
        signal.pause()
    assert os.read(reader, 9) == b"1"
    shm = root / "db.sqlite-shm"
    header = shm.read_bytes()[:136]
    in_child(lambda: insert(root))
    # As if it had been killed after it had written the log, and before the index.
    with open(shm, "r+b") as file:
        file.write(header)
    assert count(root) == 1
    if settled:
        in_child(lambda: settle(open_database(str(root))))
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    os.close(reader)
    os.close(writer)
    assert count(root) == truth(root, copy) == (1 if settled else 2)


def test_another_log_or_another_boot(root: pathlib.Path, copy: pathlib.Path) -> None:
    """A database that was put back from a copy has an index that is another's."""
    in_child(lambda: insert(root, 3))
    saved = {suffix: (root / f"db.sqlite{suffix}").read_bytes() for suffix in ("", "-wal")}
    in_child(lambda: insert(root, 2))
    for suffix, data in saved.items():
        (root / f"db.sqlite{suffix}").unlink()
        (root / f"db.sqlite{suffix}").write_bytes(data)
    assert count(root) == truth(root, copy) == 3
    shm = root / "db.sqlite-shm"
    data = shm.read_bytes()
    shm.write_bytes(data[: 64 << 10] + b"another boot".ljust(len(data) - (64 << 10), b"\0"))
    in_child(lambda: insert(root))
    assert count(root) == truth(root, copy) == 4


def test_sqlite_beside_us(root: pathlib.Path, copy: pathlib.Path) -> None:
    """One that knows nothing of it may open the database at any time, also as the first."""
    for number in range(5):
        in_child(lambda: insert(root))
        connection = sqlite3.connect(root / "db.sqlite", isolation_level=None)
        connection.execute("INSERT INTO layers VALUES (?, 1)", (str(number),))
        in_child(lambda: insert(root))
        assert connection.execute("SELECT count(*) FROM layers").fetchone()[0] == 3 * number + 3
        connection.close()
        assert count(root) == 3 * number + 3
