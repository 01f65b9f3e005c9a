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
from pycontainer.engine import events, names
from pycontainer.errors import Conflict, HostError, NotFound
from pycontainer.kernel import descriptors
from pycontainer.kernel.id_map import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.settings import Settings

SCHEMA = """
CREATE TABLE IF NOT EXISTS containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,          -- as the user wrote it
    image_id TEXT NOT NULL,
    command TEXT NOT NULL,        -- JSON array
    labels TEXT NOT NULL,         -- JSON object
    status TEXT NOT NULL,         -- created, starting, running, paused, restarting, exited
    exit_status INTEGER,          -- NULL until it has exited
    error TEXT NOT NULL,          -- why it did not start, or what ended it if not the program
    id_base INTEGER UNIQUE,       -- first host id of its range, NULL for the host's ids
    auto_remove INTEGER NOT NULL,
    created REAL NOT NULL,        -- seconds since the epoch, as the next two
    started REAL,
    finished REAL,
    config TEXT NOT NULL DEFAULT '',          -- what was asked for: ContainerConfig.to_json
    pid INTEGER NOT NULL DEFAULT 0,           -- of the first process while it runs, on the host
    restart_count INTEGER NOT NULL DEFAULT 0, -- how often the restart policy has started it since a user did
    stopped INTEGER NOT NULL DEFAULT 0,       -- 1 when a user ended it: then no restart policy starts it again
    health TEXT NOT NULL DEFAULT '',          -- JSON object, Docker's State.Health, empty without a health check
    ports TEXT NOT NULL DEFAULT ''            -- JSON array: what is published while it runs
)
"""
# Of a database that an older version has made. What is new in the next one and a table of its own, its SCHEMA makes.
MIGRATIONS = {
    1: [
        f"ALTER TABLE containers ADD COLUMN {column}"
        for column in (
            "config TEXT NOT NULL DEFAULT ''",
            "pid INTEGER NOT NULL DEFAULT 0",
            "restart_count INTEGER NOT NULL DEFAULT 0",
            "stopped INTEGER NOT NULL DEFAULT 0",
            "health TEXT NOT NULL DEFAULT ''",
            "ports TEXT NOT NULL DEFAULT ''",
        )
    ],
    2: [],  # the store's verifications
}

# A container in one of these is owned by a process; where nobody holds its lock, its owner was killed.
OWNED = ("starting", "running", "paused", "restarting")

RANGE_SIZE = 65536
# Above every range that useradd(8) gives out through /etc/subuid (at most 600,100,000), below 2^31, where the ids of
# some programs become negative, and inside the interval that systemd reserves for containers.
_FIRST_BASE = 1 << 30
_LAST_BASE = 0x6FFF0000 - RANGE_SIZE

