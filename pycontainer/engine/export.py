"""`diff` and `export`: what a container's files are, and what of them it has changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pycontainer.engine import containers, rootfs
from pycontainer.engine.settings import Settings
from pycontainer.errors import StepFailed
from pycontainer.image.changes import Comparison, open_lower, open_upper
from pycontainer.image.pack import Packer
from pycontainer.image.store import Store
from pycontainer.image.stream import Gathered
from pycontainer.kernel import mount, namespace, record
from pycontainer.monitor import errand

if TYPE_CHECKING:
    import sqlite3

    from pycontainer.engine.containers import Container
    from pycontainer.monitor.messages import Message

# What starting a container makes in an image that lacks it, to mount something there (bundle.py). Docker makes these in
# a layer of their own, which it never shows.
MOUNT_POINTS = frozenset(b"proc sys dev etc etc/hosts etc/hostname etc/resolv.conf sbin sbin/docker-init".split())


@contextlib.contextmanager
def compared(
    settings: Settings, connection: sqlite3.Connection, container: Container, *, copies: bool = False
) -> Iterator[Comparison]:
    """The container's files with those of its image; `copies` as for Comparison. Raises PycontainerError, OSError."""
    layers = Store(settings.root, connection).get(container.image_id).layers
    with contextlib.ExitStack() as stack:
        answer, (lower,) = errand.run(lambda: _open_lower(layers, settings.mount_point()))
        for line, times in answer["calls"]:
            record.count(line, times)
        stack.callback(os.close, lower)
        upper = open_upper(f"{settings.container_directory(container.id)}/upper", container.id_maps)
        stack.callback(os.close, upper)
        yield Comparison(upper, lower, MOUNT_POINTS, copies=copies)


def _open_lower(layers: list[str], mount_point: str) -> tuple[Message, list[int]]:
    record.begin_anew()
    namespace.unshare(namespace.CLONE_NEWNS)
    mount.mount(None, "/", None, mount.MS_SLAVE | mount.MS_REC, None)
    lower = open_lower(layers, mount_point)
    return {"calls": record.so_far()}, [lower]


def diff(settings: Settings, connection: sqlite3.Connection, name: str) -> Iterator[bytes]:
    """Lines as `docker diff` prints them: A, C or D and the path. Raises NotFound, PycontainerError, OSError."""
    container = containers.find(connection, name)
    with compared(settings, connection, container) as comparison:
        for change in comparison.changes():
            if change.path:
                yield change.kind.encode() + b" /" + change.path


def export(settings: Settings, connection: sqlite3.Connection, name: str, out: int) -> None:
    """Write a container's files to the descriptor `out` as a tar archive, with the ids that they have in it.

    What is mounted in it is left out: those places are empty. Raises NotFound, Conflict, PycontainerError, OSError.
    """
    container = containers.find(connection, name)
    with rootfs.opened(settings, connection, container, "export", mounts=False) as root:

        def pack() -> None:
            gathered = Gathered(out)
            packer = Packer(gathered.write)
            packer.add_contents(root)
            packer.finish()
            gathered.flush()

        worker = rootfs.Worker(container.id_maps, pack)
        try:
            worker.finish()
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise StepFailed("export", error.filename or "", error.errno or 0) from error
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        containers.note(connection, container.id, "export")
