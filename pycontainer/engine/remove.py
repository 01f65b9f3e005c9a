"""`rm`: a container goes, with its files."""

from __future__ import annotations

import os
import time

from pycontainer.engine import containers, monitors, teardown
from pycontainer.engine.settings import Settings
from pycontainer.engine.stop import KillContainer
from pycontainer.errors import Conflict
from pycontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from pycontainer.kernel.operation import Journal

_PATIENCE = 10.0  # seconds for the monitor of a killed container to put it away


def remove_container(
    settings: Settings,
    connection: sqlite3.Connection,
    name: str,
    journal: Journal,
    *,
    force: bool,
    volumes: bool = False,
) -> None:
    """Remove a container by name or id; one that runs is killed with `force`. Raises NotFound, Conflict, OSError."""
    container = containers.find(connection, name)
    owner = containers.try_lock(settings.state, container.id)
    if owner is None:
        owner = _end(settings, container, journal) if force else _await_end(settings, connection, container)
    try:
        teardown.end_processes(settings, container.id)
        with_volumes = volumes or container.auto_remove
        teardown.remove(settings, connection, container.id, with_volumes=with_volumes, journal=journal)
    finally:
        containers.unlock(settings.state, container.id, owner)


def _await_end(settings: Settings, connection: sqlite3.Connection, container: containers.Container) -> int:
    """The lock of one whose monitor is still busy putting it away: `wait` has returned then. Raises Conflict."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        status = containers.get(connection, container.id).status
        owner = containers.try_lock(settings.state, container.id)
        if owner is not None:
            return owner
        if status != "exited" or time.monotonic() > deadline:
            hint = "end it first, or use rm -f"
            raise Conflict("remove container", container.name, f"it is {status}", hint)
        time.sleep(0.005)


def _end(settings: Settings, container: containers.Container, journal: Journal) -> int:
    """Kill the container; its lock. Raises Conflict."""
    deadline = time.monotonic() + _PATIENCE
    channel = monitors.connect(settings, container.id)
    if channel is not None:
        try:
            channel.settimeout(_PATIENCE)
            journal.perform(KillContainer(settings, container, channel))
        except (Conflict, OSError):
            # It ends already, or does not answer.
            pass
        finally:
            channel.close()
    while True:
        owner = containers.try_lock(settings.state, container.id)
        if owner is not None:
            return owner
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    # A monitor that is stopped, or hangs: what it leaves is put away here.
    pid = containers.owner_pid(settings.state, container.id)
    if pid:
        os.kill(pid, signals.SIGKILL)
    return containers.lock(settings.state, container.id)
