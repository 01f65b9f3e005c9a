"""Volumes: what keeps data longer than a container, and what each container has mounted.

A container's mounts are recorded in the transaction that makes the container, and its volumes with them. While such a
record exists, running or not, the volume cannot be removed: both are decided in write transactions, so that of a
`volume rm` and a `create` at the same time one comes first.
"""

from __future__ import annotations

import os
import time

from pycontainer import json_text
from pycontainer.engine import containers, events, volume_data
from pycontainer.engine.mounts import Mount, anonymous_volume, mount_point, volume_name
from pycontainer.errors import Conflict, ImageError, NotFound, UsageError
from pycontainer.image.store import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.operation import Journal

    Json = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS volumes (
    name TEXT PRIMARY KEY,
    labels TEXT NOT NULL,         -- JSON object
    created REAL NOT NULL         -- seconds since the epoch
);
CREATE TABLE IF NOT EXISTS mounts (
    container_id TEXT NOT NULL,
    volume TEXT,                  -- its name, NULL where it is a path of the host's
    fresh INTEGER NOT NULL,       -- 1 until the container was first started
    mount TEXT NOT NULL           -- JSON object: Mount.to_json
);
CREATE INDEX IF NOT EXISTS mounts_by_container ON mounts (container_id);
CREATE INDEX IF NOT EXISTS mounts_by_volume ON mounts (volume)
"""

DRIVER = "local"
# Docker's mark of a volume that was given no name.
ANONYMOUS = "com.docker.volume.anonymous"


class Volume:
    """One row; `created` in seconds since the epoch."""

    __slots__ = ("created", "labels", "name")

    def __init__(self, row: tuple[str, str, float]) -> None:
        self.name = row[0]
        self.labels: dict[str, str] = json_text.loads(row[1])
        self.created = row[2]

    @property
    def anonymous(self) -> bool:
        """Whether nobody gave it a name, so that `volume prune` takes it."""
        return ANONYMOUS in self.labels


def list_all(connection: sqlite3.Connection) -> list[Volume]:
    """Every volume, by name."""
    return [Volume(row) for row in connection.execute("SELECT name, labels, created FROM volumes ORDER BY name")]


def find(connection: sqlite3.Connection, name: str) -> Volume:
    """By its whole name. Raises NotFound."""
    row = connection.execute("SELECT name, labels, created FROM volumes WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound("find volume", name, "no such volume", "pycontainer volume ls lists them")
    return Volume(row)


def users(connection: sqlite3.Connection, name: str) -> list[str]:
    """The names of the containers that have the volume mounted, or would have it if they ran."""
    rows = connection.execute(
        "SELECT DISTINCT containers.name FROM mounts JOIN containers ON containers.id = container_id "
        "WHERE volume = ? ORDER BY containers.name",
        (name,),
    )
    return [row[0] for row in rows]


def size(settings: Settings, name: str) -> int:
    """Bytes of the volume's files. Raises OSError."""
    from pycontainer.engine import usage

    return usage.tree_size(volume_data.data(settings.root, name))


