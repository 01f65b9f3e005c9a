"""An image's way into the store, in the steps that `--explain` tells."""

from __future__ import annotations

from collections.abc import Callable

from pycontainer.image.ingest import Blob, Files
from pycontainer.image.unpack import Layer, Unpacked
from pycontainer.kernel.operation import Operation, word


class ReadArchive(Operation):
    """Copy what an archive, or an OCI layout directory, holds into a directory of ours, and hash it on the way."""

    group = "image"
    step = "read archive"
    reason = "hashed while it arrives: what is not what its name says is never read by anybody else"

    def __init__(self, source: str, directory: str, read: Callable[[], Files], *, is_layout: bool) -> None:
        self.path = source
        self._directory = directory
        self._read = read
        self._is_layout = is_layout

    def shell(self) -> str:
        source, directory = word(self.path), word(self._directory)
        if self._is_layout:
            return f"cp --recursive {source}/. {directory}\ncd {directory}/blobs/sha256 && sha256sum *"
        return f"tar --extract --file {source} --directory {directory}"

    def execute(self) -> Files:
        return self._read()


class CopyTarball(Operation):
    """Copy a root file system's tarball into a directory of ours, and hash it on the way."""

    group = "image"
    step = "read archive"
    reason = "hashed while it arrives: by its hash the store knows it, and the image names it"

    def __init__(self, source: str, target: str, read: Callable[[], Blob]) -> None:
        self.path = source
        self._target = target
        self._read = read

    def shell(self) -> str:
        source = "" if self.path == "-" else f" < {word(self.path)}"
        return f"tee {word(self._target)}{source} | sha256sum"

    def execute(self) -> Blob:
        return self._read()


class UnpackLayers(Operation):
    """Unpack the layers that the store does not have, each in a child that has chrooted into the layer's directory."""

    group = "image"
    reason = "chrooted into the layer's directory, so that no name and no link of the archive leads out of it"

    def __init__(self, store: str, layers: list[Layer], unpack: Callable[[], list[Unpacked]]) -> None:
        """store: the directory that they will be in when they are stored."""
        self.path = store
        self.step = f"unpack {sum(bool(layer.directory) for layer in layers)} layers"
        self._layers = layers
        self._unpack = unpack

    def shell(self) -> str:
        return "\n".join(
            f"mkdir {word(layer.directory)} && tar --extract --numeric-owner --xattrs --file {word(layer.blob)}"
            f" --directory {word(layer.directory)}"
            for layer in self._layers
            if layer.directory
        )

    def execute(self) -> list[Unpacked]:
        return self._unpack()


class StoreImages(Operation):
    """Put layers and blobs into their places, and the images into the database."""

    group = "image"
    step = "store images"
    reason = "on the disk first, then renamed in the transaction that names them: all of it is there, or nothing"

    def __init__(self, root: str, directory: str, moves: list[tuple[str, str]], store: Callable[[], None]) -> None:
        self.path = root
        self._directory = directory
        self._moves = moves
        self._store = store

    def shell(self) -> str:
        moves = [f"mv --no-target-directory {word(origin)} {word(target)}" for origin, target in self._moves]
        return "\n".join([f"sync --file-system {word(self._directory)}", *moves])

    def execute(self) -> None:
        self._store()