_COLUMNS = (
    "id, name, image, image_id, command, labels, status, exit_status, error, id_base, auto_remove, "
    "created, started, finished, config, pid, restart_count, stopped, health, ports"
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
        self.auto_remove = bool(row[10])
        self.created: float = row[11]
        self.started: float | None = row[12]
        self.finished: float | None = row[13]
        self._config: str = row[14]
        self._read_config: ContainerConfig | None = None
        self.pid: int = row[15]
        self.restart_count: int = row[16]
        self.stopped = bool(row[17])
        self.health: dict[str, Any] = json_text.loads(row[18]) if row[18] else {}
        self.ports: list[Any] = json_text.loads(row[19]) if row[19] else []

    @property
    def config(self) -> ContainerConfig:
        """What was asked for. Raises Conflict for a container of an older pycontainer's, which did not keep it."""
        if self._read_config is None:
            from pycontainer.engine.config.container import ContainerConfig

            # Kept, because a start asks for it six times.
            self._read_config = ContainerConfig.from_json(self._stored_config())
        return self._read_config

    @property
    def values(self) -> dict[str, Any]:
        """The options as they were given, for who wants one or two of them. Raises as `config`."""
        values: dict[str, Any] = json_text.loads(self._stored_config())["values"]
        return values

    def _stored_config(self) -> str:
        if not self._config:
            cause = "an older pycontainer made it and did not record its options"
            raise Conflict("read container", self.name, cause, "commit its files to an image, and run that")
        return self._config

    @property
    def shown_status(self) -> str:
        """Docker's word for the status."""
        return "created" if self.status == "starting" else self.status

    def cgroup(self, settings: Settings) -> str:
        """Its cgroup, from the hierarchy's root."""
        # One of an older pycontainer's, which did not keep what was asked for, could not be asked to be elsewhere.
        return settings.cgroup(self.id, self.config.resources.cgroup_parent if self._config else "")

    @property
    def is_active(self) -> bool:
        """Whether it has processes: running or paused."""
        return self.status in ("running", "paused")

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


def owner_pid(state: str, container_id: str) -> int:
    """The process that owns the container, 0 where none does: fcntl(2), F_GETLK. Raises OSError."""
    return descriptors.lock_holder(f"{state}/containers/{container_id}")


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
    connection: sqlite3.Connection,
    container_id: str,
    config: ContainerConfig,
    image_id: str,
    command: list[str],
    status: str,
) -> Container:
    """Record a new container and give it a name and an id range. Inside the caller's transaction. Raises Conflict."""
    base = _free_base(connection) if config.security.user_namespace else None
    name = config.name or names.choose(connection)
    values = {
        "id": container_id,
        "name": name,
        "image": config.image,
        "image_id": image_id,
        "command": json_text.dumps(command),
        "labels": json_text.dumps(config.labels),
        "status": status,
        "error": "",
        "id_base": base,
        "auto_remove": int(config.remove),
        "created": time.time(),
        "config": config.to_json(),
    }
    try:
        connection.execute(
            f"INSERT INTO containers ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", (*values.values(),)
        )
    except connection.IntegrityError:
        holder = connection.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
        if holder is None:
            raise
        raise _name_taken("create container", name, holder[0]) from None
    return _changed(connection, container_id, "create")


def _name_taken(step: str, name: str, holder: str) -> Conflict:
    cause = f"the name is taken by container {holder[:12]}"
    return Conflict(step, name, cause, f"choose another name, or remove that container: pycontainer rm {name}")


def _changed(connection: sqlite3.Connection, container_id: str, action: str, **more: str) -> Container:
    """The container as it is now, after an event says what happened to it."""
    container = get(connection, container_id)
    attributes = {**container.labels, "image": container.image, "name": container.name, **more}
    events.record(connection, "container", action, container_id, attributes)
    return container


def note(connection: sqlite3.Connection, container_id: str, action: str, **more: str) -> None:
    """Add an event of a container whose row does not change. Inside the caller's transaction."""
    _changed(connection, container_id, action, **more)


def _note_volumes(connection: sqlite3.Connection, container_id: str, action: str) -> None:
    """Add the events of the volumes of a container that has a process: `mount`, or `unmount` when it has ended."""
    rows = connection.execute(
        "SELECT mount FROM mounts JOIN containers ON id = container_id"
        " WHERE container_id=? AND pid<>0 AND volume IS NOT NULL",
        (container_id,),
    )
    for (text,) in rows:
        # Here, because nobody who only looks at containers needs that module.
        from pycontainer.engine.mounts import Mount

        mount = Mount(**json_text.loads(text))
        attributes = {"container": container_id, "driver": "local"}
        if action == "mount":
            access = {"read/write": "false" if mount.read_only else "true"}
            attributes |= {"destination": mount.target, "propagation": "", **access}
        events.record(connection, "volume", action, mount.source, attributes)


def set_created(connection: sqlite3.Connection, container_id: str) -> None:
    """Its files are made; it may be started."""
    connection.execute("UPDATE containers SET status='created' WHERE id=?", (container_id,))


def set_starting(connection: sqlite3.Connection, container_id: str) -> None:
    """A user starts it, and what the last run left in the row is over. By the owner."""
    connection.execute(
        "UPDATE containers SET status='starting', stopped=0, restart_count=0, health='', error='' WHERE id=?",
        (container_id,),
    )


