"""How much disk is used, and how much of that could be freed: what `system df` and the sizes of `ps` show.

Sizes are in bytes: the lengths of files, as docker counts them.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings
    from pycontainer.image.store import Image

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Level:
    """A directory on the way from the top of a tree to where the count is: which one it is, and what is left of it."""

    __slots__ = ("identity", "names")

    def __init__(self, identity: tuple[int, int], names: list[str]) -> None:
        self.identity = identity
        self.names = names


def tree_size(path: str) -> int:
    """The length of all files below a directory, each inode once; 0 where there is none. Raises OSError.

    A container may be changing the tree, and chose how deep it is: so there is one descriptor and no recursion, links
    are not followed, and where the way back does not lead to where the count came from, it ends with what it has.
    """
    try:
        current = os.open(path, _FLAGS)
    except FileNotFoundError:
        return 0
    seen: set[tuple[int, int]] = set()
    try:
        total, names = _count(current, seen)
        way = [_Level(_identity(current), names)]
        while True:
            step = way[-1].names.pop() if way[-1].names else ".."
            if step == "..":
                way.pop()
                if not way:
                    return total
            try:
                moved = os.open(step, _FLAGS, dir_fd=current)
            except OSError:
                if step == "..":
                    return total
                # It was removed, or another file took its place.
                continue
            os.close(current)
            current = moved
            if step != "..":
                size, names = _count(current, seen)
                total += size
                way.append(_Level(_identity(current), names))
            elif _identity(current) != way[-1].identity:
                return total
    finally:
        os.close(current)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _count(directory: int, seen: set[tuple[int, int]]) -> tuple[int, list[str]]:
    """The length of the files in a directory, and the names of the directories in it."""
    total, names = 0, []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total, names


def written(settings: Settings, container: Container) -> int:
    """What a container has written over its image. Raises OSError."""
    return tree_size(f"{settings.container_directory(container.id)}/upper")


class ImageUsage:
    """The layers of all images.

    total        bytes of all layers, each once
    reclaimable  those of layers that only images without a container have
    shared       image id -> bytes of its layers that another image has too
    containers   image id -> how many containers are made from it
    """

    __slots__ = ("containers", "reclaimable", "shared", "total")

    def __init__(self, connection: sqlite3.Connection, images: list[Image]) -> None:
        sizes: dict[str, int] = dict(connection.execute("SELECT chain_id, size FROM layers").fetchall())
        counts = "SELECT image_id, count(*) FROM containers GROUP BY image_id"
        self.containers: dict[str, int] = dict(connection.execute(counts).fetchall())
        chains = {image.id: [os.path.basename(layer) for layer in image.layers] for image in images}
        users: dict[str, int] = {}
        needed: set[str] = set()
        for image_id, layers in chains.items():
            for chain in layers:
                users[chain] = users.get(chain, 0) + 1
            if image_id in self.containers:
                needed.update(layers)
        self.total = sum(sizes.get(chain, 0) for chain in users)
        self.reclaimable = sum(sizes.get(chain, 0) for chain in users if chain not in needed)
        self.shared = {
            image_id: sum(sizes.get(chain, 0) for chain in layers if users[chain] > 1)
            for image_id, layers in chains.items()
        }


class BlobUsage:
    """The blobs of all images, each once.

    total        how many there are
    staying      how many of them are manifests and configs
    size         bytes of all
    reclaimable  bytes of those that are layers, which `image prune --blobs` gives back
    """

    __slots__ = ("reclaimable", "size", "staying", "total")

    def __init__(self, connection: sqlite3.Connection, directory: str) -> None:
        layers: set[str] = set()
        others: set[str] = set()
        for (text,) in connection.execute("SELECT blobs FROM images").fetchall():
            names = text.split()
            others.update(names[:2])
            layers.update(names[2:])
        sizes: dict[str, int] = {}
        for name in layers | others:
            try:
                sizes[name] = os.lstat(f"{directory}/{name}").st_size
            except FileNotFoundError:
                continue
        self.total = len(sizes)
        self.staying = sum(name in others for name in sizes)
        self.size = sum(sizes.values())
        self.reclaimable = sum(size for name, size in sizes.items() if name not in others)
