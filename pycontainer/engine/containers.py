"""Containers as the database knows them: names, ids, id ranges, status, exit.

A container is owned by the process that runs it, which holds a lock on STATE/containers/ID for as long as it lives.
A container that is not exited and whose lock nobody holds was left behind: see repair.py. The lock is a record lock of
fcntl(2), which belongs to that one process. With flock(2) the container's first process would inherit it and, waiting
for its start, keep the lock of an owner that was killed.
"""

from __future__ import annotations

import fcntl
import os
import time

from pycontainer import json_text
from pycontainer.errors import Conflict, HostError, NotFound
from pycontainer.kernel.namespace import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.engine.config import ContainerConfig

SCHEMA = """
CREATE TABLE IF NOT EXISTS containers (
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
)
"""

RANGE_SIZE = 65536
# Above every range that useradd(8) gives out through /etc/subuid (at most 600,100,000), below 2^31, where the ids of
# some programs become negative, and inside the interval that systemd reserves for containers.
_FIRST_BASE = 1 << 30
_LAST_BASE = 0x6FFF0000 - RANGE_SIZE

_COLUMNS = (
    "id, name, image, image_id, command, labels, status, exit_status, error, id_base, auto_remove, "
    "created, started, finished"
)


class Container:
    """One row. `id_base` 0 means the host's own ids; times are seconds since the epoch."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.id: str = row[0]
        self.name: str = row[1]
        self.image: str = row[2]
        self.image_id: str = row[3]
        self.command: list[str] = json_text.loads(row[4])
        self.labels: dict[str, str] = json_text.loads(row[5])
        self.status: str = row[6]
        self.exit_status: int | None = row[7]
        self.error: str = row[8]
        self.id_base: int = row[9] or 0
        self.created: float = row[11]
        self.started: float | None = row[12]
        self.finished: float | None = row[13]

    @property
    def id_maps(self) -> list[IdMap]:
        """The container's id map; empty where it has the host's ids."""
        return [IdMap(0, self.id_base, RANGE_SIZE)] if self.id_base else []


def lock(state: str, container_id: str) -> int:
    """Take the owner's lock, waiting for whoever only looks at it; the descriptor that holds it. Raises OSError."""
    while True:
        descriptor = _open_lock(state, container_id)
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        if _is_current(state, container_id, descriptor):
            return descriptor
        os.close(descriptor)


