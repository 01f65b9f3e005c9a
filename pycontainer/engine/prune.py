"""Removing what nobody uses. Each object is looked at again under its lock, or inside the transaction that removes it:
what a command at the same time begins to use stays.
"""

from __future__ import annotations

import os

from pycontainer.engine import containers, teardown, usage, volume_operations, volumes
from pycontainer.errors import Conflict, NotFound
from pycontainer.image import downloads
from pycontainer.image.store import Store
from pycontainer.kernel.operation import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pycontainer.engine.settings import Settings
    from pycontainer.image.store import Image

# Neither runs nor is about to.
IDLE = ("created", "exited")


class Pruned:
    """What was removed, as lines for the user; how many bytes that freed; what could not be removed, and why."""

    __slots__ = ("failures", "lines", "reclaimed")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reclaimed = 0
        self.failures: list[str] = []


def prune_containers(
    settings: Settings, connection: sqlite3.Connection, wanted: Callable[[containers.Container], bool]
) -> Pruned:
    """Remove every container that does not run and is `wanted`."""
    pruned = Pruned()
    for container in containers.list_all(connection):
        if container.status not in IDLE or not wanted(container):
            continue
        owner = containers.try_lock(settings.state, container.id)
        if owner is None:
            # Somebody starts or removes it at this moment.
            continue
        try:
            if containers.get(connection, container.id).status not in IDLE:
                continue
            size = usage.written(settings, container)
            teardown.remove(settings, connection, container.id)
        except NotFound:
            continue
        except OSError as error:
            # The next one may still go; the row is gone with the first step, and the next command removes the rest.
            pruned.failures.append(f"remove container {container.name}: {error.filename}: {error.strerror}")
            continue
        finally:
            containers.unlock(settings.state, container.id, owner)
        pruned.lines.append(container.id)
        pruned.reclaimed += size
    return pruned


def prune_volumes(
    settings: Settings, connection: sqlite3.Connection, wanted: Callable[[volumes.Volume], bool], *, named: bool
) -> Pruned:
    """Remove every volume that no container has and that is `wanted`; those with a name only if `named`."""
    pruned = Pruned()
    for volume in volumes.list_all(connection):
        if not (volume.anonymous or named) or volumes.users(connection, volume.name) or not wanted(volume):
            continue
        try:
            freed = volumes.size(settings, volume.name)
            volume_operations.remove(settings, connection, volume.name, Journal())
        except (Conflict, NotFound):
            continue
        except OSError as error:
            pruned.failures.append(f"remove volume {volume.name}: {error.filename}: {error.strerror}")
            continue
        pruned.lines.append(volume.name)
        pruned.reclaimed += freed
    return pruned


def prune_images(
    settings: Settings, connection: sqlite3.Connection, wanted: Callable[[Image], bool], *, named: bool
) -> Pruned:
    """Remove every image that no container uses and that is `wanted`; those with a name only if `named`."""
    store = Store(settings.root, connection)
    pruned = Pruned()

    def users(image_id: str) -> list[str]:
        # Called inside the transaction: whoever gave it a name or made a container of it has done so, or never can.
        names = connection.execute("SELECT familiar FROM image_names WHERE image_id = ?", (image_id,)).fetchall()
        if names and not named:
            raise Conflict("remove image", image_id, "it has a name")
        return containers.using_image(connection, image_id)

    for image in store.images():
        if (image.names and not named) or containers.using_image(connection, image.id) or not wanted(image):
            continue
        chains = [os.path.basename(layer) for layer in image.layers]
        sizes = dict(connection.execute("SELECT chain_id, size FROM layers").fetchall())
        try:
            lines = store.remove(image.id, True, users)
        except (Conflict, NotFound):
            continue
        pruned.lines += [line[:1].lower() + line[1:] for line in lines]
        pruned.reclaimed += sum(sizes.get(chain, 0) for chain in chains if f"Deleted: sha256:{chain}" in lines)
    return pruned


def prune_blobs(settings: Settings, connection: sqlite3.Connection, wanted: Callable[[Image], bool]) -> Pruned:
    """Give back the layers of images that are `wanted` as they arrived; unpacked they stay."""
    store = Store(settings.root, connection)
    pruned = Pruned()
    removed = store.give_back_blobs([image.id for image in store.images() if wanted(image)])
    pruned.lines = [f"sha256:{name}" for name, _ in removed]
    pruned.reclaimed = sum(size for _, size in removed)
    return pruned


def prune_downloads(settings: Settings, wanted: Callable[[float, dict[str, str]], bool]) -> Pruned:
    """Remove what interrupted pulls have left, by its last change. It has no labels."""
    pruned = Pruned()
    try:
        removed = downloads.remove_idle(settings.root, lambda changed: wanted(changed, {}))
    except OSError as error:
        pruned.failures.append(f"remove downloads: {error.filename}: {error.strerror}".lower())
        return pruned
    pruned.lines = [name for name, _ in removed]
    pruned.reclaimed = sum(size for _, size in removed)
    return pruned
