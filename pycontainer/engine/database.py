"""The database of long-lived metadata: images, containers, networks, leases.

SQLite in WAL mode at ROOT/db.sqlite. Every module that keeps something there declares its own tables.
"""

from __future__ import annotations

# Not `sqlite3`, which adds adapters for dates, that nobody uses here, and 3 ms to every start.
import _sqlite3
import os

from pycontainer.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

Error: type[Exception] = _sqlite3.Error

# Raised whenever a module's SCHEMA changes, so that opening an up-to-date database costs one PRAGMA.
_VERSION = 2


def open_database(root: str) -> sqlite3.Connection:
    """The database under `root`, made if need be, in autocommit mode. Raises HostError.

    A transaction is written `with connection: connection.execute("BEGIN IMMEDIATE"); …`. WAL with synchronous=NORMAL:
    a commit survives the death of the process at once, and a crash of the machine up to the last checkpoint.
    """
    if os.geteuid() != 0:
        raise HostError("pycontainer must be run as root", hint="put sudo before the command")
    path = os.path.join(root, "db.sqlite")
    try:
        # 0700, because layers hold setuid programs, and other users of the host have no business with them.
        os.makedirs(root, mode=0o700, exist_ok=True)
        connection: sqlite3.Connection = _sqlite3.connect(path, timeout=30, isolation_level=None)
        if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            _make_tables(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
    except (OSError, _sqlite3.Error) as error:
        words = ("full", "unable", "disk i/o")
        hint = "is the disk full?" if any(word in str(error).lower() for word in words) else ""
        raise HostError("open the database", path, str(error).lower(), hint) from error
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    from pycontainer.engine import containers, events, volumes
    from pycontainer.image import store
    from pycontainer.network import lease

    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise _sqlite3.DatabaseError(f"written by a newer pycontainer (version {version}, this one knows {_VERSION})")
    connection.execute("PRAGMA journal_mode=WAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Read again inside it: another command may have been faster.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for older in range(version or _VERSION, _VERSION):
            for statement in containers.MIGRATIONS.get(older, ()):
                connection.execute(statement)
        for schema in (store.SCHEMA, lease.SCHEMA, containers.SCHEMA, events.SCHEMA, volumes.SCHEMA):
            for statement in schema.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={_VERSION}")