def set_running(connection: sqlite3.Connection, container_id: str, pid: int) -> None:
    """The program has been started; its first process is `pid` on the host. Inside the caller's transaction."""
    connection.execute(
        "UPDATE containers SET status='running', started=?, pid=?, exit_status=NULL, error='' WHERE id=?",
        (time.time(), pid, container_id),
    )
    _changed(connection, container_id, "start")
    _note_volumes(connection, container_id, "mount")


def set_paused(connection: sqlite3.Connection, container_id: str, paused: bool) -> None:
    """Its processes are frozen, or go on. Inside the caller's transaction."""
    connection.execute("UPDATE containers SET status=? WHERE id=?", ("paused" if paused else "running", container_id))
    _changed(connection, container_id, "pause" if paused else "unpause")


def set_stopped(connection: sqlite3.Connection, container_id: str) -> None:
    """A user ends it, so that no restart policy starts it again."""
    connection.execute("UPDATE containers SET stopped=1 WHERE id=?", (container_id,))


def set_restarting(connection: sqlite3.Connection, container_id: str, exit_status: int) -> None:
    """The program has ended, and the restart policy will start it again. Inside the caller's transaction."""
    _note_volumes(connection, container_id, "unmount")
    connection.execute(
        "UPDATE containers SET status='restarting', exit_status=?, pid=0, finished=?, restart_count=restart_count+1 "
        "WHERE id=?",
        (exit_status, time.time(), container_id),
    )
    _changed(connection, container_id, "die", exitCode=str(exit_status))


def set_exited(connection: sqlite3.Connection, container_id: str, exit_status: int, error: str = "") -> None:
    """The program has ended, or never started and `error` says why. Inside the caller's transaction."""
    _note_volumes(connection, container_id, "unmount")
    connection.execute(
        "UPDATE containers SET status='exited', exit_status=?, error=?, pid=0, finished=? WHERE id=?",
        # An error may name a file in bytes that are no UTF-8, which SQLite's text cannot hold.
        (exit_status, error.encode(errors="backslashreplace").decode(), time.time(), container_id),
    )
    _changed(connection, container_id, "die", exitCode=str(exit_status))


def set_health(connection: sqlite3.Connection, container_id: str, health: dict[str, Any], *, changed: bool) -> None:
    """The result of a health check; `changed` when the status is another one. Inside the caller's transaction."""
    connection.execute("UPDATE containers SET health=? WHERE id=?", (json_text.dumps(health), container_id))
    if changed:
        _changed(connection, container_id, f"health_status: {health['Status']}")


def set_ports(connection: sqlite3.Connection, container_id: str, ports: list[Any]) -> None:
    """What is published while it runs."""
    connection.execute("UPDATE containers SET ports=? WHERE id=?", (json_text.dumps(ports), container_id))


def rename(connection: sqlite3.Connection, container: Container, name: str) -> None:
    """Give it another name. Inside the caller's transaction. Raises Conflict."""
    try:
        connection.execute("UPDATE containers SET name=? WHERE id=?", (name, container.id))
    except connection.IntegrityError:
        (holder,) = connection.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
        raise _name_taken("rename container", name, holder) from None
    _changed(connection, container.id, "rename", oldName=container.name)


def set_config(connection: sqlite3.Connection, container_id: str, config: ContainerConfig) -> None:
    """Replace what was asked for. Inside the caller's transaction."""
    connection.execute("UPDATE containers SET config=? WHERE id=?", (config.to_json(), container_id))
    _changed(connection, container_id, "update")


def delete(connection: sqlite3.Connection, container_id: str) -> None:
    """Forget the container; no failure where that has happened. Inside the caller's transaction."""
    try:
        _changed(connection, container_id, "destroy")
    except NotFound:
        return
    connection.execute("DELETE FROM containers WHERE id=?", (container_id,))


def get(connection: sqlite3.Connection, container_id: str) -> Container:
    """By its whole id. Raises NotFound."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM containers WHERE id = ?", (container_id,)).fetchone()
    if row is None:
        raise NotFound("find container", container_id[:12], "it was removed")
    return Container(row)


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
