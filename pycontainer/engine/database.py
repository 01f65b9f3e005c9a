"""The database of long-lived metadata: images, containers, networks, leases.

SQLite in WAL mode at ROOT/db.sqlite. Every module that keeps something there declares its own tables.
"""

from __future__ import annotations

import errno
import os

from pycontainer.engine.light_sqlite import sqlite
from pycontainer.engine.wal_index import Index, is_no_space
from pycontainer.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

Error: type[Exception] = sqlite.Error

# SQLite's result code -> what the kernel calls it.
_ERRNOS = {8: errno.EROFS, 13: errno.ENOSPC}  # SQLITE_READONLY, SQLITE_FULL

# Raised whenever a module's SCHEMA changes, so that opening an up-to-date database costs one PRAGMA.
_VERSION = 4

_RESERVE = 1 << 20  # bytes, given up when nothing else is left, so that there is always room to record a removal
_ATTEMPTS = 10


class Database(sqlite.Connection):
    """A connection whose failures for want of space, or of leave to write, are those of any other file: OSError."""

    path = ""
    index: Index | None = None

    def execute(self, *arguments: Any) -> Any:
        try:
            return super().execute(*arguments)
        except sqlite.Error as error:
            raise self._translate(error) from error

    def __exit__(self, *arguments: Any) -> Any:
        try:
            return super().__exit__(*arguments)
        except sqlite.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> Exception:
        number = _ERRNOS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        return OSError(number, os.strerror(number), self.path) if number else error

    def close(self) -> None:
        super().close()
        if self.index is not None:
            self.index.close()
            self.index = None


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
        keep_reserve(root)
        for _ in range(_ATTEMPTS):
            connection = _connect(path)
            if connection.index is None or connection.index.is_current():
                break
            connection.close()
        if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            _make_tables(connection)
        if connection.index is not None:
            connection.index.seal()
        connection.execute("PRAGMA synchronous=NORMAL")
    except (OSError, sqlite.Error) as error:
        raise _explained(error, path) from error
    return connection


def _connect(path: str) -> Database:
    """Open it. Raises OSError, Error."""
    try:
        index = Index(path)
    except OSError as error:
        if error.errno == errno.EROFS:
            return _connect_to_copy(path)
        if not is_no_space(error):
            raise
        index = None
    connection = sqlite.connect(path, timeout=30, isolation_level=None, factory=Database)
    assert isinstance(connection, Database)
    connection.path, connection.index = path, index
    if index is None:
        # Then SQLite has the index in its own memory, and nobody else may read meanwhile.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA user_version")
    return connection


def _connect_to_copy(path: str) -> Database:
    """What a read-only file system holds, for SQLite writes beside what it reads. Raises OSError, Error."""
    directory = f"/run/pycontainer-{os.urandom(8).hex()}"
    os.mkdir(directory, 0o700)
    try:
        for suffix in ("", "-wal"):
            try:
                with open(f"{path}{suffix}", "rb") as source, open(f"{directory}/db{suffix}", "wb") as copy:
                    while block := source.read(1 << 20):
                        copy.write(block)
            except FileNotFoundError:
                # Nothing was ever stored, or all of the log is in the database.
                continue
        connection = sqlite.connect(f"{directory}/db", isolation_level=None, factory=Database)
        assert isinstance(connection, Database)
        connection.path = path
        connection.execute("SELECT count(*) FROM sqlite_schema")
        connection.execute("PRAGMA query_only=ON")
        return connection
    finally:
        # It lives on in the descriptors.
        for suffix in ("", "-wal", "-shm"):
            try:
                os.unlink(f"{directory}/db{suffix}")
            except FileNotFoundError:
                pass
        os.rmdir(directory)


def keep_reserve(root: str) -> None:
    """Have some bytes that can be given up, and give them up when there are no others. Raises OSError.

    Opening the database does it; who has had it open for a while does it again before something is to be recorded.
    """
    path = f"{root}/reserve"
    status = os.statvfs(root)
    free = status.f_bavail * status.f_frsize
    if free < _RESERVE // 2:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
    elif free > 16 * _RESERVE and not _has_blocks(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            # Whatever it is, the database will meet it too.
            return
        try:
            os.posix_fallocate(descriptor, 0, _RESERVE)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _has_blocks(path: str) -> bool:
    try:
        # Not its size, because a copy of the installation may have nothing but a hole.
        return os.stat(path).st_blocks * 512 >= _RESERVE
    except FileNotFoundError:
        return False


def _explained(error: Exception, path: str) -> HostError:
    """What kept the database from being opened: of what SQLite says in few words, the kernel's reason."""
    if isinstance(error, OSError):
        cause, path = (error.strerror or str(error)).lower(), error.filename or path
    else:
        cause = str(error).lower()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as reason:
            cause = f"{cause}: {(reason.strerror or str(reason)).lower()}"
    return HostError("open the database", path, cause)


def _make_tables(connection: sqlite3.Connection) -> None:
    from pycontainer.engine import containers, events, volumes
    from pycontainer.image import store
    from pycontainer.network import lease

    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise sqlite.DatabaseError(f"written by a newer pycontainer (version {version}, this one knows {_VERSION})")
    connection.execute("PRAGMA journal_mode=WAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Read again inside it: another command may have been faster.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for older in range(version or _VERSION, _VERSION):
            for statement in [*containers.MIGRATIONS.get(older, ()), *lease.MIGRATIONS.get(older, ())]:
                connection.execute(statement)
        for schema in (store.SCHEMA, lease.SCHEMA, containers.SCHEMA, events.SCHEMA, volumes.SCHEMA):
            for statement in schema.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={_VERSION}")
