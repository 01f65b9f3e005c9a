"""What every command does first: return what a killed command left behind.

A container that nobody owns any more (see containers.py) is ended and put away as its owner would have done it. Killed
in the middle of this, the next command finds the rest: the lock file goes last.
"""

from __future__ import annotations

import os

from pycontainer.engine import containers, name_server_lock, volume_data
from pycontainer.engine.database import open_database
from pycontainer.engine.settings import Settings
from pycontainer.errors import PycontainerError
from pycontainer.image.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable


def open_engine(settings: Settings, notify: Callable[[str], None]) -> sqlite3.Connection:
    """The database, after what was left behind has been repaired: what every command begins with. Raises HostError."""
    connection = open_database(settings.root)
    repair(settings, connection, notify)
    return connection


def repair(settings: Settings, connection: sqlite3.Connection, notify: Callable[[str], None]) -> None:
    """Put away every container without an owner, and what interrupted loads left in the image store.

    `notify` gets a line for each that cannot be put away. Raises OSError.
    """
    rows = dict(connection.execute("SELECT id, status FROM containers"))
    suspects = {container_id for container_id, status in rows.items() if status in containers.OWNED}
    suspects.update(containers.locked_ids(settings.state))
    states = _names(settings.runtime_root)
    if any(name.startswith(".") for name in states):
        from pycontainer.runtime import state

        state.clear_unfinished(settings.runtime_root)
    suspects.update(
        name for name in states if not name.startswith(".") and os.path.isdir(f"{settings.runtime_root}/{name}")
    )
    suspects.update(name for name in _names(f"{settings.root}/containers") if name not in rows)
    for container_id in suspects:
        try:
            owner = containers.try_lock(settings.state, container_id)
        except OSError as error:
            notify(f"repair container {container_id[:12]}: {_cause(error)}")
            continue
        if owner is not None:
            # Only now, because mostly there is nothing to do, and it is half of the engine.
            from pycontainer.engine.teardown import put_away_dead

            try:
                put_away_dead(settings, connection, container_id)
            except BaseException as error:
                # The lock's file stays: it is what tells the next command that there is something left.
                os.close(owner)
                if not isinstance(error, (OSError, PycontainerError)):
                    raise
                # Said and not raised, because one container that cannot be put away must not stop every command.
                notify(f"repair container {container_id[:12]}: {_cause(error)}")
                continue
            containers.unlock(settings.state, container_id, owner)
    Store(settings.root, connection).clear_leftovers()
    _clear_volumes(settings, connection, notify)
    _repair_name_servers(settings, connection, notify)


def _repair_name_servers(settings: Settings, connection: sqlite3.Connection, notify: Callable[[str], None]) -> None:
    """Start one for each network that is used and has none, because somebody has killed both of its processes."""
    rows = connection.execute(
        "SELECT DISTINCT id, gateway, name FROM networks JOIN leases ON network = name WHERE id != ''"
    ).fetchall()
    for network_id, gateway, name in rows:
        if not name_server_lock.is_held(settings.state, network_id):
            from pycontainer.engine import name_server
            from pycontainer.kernel.operation import Journal

            try:
                name_server.ensure(settings, Journal(), network_id, gateway, name)
            except (OSError, PycontainerError) as error:
                notify(f"repair network {name}: {_cause(error)}")


def _cause(error: OSError | PycontainerError) -> str:
    if isinstance(error, PycontainerError):
        return error.message
    return f"{error.filename}: {(error.strerror or str(error)).lower()}" if error.filename else str(error).lower()


def _clear_volumes(settings: Settings, connection: sqlite3.Connection, notify: Callable[[str], None]) -> None:
    found = volume_data.names(settings.root)
    if found and not {row[0] for row in connection.execute("SELECT name FROM volumes")}.issuperset(found):
        from pycontainer.engine import volumes

        volumes.clear_leftovers(settings, connection, notify)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
