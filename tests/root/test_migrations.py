"""Databases that older pycontainers have made, and newer ones."""

from __future__ import annotations

import sqlite3

import pytest
from conftest import Pycontainer

from pycontainer.engine import containers, database
from pycontainer.network import lease

# Version -> the tables as it made them, where they were others.
OLDER = {
    1: """
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,          -- as the user wrote it
    image_id TEXT NOT NULL,
    command TEXT NOT NULL,        -- JSON array
    labels TEXT NOT NULL,         -- JSON object
    status TEXT NOT NULL,         -- created, running, exited
    exit_status INTEGER,          -- NULL until it has exited
    error TEXT NOT NULL,          -- why it did not start, or what ended it if not the program
    id_base INTEGER UNIQUE,       -- first host id of its range, NULL for the host's ids
    auto_remove INTEGER NOT NULL,
    created REAL NOT NULL,        -- seconds since the epoch, as the next two
    started REAL,
    finished REAL
);
DROP TABLE events; DROP TABLE volumes; DROP TABLE mounts; DROP TABLE verifications;
""",
}
OLDER[2] = ";\n".join((OLDER[1].partition(";")[0], *containers.MIGRATIONS[1], "DROP TABLE verifications"))
OLDER[3] = ";\n".join((OLDER[1].partition(";")[0], *containers.MIGRATIONS[1]))
# Until then networks had no traits.
_NETWORKS = """;
DROP TABLE networks; DROP TABLE leases;
CREATE TABLE networks (
    name TEXT PRIMARY KEY, interface TEXT NOT NULL UNIQUE, subnet TEXT NOT NULL, gateway TEXT NOT NULL);
CREATE TABLE leases (
    network TEXT NOT NULL REFERENCES networks (name), address TEXT NOT NULL, container_id TEXT NOT NULL,
    PRIMARY KEY (network, address), UNIQUE (network, container_id));
INSERT INTO networks VALUES ('bridge', 'pyct9', '10.99.0.0/20', '10.99.0.1')
"""
OLDER = {version: tables + _NETWORKS for version, tables in OLDER.items()}


def test_every_migration_is_tested() -> None:
    assert set(OLDER) == {*containers.MIGRATIONS, *lease.MIGRATIONS} == set(range(1, database._VERSION))


def shape(connection: sqlite3.Connection) -> dict[str, list[tuple]]:
    """Table -> its columns, as `PRAGMA table_info` tells them."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {table: connection.execute(f"PRAGMA table_info({table})").fetchall() for table in tables}


@pytest.mark.parametrize("version", OLDER)
def test_an_older_database_is_brought_up_to_date(pycontainer: Pycontainer, busybox: str, version: int) -> None:
    pycontainer("ps", check=True)
    path = pycontainer.root / "db.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    expected = shape(connection)
    connection.execute("DROP TABLE containers")
    connection.executescript(OLDER[version])
    row = {
        "id": "ab" * 32, "name": "old", "image": "busybox", "command": '["true"]', "labels": "{}", "status": "exited",
        "exit_status": 3, "error": "", "id_base": 1 << 30, "auto_remove": 0, "created": 1.0, "started": 2.0,
        "finished": 3.0,
    }  # fmt: skip
    connection.execute(
        f"INSERT INTO containers ({', '.join(row)}, image_id) SELECT {', '.join('?' * len(row))}, id FROM images",
        (*row.values(),),
    )
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()

    listed = pycontainer("ps", "-a", "--format", "{{.Names}} {{.Status}}", check=True).stdout
    assert listed.startswith("old Exited (3) ")
    connection = sqlite3.connect(path)
    assert shape(connection) == expected
    assert connection.execute("PRAGMA user_version").fetchone() == (database._VERSION,)
    connection.close()
    pycontainer("run", "--rm", "--network", "none", "busybox", "true", check=True)
    assert "pyct9" in pycontainer("network", "inspect", "bridge", check=True).stdout
    pycontainer("rm", "old", check=True)


def test_a_newer_database_is_refused(pycontainer: Pycontainer, busybox: str) -> None:
    pycontainer("ps", check=True)
    connection = sqlite3.connect(pycontainer.root / "db.sqlite", isolation_level=None)
    connection.execute(f"PRAGMA user_version={database._VERSION + 1}")
    before = shape(connection)
    for command in ("ps", "run --rm busybox true", "images", "rmi busybox"):
        refused = pycontainer(*command.split())
        assert refused.returncode in (1, 125)
        assert f"written by a newer pycontainer (version {database._VERSION + 1}" in refused.stderr
    assert shape(connection) == before
    connection.execute(f"PRAGMA user_version={database._VERSION}")
    connection.close()
    assert "busybox" in pycontainer("images", check=True).stdout
