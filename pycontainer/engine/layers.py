"""`layers`: what each layer of an image or container does to the file system below it, and where a path comes from.

Each layer is compared with all those below it, put together by overlayfs, as a container's own is by `diff`. A path is
looked up in every layer by itself: overlayfs takes the topmost that has it, unless one above has a whiteout for it, or
for a directory that it is in, or an opaque directory (filesystems/overlayfs.rst in the kernel's documentation).
"""

from __future__ import annotations

import os
import stat

from pycontainer.engine import containers, usage
from pycontainer.engine.export import MOUNT_POINTS
from pycontainer.engine.history import Step, history
from pycontainer.engine.settings import Settings
from pycontainer.errors import NotFound, UsageError
from pycontainer.image.changes import (
    ADDED,
    CHANGED,
    DELETED,
    Change,
    Comparison,
    is_opaque,
    is_whiteout,
    open_lower,
    open_upper,
)
from pycontainer.image.difference import kind
from pycontainer.image.store import Store
from pycontainer.kernel import mount, namespace
from pycontainer.monitor import errand

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from pycontainer.kernel.id_map import IdMap

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Layer:
    """One layer.

    number        1 for the base
    path          its directory
    created_by    what made it
    is_container  a container's own, on top of its image's
    maps          the id map of a container, [] for an image's
    """

    __slots__ = ("created_by", "is_container", "maps", "number", "path")

    def __init__(
        self, number: int, path: str, created_by: str, maps: list[IdMap], *, is_container: bool = False
    ) -> None:
        self.number = number
        self.path = path
        self.created_by = created_by
        self.maps = maps
        self.is_container = is_container


class Counts:
    """How many paths a layer adds, changes and removes; its bytes on the disk. A directory counts when it is new."""

    __slots__ = ("added", "changed", "removed", "size")

    def __init__(self, added: int, changed: int, removed: int, size: int) -> None:
        self.added = added
        self.changed = changed
        self.removed = removed
        self.size = size


class Found:
    """What one layer has to say of a path.

    what     "adds" or "changes" it, "whites out", "hides" it by an opaque directory, "replaces" a directory above it by
             something else; "" for nothing
    at       what this is about: the path itself, or a directory that it is in
    detail   what is there now: kind, size, where a link leads
    merges   it is a directory, and what lower layers have in it is seen as well
    visible  whether it is what a container sees, or a part of that
    """

    __slots__ = ("at", "detail", "layer", "merges", "visible", "what")

    def __init__(self, layer: Layer, what: str = "", at: str = "", detail: str = "", *, merges: bool = False) -> None:
        self.layer = layer
        self.what = what
        self.at = at
        self.detail = detail
        self.merges = merges
        self.visible = False


def find(settings: Settings, connection: sqlite3.Connection, name: str) -> list[Layer]:
    """The layers of a container of that name, with its own on top, or of an image; base first. Raises NotFound."""
    store = Store(settings.root, connection)
    try:
        container = containers.find(connection, name)
        image = store.get(container.image_id)
    except NotFound:
        container, image = None, store.resolve(name)
    made = _made_by(history(store, image), len(image.layers))
    found = [Layer(i, path, made[i - 1], []) for i, path in enumerate(image.layers, 1)]
    if container is not None:
        own = f"{settings.container_directory(container.id)}/upper"
        by = f"the container {container.name}"
        found.append(Layer(len(found) + 1, own, by, container.id_maps, is_container=True))
    return found


def _made_by(steps: list[Step], count: int) -> list[str]:
    """What made each layer, base first, as far as the image says it."""
    with_layers = [step.created_by for step in reversed(steps) if step.has_layer]
    return [*with_layers, *[""] * count][:count]


def count(settings: Settings, layers: list[Layer]) -> list[Counts]:
    """For each layer what it does to those below it. Raises OSError, ImageError."""
    found = []
    for position in range(len(layers)):
        # Each by a process of its own, for it mounts those below.
        answer, _ = errand.run(lambda: ({"counts": _count(layers[: position + 1], settings.mount_point())}, []))  # noqa: B023
        found.append(Counts(*answer["counts"]))
    return found


def _count(layers: list[Layer], place: str) -> list[int]:
    *below, layer = layers
    namespace.unshare(namespace.CLONE_NEWNS)
    mount.mount(None, "/", None, mount.MS_SLAVE | mount.MS_REC, None)
    size = usage.tree_size(layer.path)
    upper = open_upper(layer.path, layer.maps)
    # An empty directory below the base.
    lower = open_lower([each.path for each in below] or [place], place)
    numbers = {ADDED: 0, CHANGED: 0, DELETED: 0}
    for change in Comparison(upper, lower, MOUNT_POINTS if layer.is_container else frozenset()).changes():
        if change.path and not (change.kind == CHANGED and _is_directory(change)):
            numbers[change.kind] += 1
    return [numbers[ADDED], numbers[CHANGED], numbers[DELETED], size]


def _is_directory(change: Change) -> bool:
    try:
        status = os.stat(change.entry, dir_fd=change.directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode)


def trace(layers: list[Layer], path: str) -> list[Found]:
    """What each layer has to say of `path`, the topmost first. Raises NotFound, UsageError, OSError."""
    parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UsageError("layers", repr(path), "goes up", "write the path without ..")
    found = [_look(layer, parts) for layer in layers]
    is_there = False
    for each in found:
        if each.what == "adds":
            each.what = "changes" if is_there else "adds"
            is_there = True
        elif each.what:
            if not is_there and each.what != "whites out":
                # There was nothing to hide.
                each.what = ""
            is_there = False
    found = [each for each in reversed(found) if each.what]
    if not found:
        raise NotFound("look for path", path, "no layer has it")
    for each in found:
        each.visible = each.what in ("adds", "changes")
        if not each.merges:
            break
    return found


def _look(layer: Layer, parts: list[bytes]) -> Found:
    directory = os.open(layer.path, _DIRECTORY)
    hides = ""
    try:
        for number, name in enumerate(parts, 1):
            at = "/" + os.fsdecode(b"/".join(parts[:number]))
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return Found(layer, "hides", hides, "an opaque directory") if hides else Found(layer)
            if is_whiteout(status):
                return Found(layer, "whites out", at)
            if not stat.S_ISDIR(status.st_mode):
                what = "adds" if number == len(parts) else "replaces"
                return Found(layer, what, at, _describe(directory, name, status))
            below = os.open(name, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
            if is_opaque(directory, name):
                hides = at
        detail = "an opaque directory" if hides else "a directory"
        return Found(layer, "adds", "/" + os.fsdecode(b"/".join(parts)), detail, merges=not hides)
    finally:
        os.close(directory)


def _describe(directory: int, name: bytes, status: os.stat_result) -> str:
    what = kind(status)
    if stat.S_ISLNK(status.st_mode):
        return f"{what} to {os.fsdecode(os.readlink(name, dir_fd=directory))}"
    return f"{what} of {status.st_size} bytes" if stat.S_ISREG(status.st_mode) else what
