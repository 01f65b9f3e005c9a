"""`rm`: a container goes, with its files."""

from __future__ import annotations

import time

from pycontainer.engine import containers, repair
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, NotFound
from pycontainer.kernel import signals
from pycontainer.runtime import launch, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

_PATIENCE = 10  # seconds for the owner of a killed container to put it away


def remove_container(settings: Settings, connection: sqlite3.Connection, name: str, *, force: bool) -> None:
    """Remove a container by name or id; one that runs is killed with `force`. Raises NotFound, Conflict, OSError."""
    container = containers.find(connection, name)
    owner = containers.try_lock(settings.state, container.id)
    if owner is None and not force:
        raise Conflict("remove container", container.name, "it is running", "end it first, or use rm -f")
    deadline = time.monotonic() + _PATIENCE
    while owner is None:
        try:
            launch.kill(state.load(settings.runtime_root, container.id), signals.SIGKILL)
        except (NotFound, Conflict):
            # Its process is not made yet, or has ended: its owner is at work, and puts it away.
            pass
        if time.monotonic() > deadline:
            hint = "is the pycontainer process that runs it stopped? kill that one"
            raise Conflict("remove container", container.name, f"it did not end within {_PATIENCE} seconds", hint)
        time.sleep(0.01)
        owner = containers.try_lock(settings.state, container.id)
    try:
        repair.end_processes(settings, container.id)
        repair.remove(settings, connection, container.id)
    finally:
        containers.unlock(settings.state, container.id, owner)
