"""`ps` and `rm`."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterable

from pycontainer.engine import containers, repair
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, NotFound, PycontainerError
from pycontainer.kernel import signals
from pycontainer.runtime import launch, state


def list_containers(settings: Settings) -> list[containers.Container]:
    """Every container, newest first, after what was left behind has been repaired. Raises HostError."""
    connection = repair.open_engine(settings)
    try:
        return containers.list_all(connection)
    finally:
        connection.close()


def remove_containers(settings: Settings, names: Iterable[str], *, force: bool, report: Callable[[str], object]) -> int:
    """Remove each by name or id; `report` gets each name that is gone. 0, or 1 when one could not be removed."""
    connection = repair.open_engine(settings)
    status = 0
    try:
        for name in names:
            try:
                container = containers.find(connection, name)
                _remove(settings, connection, container, force)
                report(name)
            except PycontainerError as error:
                # Said and not raised, because the other containers are to be removed all the same.
                sys.stderr.write(f"pycontainer: {error}\n")
                status = 1
    finally:
        connection.close()
    return status


def _remove(settings: Settings, connection: sqlite3.Connection, container: containers.Container, force: bool) -> None:
    owner = containers.try_lock(settings.state, container.id)
    if owner is None:
        if not force:
            raise Conflict("remove container", container.name, "it is running", "end it first, or use rm -f")
        deadline = time.monotonic() + 10
        # Its owner puts it away; what is left then is only the row and the files.
        while (owner := containers.try_lock(settings.state, container.id)) is None:
            try:
                launch.kill(state.load(settings.runtime_root, container.id), signals.SIGKILL)
            except (NotFound, Conflict):
                # Its process is not made yet, or has ended: its owner is at work.
                pass
            if time.monotonic() > deadline:
                raise Conflict("remove container", container.name, "it did not end within 10 seconds")
            time.sleep(0.01)
    try:
        repair.end_processes(settings, container.id)
        repair.remove(settings, connection, container.id)
    finally:
        containers.unlock(settings.state, container.id, owner)
