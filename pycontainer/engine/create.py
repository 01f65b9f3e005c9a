"""`create`: a container's row, its ids and its directories. Nothing of it runs."""

from __future__ import annotations

import os

from pycontainer.engine import bundle, containers, networks, teardown, volumes
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.settings import Settings
from pycontainer.errors import ImageNotFound, UsageError
from pycontainer.image import overlay, policy
from pycontainer.image.store import Store
from pycontainer.kernel.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3


_ABSENT_HINT = (
    "load it with `pycontainer load -i FILE`, make one with `pycontainer import FILE NAME`, "
    "or use one of `pycontainer images`"
)


def create(settings: Settings, connection: sqlite3.Connection, config: ContainerConfig) -> containers.Container:
    """Make a container that can be started, owned by nobody. Raises PycontainerError, OSError; then nothing is left."""
    container_id = new_id()
    owner = containers.lock(settings.state, container_id)
    with Undo() as undo:
        undo.push(containers.unlock, settings.state, container_id, owner)
        container = make(settings, connection, config, container_id)
        containers.set_created(connection, container_id)
    return container


def new_id() -> str:
    """64 hexadecimal digits that nobody else has."""
    return os.urandom(32).hex()


def make(
    settings: Settings, connection: sqlite3.Connection, config: ContainerConfig, container_id: str
) -> containers.Container:
    """The container's row, with the status `starting`, and its directories; the caller holds its lock.

    Raises PycontainerError, OSError; then nothing is left.
    """
    store = Store(settings.root, connection)
    try:
        image = store.resolve(config.image)
    except ImageNotFound as error:
        raise ImageNotFound(error.step, error.path, error.cause, _ABSENT_HINT) from None
    policy.check(store, image, config.image)
    command = bundle.command_line(config, image.config.get("config") or {})
    _check_cidfile(config.cidfile)
    volumes.check_sources(config)
    networks.resolve(settings, connection, config)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Inside the transaction, because `rmi` may have removed it; once the row is there, it will not.
        store.get(image.id)
        container = containers.insert(connection, container_id, config, image.id, command, "starting")
        volumes.attach(settings, connection, container_id, config, image.config.get("config") or {})
    with Undo() as undo:
        undo.push(teardown.remove, settings, connection, container_id, with_volumes=True)
        overlay.make_directories(settings.container_directory(container_id), container.id_base)
        _write_cidfile(config.cidfile, container_id)
        undo.forget()
    return container


def _check_cidfile(path: str) -> None:
    if path and os.path.exists(path):
        raise UsageError("--cidfile", path, "the file exists", "remove it, or the container that it names")


def _write_cidfile(path: str, container_id: str) -> None:
    if path:
        try:
            with open(path, "x") as file:
                file.write(container_id)
        except OSError as error:
            raise UsageError("--cidfile", path, (error.strerror or "").lower()) from None