def try_lock(state: str, container_id: str) -> int | None:
    """The lock of a container that nobody owns; None where its owner lives. Raises OSError.

    To be called by other processes than the owner only: a record lock is gone when its process closes the file.
    """
    descriptor = _open_lock(state, container_id)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_current(state, container_id, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _open_lock(state: str, container_id: str) -> int:
    path = f"{state}/containers/{container_id}"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _is_current(state: str, container_id: str, descriptor: int) -> bool:
    """Whether the locked file is still the one at its path: an owner that ends removes it."""
    try:
        return os.path.samestat(os.stat(f"{state}/containers/{container_id}"), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def unlock(state: str, container_id: str, descriptor: int) -> None:
    """Give up ownership: the file goes first, so that its existence without a lock means a dead owner."""
    try:
        os.unlink(f"{state}/containers/{container_id}")
    except FileNotFoundError:
        pass
    os.close(descriptor)


def locked_ids(state: str) -> list[str]:
    """Ids whose owner is alive or died without a word."""
    try:
        return os.listdir(f"{state}/containers")
    except FileNotFoundError:
        return []


def insert(
    connection: sqlite3.Connection, container_id: str, config: ContainerConfig, image_id: str, command: list[str]
) -> Container:
    """Record a new container and give it a name and an id range. Inside the caller's transaction. Raises Conflict."""
    base = _free_base(connection) if config.user_namespace else None
    name = config.name or _free_name(connection)
    values = (
        container_id,
        name,
        config.image,
        image_id,
        json_text.dumps(command),
        json_text.dumps(config.labels),
        "created",
        None,
        "",
        base,
        int(config.remove),
        time.time(),
        None,
        None,
    )
    try:
        connection.execute(f"INSERT INTO containers ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", values)
    except connection.IntegrityError:
        holder = connection.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
        if holder is None:
            raise
        cause = f"the name is taken by container {holder[0][:12]}"
        hint = f"choose another name, or remove that container: pycontainer rm {name}"
        raise Conflict("create container", name, cause, hint) from None
    return Container(values)


def set_running(connection: sqlite3.Connection, container_id: str) -> None:
    """The program is about to be started."""
    connection.execute("UPDATE containers SET status='running', started=? WHERE id=?", (time.time(), container_id))


def set_exited(connection: sqlite3.Connection, container_id: str, exit_status: int, error: str = "") -> None:
    """The program has ended, or never started and `error` says why."""
    connection.execute(
        "UPDATE containers SET status='exited', exit_status=?, error=?, finished=? WHERE id=?",
        # An error may name a file in bytes that are no UTF-8, which SQLite's text cannot hold.
        (exit_status, error.encode(errors="backslashreplace").decode(), time.time(), container_id),
    )


def delete(connection: sqlite3.Connection, container_id: str) -> None:
    """Forget the container."""
    connection.execute("DELETE FROM containers WHERE id=?", (container_id,))


def list_all(connection: sqlite3.Connection) -> list[Container]:
    """Every container, newest first."""
    return [Container(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM containers ORDER BY created DESC")]


def find(connection: sqlite3.Connection, name_or_id: str) -> Container:
    """By name, id or unique prefix of an id. Raises NotFound, Conflict."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM containers WHERE name = ?1 OR (length(?1) > 0 AND substr(id, 1, length(?1)) = ?1)",
        (name_or_id,),
    ).fetchall()
    exact = [row for row in rows if name_or_id in (row[0], row[1])]
    rows = exact or rows
    if not rows:
        raise NotFound("find container", name_or_id, "no such container", "pycontainer ps -a lists them")
    if len(rows) > 1:
        raise Conflict("find container", name_or_id, f"{len(rows)} containers have an id that begins so")
    return Container(rows[0])


def using_image(connection: sqlite3.Connection, image_id: str) -> list[str]:
    """The names of the containers that are made from an image."""
    return [row[0] for row in connection.execute("SELECT name FROM containers WHERE image_id = ?", (image_id,))]


def _free_base(connection: sqlite3.Connection) -> int:
    taken = {row[0] for row in connection.execute("SELECT id_base FROM containers WHERE id_base IS NOT NULL")}
    for base in range(_FIRST_BASE, _LAST_BASE, RANGE_SIZE):
        if base not in taken:
            return base
    raise HostError("create container", "", "every id range is taken", "remove containers that you no longer need")


def _free_name(connection: sqlite3.Connection) -> str:
    """Two words that no container has yet, so that people can say and type it."""
    taken = {row[0] for row in connection.execute("SELECT name FROM containers")}
    while True:
        first, second, *rest = os.urandom(4)
        name = f"{_FIRST[first % len(_FIRST)]}_{_SECOND[second % len(_SECOND)]}"
        if len(taken) > 200:
            name += f"_{rest[0] << 8 | rest[1]}"
        if name not in taken:
            return name


_FIRST = """
amber brisk calm clever cosy crisp daring eager fair fleet fond gentle glad golden grand happy honest humble jolly keen
kind lively loyal lucky mellow merry modest neat nimble noble patient plucky polite proud quick quiet rapid ready
sharp silent smart snug spry steady sunny swift tidy vivid warm wise witty zesty
""".split()
_SECOND = """
auk badger bittern bunting crane curlew dabchick dipper dunlin egret falcon finch gannet godwit grebe harrier heron
hobby hoopoe ibis jackdaw kestrel kite knot lapwing linnet magpie martin merlin nuthatch oriole osprey otter owl petrel
pipit plover puffin quail raven redstart robin ruff shrike siskin skua snipe starling stoat stork swallow swift teal
tern thrush wagtail warbler wigeon wren
""".split()
