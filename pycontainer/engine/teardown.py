"""Putting a container away: its processes end, and what it held is returned, whoever did not come to do it.

Each function does what is left to do, and may be called again where it was killed in the middle.
"""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.engine import containers, ports, volume_operations, volumes
from pycontainer.engine.settings import Settings
from pycontainer.engine.wal_index import is_no_space
from pycontainer.image.store import settle
from pycontainer.kernel import cgroup
from pycontainer.kernel.operation import Journal, Operation, word
from pycontainer.kernel.tree import remove_tree
from pycontainer.network import attach
from pycontainer.runtime import launch, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

KILLED = "the pycontainer process that ran it was killed"
LOST = "the machine went down while it ran"
_UNKNOWN = 255  # in place of an exit status that nobody saw


def put_away_dead(settings: Settings, connection: sqlite3.Connection, container_id: str) -> None:
    """End what is left of a container whose lock the caller holds, and record it. Raises OSError."""
    end_processes(settings, container_id)
    # Read again under the lock: its owner may have put it away since the caller looked.
    row = connection.execute("SELECT status, started FROM containers WHERE id=?", (container_id,)).fetchone()
    if row is None:
        settle(connection)
    elif row[0] in containers.OWNED:
        status, error = _last_word(settings, container_id) or _guess(row[1])
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            containers.set_exited(connection, container_id, status, error)
    put_away(settings, connection, container_id)


def put_away(settings: Settings, connection: sqlite3.Connection, container_id: str) -> None:
    """Return what a container held that does not run any more; with --rm it goes itself. Raises OSError."""
    _unlink_runtime_files(settings, container_id)
    ports.release(settings, connection, container_id)
    row = connection.execute("SELECT auto_remove, status FROM containers WHERE id=?", (container_id,)).fetchone()
    if row is None or (row[0] and row[1] != "created"):
        remove(settings, connection, container_id, with_volumes=True)
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        attach.detach(connection, container_id)


def _unlink_runtime_files(settings: Settings, container_id: str) -> None:
    """What a monitor that was killed has left below STATE."""
    for path in (f"{settings.monitors}/{container_id}", _word_path(settings, container_id)):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def leave_word(settings: Settings, container_id: str, exit_status: int, error: str) -> None:
    """Keep for the next command how a container ended, where the database could not take it. Failures are ignored."""
    path = _word_path(settings, container_id)
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with open(path, "w") as file:
            file.write(json_text.dumps([exit_status, error]))
    except OSError:
        pass


def _last_word(settings: Settings, container_id: str) -> tuple[int, str] | None:
    try:
        with open(_word_path(settings, container_id)) as file:
            status, error = json_text.loads(file.read())
        return status, error
    except (OSError, ValueError):
        return None


def _word_path(settings: Settings, container_id: str) -> str:
    return f"{settings.state}/words/{container_id}"


def _guess(started: float | None) -> tuple[int, str]:
    """What is known of the end of a container without an owner: its processes were killed, or the machine went down."""
    with open("/proc/stat") as file:
        booted = next((int(line.split()[1]) for line in file if line.startswith("btime ")), 0)
    return (_UNKNOWN, LOST) if started is not None and started < booted else (137, KILLED)


def end_processes(settings: Settings, container_id: str, journal: Journal | None = None) -> None:
    """Kill what still runs of the container, and remove its cgroup and the runtime's state.

    Raises StepFailed, OSError.
    """
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is not None:
        path = hierarchy.mountpoint + settings.cgroup(container_id)
        launch.remove_cgroup(path, journal)
        cgroup.remove_if_empty(os.path.dirname(path))
    if container_id in state.list_ids(settings.runtime_root):
        launch.delete(state.load(settings.runtime_root, container_id), force=True)


def remove(
    settings: Settings,
    connection: sqlite3.Connection,
    container_id: str,
    *,
    with_volumes: bool = False,
    journal: Journal | None = None,
) -> None:
    """Forget a container that does not run, and free its directory; `with_volumes` also its volumes without a name.

    Raises OSError.
    """
    _unlink_runtime_files(settings, container_id)
    journal = journal or Journal()
    forget = ForgetContainer(settings, connection, container_id, with_volumes)
    remove_files = RemoveContainerFiles(settings.container_directory(container_id))
    try:
        discarded = journal.perform(forget)
    except OSError as error:
        if not is_no_space(error):
            raise
        # The row goes first, because half a container is none; except where only its bytes make room to say so.
        journal.perform(remove_files)
        discarded = journal.perform(forget)
    journal.perform(remove_files)
    for path in discarded:
        journal.perform(volume_operations.DestroyVolume(path))


class ForgetContainer(Operation):
    """Take away a container's rows, its address lease among them; what is to be destroyed of its volumes."""

    group = "files"
    step = "forget container"
    reason = "its rows, its name and its address are free again, all in one transaction"
    bare = True

    def __init__(self, settings: Settings, connection: sqlite3.Connection, container_id: str, volumes: bool) -> None:
        self.path = container_id
        self._settings = settings
        self._connection = connection
        self._with_volumes = volumes

    def shell(self) -> str:
        database = word(f"{self._settings.root}/db.sqlite")
        tables = (("leases", "container_id"), ("containers", "id"))
        return "\n".join(
            f"""sqlite3 {database} "DELETE FROM {table} WHERE {key} = '{self.path}'\"""" for table, key in tables
        )

    def execute(self) -> list[str]:
        connection = self._connection
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            discarded = volumes.release(self._settings, connection, self.path, anonymous=self._with_volumes)
            containers.delete(connection, self.path)
            attach.detach(connection, self.path)
        return discarded


class RemoveContainerFiles(Operation):
    """Remove a container's directory, with all that it has written."""

    group = "files"
    step = "remove the container's files"
    reason = "what it has written is in its upper directory only: the image's layers stay as they are"
    bare = True

    def __init__(self, path: str) -> None:
        self.path = path

    def shell(self) -> str:
        return f"rm --recursive {word(self.path)}"

    def execute(self) -> None:
        remove_tree(self.path)
