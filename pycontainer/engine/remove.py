"""`rm`: a container goes, with its files."""

from __future__ import annotations

import os
import time

from pycontainer.engine import containers, monitors, teardown
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict
from pycontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

_PATIENCE = 10.0  # seconds for the monitor of a killed container to put it away


def remove_container(
    settings: Settings, connection: sqlite3.Connection, name: str, *, force: bool, volumes: bool = False
) -> None:
    """Remove a container by name or id; one that runs is killed with `force`. Raises NotFound, Conflict, OSError."""
    container = containers.find(connection, name)
    owner = containers.try_lock(settings.state, container.id)
    if owner is None:
        if not force:
            hint = "end it first, or use rm -f"
            raise Conflict("remove container", container.name, f"it is {container.status}", hint)
        owner = _end(settings, container)
    try:
        teardown.end_processes(settings, container.id)
        teardown.remove(settings, connection, container.id, with_volumes=volumes or container.auto_remove)
    finally:
        containers.unlock(settings.state, container.id, owner)


def _end(settings: Settings, container: containers.Container) -> int:
    """Kill the container; its lock. Raises Conflict."""
    deadline = time.monotonic() + _PATIENCE
    channel = monitors.connect(settings, container.id)
    if channel is not None:
        try:
            channel.settimeout(_PATIENCE)
            monitors.ask(channel, {"do": "kill", "number": signals.SIGKILL})
            monitors.wait_for_end(channel)
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