def describe(settings: Settings, volume: Volume) -> Json:
    """The volume as `docker volume inspect` shows it."""
    from pycontainer.monitor.clock import rfc3339

    return {
        "CreatedAt": rfc3339(volume.created),
        "Driver": DRIVER,
        "Labels": volume.labels or None,
        "Mountpoint": volume_data.data(settings.root, volume.name),
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


def named(name: str, labels: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The name and labels of a volume; without a name it is an anonymous one."""
    return (name, labels) if name else (os.urandom(32).hex(), {**labels, ANONYMOUS: ""})


def ensure(settings: Settings, connection: sqlite3.Connection, name: str, labels: dict[str, str]) -> str:
    """Make a volume inside the caller's transaction; its name. One that exists stays as it is. Raises OSError."""
    if connection.execute("SELECT 1 FROM volumes WHERE name = ?", (name,)).fetchone():
        return name
    volume_data.make(settings.root, name)
    connection.execute("INSERT INTO volumes VALUES (?, ?, ?)", (name, json_text.dumps(labels), time.time()))
    events.record(connection, "volume", "create", name, {"driver": DRIVER})
    return name


def forget_unused(settings: Settings, connection: sqlite3.Connection, name: str) -> str:
    """As `_forget`, of a volume that no container has. Raises NotFound, Conflict, OSError."""
    find(connection, name)
    names = users(connection, name)
    if names:
        hint = f"remove the container first: pycontainer rm {names[0]}"
        raise Conflict("remove volume", name, f"it is used by container {', '.join(names)}", hint)
    return _forget(settings, connection, name)


def _forget(settings: Settings, connection: sqlite3.Connection, name: str) -> str:
    """Take away the row and the directory, inside the caller's transaction; what volume_data.destroy gets after it."""
    connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
    events.record(connection, "volume", "destroy", name, {"driver": DRIVER})
    return volume_data.discard(settings.root, name)


def check_sources(config: ContainerConfig) -> None:
    """Raise UsageError where --mount names a path that does not exist: -v makes it, --mount does not, as docker's."""
    for mount in config.mounts.asked:
        if mount.kind == "bind" and not mount.make and not os.path.exists(mount.source):
            raise UsageError("--mount", mount.source, "the source does not exist", "make it, or use -v, which does")


def attach(
    settings: Settings, connection: sqlite3.Connection, container_id: str, config: ContainerConfig, image: Json
) -> None:
    """Record what a new container has mounted, and make the volumes that are missing. Inside the caller's transaction.

    image  the OCI image's `config` object

    Raises NotFound, Conflict, ImageError, OSError.
    """
    found: dict[str, Mount] = {}
    for name, read_only in config.mounts.volumes_from:
        for mount in of(connection, containers.find(connection, name).id):
            options = [*mount.options, "rro", "ro"] if read_only and not mount.read_only else mount.options
            found[mount.target] = mount.changed(options=options, copy=False)
    found.update((mount.target, mount) for mount in config.mounts.asked if not mount.anonymous)
    found.update((mount.target, mount) for mount in config.mounts.tmpfs)
    for mount in [mount for mount in config.mounts.asked if mount.anonymous] + _of_image(image):
        found.setdefault(mount.target, mount)
    for mount in found.values():
        if mount.kind == "volume":
            mount = mount.changed(source=ensure(settings, connection, *named(mount.source, {})))
        elif mount.kind == "tmpfs":
            # It holds nothing that others could use, and is in the container's own options.
            continue
        connection.execute(
            "INSERT INTO mounts VALUES (?, ?, 1, ?)",
            (container_id, mount.source if mount.kind == "volume" else None, json_text.dumps(mount.to_json())),
        )


def _of_image(image: Json) -> list[Mount]:
    """The anonymous volumes that an image asks for. Raises ImageError."""
    found = []
    for path in image.get("Volumes") or {}:
        # An image may name it relative to the root.
        target = mount_point("/" + path.lstrip("/"))
        if not target:
            raise ImageError("read image", "config.Volumes", f"nothing can be mounted on {path!r}")
        found.append(anonymous_volume(target))
    return found


def of(connection: sqlite3.Connection, container_id: str) -> list[Mount]:
    """What of the host's and which volumes a container has mounted, or would have if it ran."""
    rows = connection.execute("SELECT mount FROM mounts WHERE container_id = ? ORDER BY rowid", (container_id,))
    return [Mount(**json_text.loads(row[0])) for row in rows]


def release(settings: Settings, connection: sqlite3.Connection, container_id: str, *, anonymous: bool) -> list[str]:
    """Forget a container's mounts, and with `anonymous` its volumes without a name that nobody else has.

    Inside the transaction that forgets the container; after it, volume_data.destroy gets what is returned. Raises
    OSError.
    """
    removed = [mount.source for mount in of(connection, container_id) if mount.anonymous] if anonymous else []
    connection.execute("DELETE FROM mounts WHERE container_id = ?", (container_id,))
    return [
        _forget(settings, connection, name)
        for name in removed
        if not connection.execute("SELECT 1 FROM mounts WHERE volume = ?", (name,)).fetchone()
    ]


def prepare(
    settings: Settings,
    connection: sqlite3.Connection,
    container_id: str,
    config: ContainerConfig,
    layers: list[str],
    journal: Journal,
) -> list[Mount]:
    """All mounts of a container that is being started, volumes as the directories that they are: what bundle.py wants.

    Called in a mount namespace of this process. A missing source is made, an empty volume is filled, at the container's
    first start. Raises StepFailed, OSError.
    """
    found, fresh = [], False
    for name, fresh, text in connection.execute(
        "SELECT volume, fresh, mount FROM mounts WHERE container_id = ? ORDER BY rowid", (container_id,)
    ).fetchall():
        mount = Mount(**json_text.loads(text))
        if name is not None:
            # For one that somebody has removed by hand: it is empty then, as a new one.
            volume_data.make(settings.root, name)
            # Here, because who only looks at volumes mounts nothing.
            from pycontainer.engine import copy_up

            copy = None
            if fresh and mount.copy:
                copy = copy_up.CopyUp(settings.root, name, mount.target, layers, settings.mount_point())
            copy_up.prepare(journal, settings.root, name, copy)
            mount = mount.changed(source=volume_data.data(settings.root, name))
        elif mount.make and not os.path.exists(mount.source):
            os.makedirs(mount.source, mode=0o755, exist_ok=True)
        found.append(mount)
    if fresh:
        connection.execute("UPDATE mounts SET fresh = 0 WHERE container_id = ?", (container_id,))
    return found + [mount for mount in config.mounts.asked + config.mounts.tmpfs if mount.kind == "tmpfs"]


def clear_leftovers(settings: Settings, connection: sqlite3.Connection, say: Callable[[str], None]) -> None:
    """Make the directories what the database says, after commands that were killed. Raises OSError.

    `say` gets a line for each that cannot be removed.
    """
    names = volume_data.names(settings.root)
    if not names:
        return
    known = _names(connection)
    if known.issuperset(names):
        return
    settle(connection)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Again, because another command may have been in the middle of making or removing one.
        known = _names(connection)
        found = [name for name in volume_data.names(settings.root) if name not in known]
        discarded = volume_data.restore(settings.root, found, known, lambda name: _adopt(connection, name))
    for path in discarded:
        try:
            volume_data.destroy(path)
        except OSError as error:
            say(f"remove volume: {error.filename or path}: {(error.strerror or str(error)).lower()}")


def _names(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM volumes")}


def _adopt(connection: sqlite3.Connection, name: str) -> None:
    try:
        volume_name("volume", name)
    except UsageError:
        # No volume of ours was ever called so.
        return
    labels = {ANONYMOUS: ""} if len(name) == 64 and not name.strip("0123456789abcdef") else {}
    connection.execute("INSERT INTO volumes VALUES (?, ?, ?)", (name, json_text.dumps(labels), time.time()))


def mounts(settings: Settings, connection: sqlite3.Connection, container: Container) -> list[Json]:
    """`Mounts` as `docker inspect` shows it: not what --tmpfs asks for, but what --mount does."""
    every = of(connection, container.id) + [mount for mount in container.config.mounts.asked if mount.kind == "tmpfs"]
    return [_describe_mount(settings, mount) for mount in every]


def _describe_mount(settings: Settings, mount: Mount) -> Json:
    found: Json = {"Type": mount.kind}
    if mount.kind == "volume":
        found |= {"Name": mount.source, "Source": volume_data.data(settings.root, mount.source)}
    else:
        found |= {"Source": mount.source}
    found["Destination"] = mount.target
    if mount.kind == "volume":
        found["Driver"] = DRIVER
    propagation = mount.options[1] if mount.kind == "bind" else ""
    return found | {"Mode": mount.mode, "RW": not mount.read_only, "Propagation": propagation}
