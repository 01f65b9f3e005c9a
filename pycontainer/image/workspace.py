"""Adding images to the store: all of them, or nothing.

    with Workspace(store, …) as work:       lock, and a directory of its own in ROOT/tmp
        ... files arrive in work.directory
        layers = work.unpack(...)           those that the store does not have yet
        work.commit(images)                 sync, rename into place, one transaction

Whatever happens before the commit, only work.directory has changed, and it is removed on the way out. A commit that
fails moves back what it moved. A SIGKILL leaves work.directory, which makes the next command clear what is not in the
database.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Any, NamedTuple

from pycontainer.errors import ImageError, StepFailed
from pycontainer.image import reference
from pycontainer.image.implied import inherit_attributes
from pycontainer.image.ingest import Blob, receive
from pycontainer.image.manifest import Config, chain_ids
from pycontainer.image.opaque import hide_lower_root
from pycontainer.image.operations import StoreImages, UnpackLayers
from pycontainer.image.store import Store, remove_tree
from pycontainer.image.stream import Hash, write_all
from pycontainer.image.unpack import Allowance, Arrivals, Layer, Progress, Unpacked, unpack_layers
from pycontainer.kernel import files
from pycontainer.kernel.file_flags import spread_subdirectories
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.syscalls import call


class NewImage(NamedTuple):
    """An image to add.

    blobs     all files to keep, the manifest first
    names     complete references
    verified  digest of a key -> digest of what it has signed: verifications in the database
    """

    config: Config
    blobs: list[Blob]
    names: list[str]
    verified: dict[str, str] = {}


class Workspace:
    """See above. At most `layer_limit` bytes are unpacked of a layer, `limit` of all. Raises PycontainerError only."""

    def __init__(self, store: Store, layer_limit: int, limit: int, journal: Journal | None = None) -> None:
        self.store = store
        self._journal = journal or Journal()
        self._allowance = Allowance(layer_limit, limit)
        self.directory = ""
        self._sizes: dict[str, int] = {}  # chain id -> bytes, of layers that the store had when it was asked
        self._new: dict[str, tuple[str, int]] = {}  # chain id -> unpacked directory and bytes
        self._checked: set[tuple[str, str]] = set()  # (chain id, blob) that were unpacked or verified here
        self._stored: set[tuple[str, str]] | None = None  # the same of the images in the store, once it is asked for
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Workspace:
        try:
            self.store.make_directories()
            self._stack.callback(os.close, self.store.lock_shared())
            self.directory = self.store.make_marker()
            # Layers are made here, and a rename leaves their files where they are on the disk.
            spread_subdirectories(self.directory)
        except OSError as error:
            self._stack.close()
            raise StepFailed("open image store", error.filename or self.store.root, error.errno or 0) from error
        self._stack.callback(remove_tree, self.directory)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def add_blob(self, data: bytes) -> Blob:
        """A blob that is made here rather than received."""
        path = f"{self.directory}/made-{len(os.listdir(self.directory))}"

        def write(descriptor: int, hasher: Hash) -> None:
            hasher.update(data)
            write_all(descriptor, data)

        return receive("manifest", path, write)

    def unpack_image(
        self, config: Config, blobs: list[Blob], progress: Progress | None, arrivals: Arrivals | None = None
    ) -> None:
        """Unpack those of an image's layers that neither the store nor this workspace has, and verify the others.

        arrivals  knows which of the blobs are not there yet; None where all are
        """
        chains = chain_ids(config.diff_ids)
        layers: dict[int, Layer] = {}
        for index, (chain, diff_id, blob) in enumerate(zip(chains, config.diff_ids, blobs, strict=True)):
            verified = f"sha256:{blob.hex}" == diff_id
            directory = "" if self._has(chain) else self._name_directory()
            if directory or not (verified or self._is_checked(chain, blob)):
                name = f"layer {index + 1} of {len(chains)}"
                layers[index] = Layer(blob.path, blob.size, directory, name, diff_id, verified, index == 0)
        if not layers:
            return

        def unpack() -> list[Unpacked]:
            unpacked = unpack_layers(list(layers.values()), self._allowance, progress, arrivals)
            self._complete(layers, unpacked, chains, blobs)
            return unpacked

        self._journal.perform(UnpackLayers(self.store.layers, list(layers.values()), unpack))

    def _complete(
        self, layers: dict[int, Layer], unpacked: list[Unpacked], chains: list[str], blobs: list[Blob]
    ) -> None:
        """Give layers what they need of those below them, and remember what was unpacked and verified."""
        for (index, layer), result in zip(layers.items(), unpacked, strict=True):
            self._checked.add((chains[index], blobs[index].hex))
            if not layer.directory:
                continue
            self._new[chains[index]] = layer.directory, result.size
            lower = [self._new[chain][0] if chain in self._new else self._path(chain) for chain in chains[:index]]
            try:
                hide_lower_root(layer.directory, lower)
                inherit_attributes(layer.directory, result.implied, lower)
            except OSError as error:
                raise StepFailed("unpack layer", layer.name, error.errno or 0) from error

    def unpack_base(self, blob: Blob, progress: Progress | None) -> tuple[str, str]:
        """Unpack the only layer of a new image; its diff id and its directory."""
        directory = self._name_directory()
        layer = Layer(blob.path, blob.size, directory, "archive", "", False, True)
        unpack = UnpackLayers(self.store.layers, [layer], lambda: unpack_layers([layer], self._allowance, progress))
        result: Unpacked = self._journal.perform(unpack)[0]
        self._new[result.diff_id.removeprefix("sha256:")] = directory, result.size
        return result.diff_id, directory

    def _name_directory(self) -> str:
        # Another name each time, because ext4 chooses the part of the disk by it: under the same one a layer that was
        # removed a moment ago would come back among its own deleted inodes.
        return f"{self.directory}/layer-{os.urandom(8).hex()}"

    def commit(self, images: list[NewImage]) -> None:
        """Put everything in place and into the database."""
        moves = [(directory, self._path(chain)) for chain, (directory, _) in self._new.items()]
        self._journal.perform(StoreImages(self.store.root, self.directory, moves, lambda: self._commit(images)))

    def _commit(self, images: list[NewImage]) -> None:
        connection = self.store.connection
        moved: list[tuple[str, str]] = []
        try:
            self._sync(self.directory, "syncfs")
            self.store.write_durably()
            connection.execute("BEGIN IMMEDIATE")
            try:
                for image in images:
                    self._add(image, moved)
                for directory in (self.store.layers, self.store.blobs):
                    self._sync(directory, "fsync")
                connection.execute("COMMIT")
            except BaseException:
                for target, origin in reversed(moved):
                    files.rename(target, origin)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except OSError as error:
            raise StepFailed("store image", error.filename or self.store.root, error.errno or 0) from error
        except sqlite3.Error as error:
            raise ImageError("store image", self.store.root, str(error)) from error

    def _add(self, image: NewImage, moved: list[tuple[str, str]]) -> None:
        execute = self.store.connection.execute
        config = image.config
        chains = chain_ids(config.diff_ids)
        size = sum(self._place_layer(chain, moved) for chain in chains)
        if row := execute("SELECT blobs FROM images WHERE id = ?", (config.id,)).fetchone():
            kept = row[0].split()
            if len(kept) == 2:
                # Its layers' blobs were given back, and here they are again. The manifest says how they are compressed.
                kept = [blob.hex for blob in image.blobs]
                values = (f"sha256:{kept[0]}", " ".join(kept), config.id)
                execute("UPDATE images SET digest = ?, blobs = ? WHERE id = ?", values)
            # What somebody has removed from the disk comes back. The manifest may be another one than the image's.
            for blob in image.blobs:
                if blob.hex in kept and not os.path.exists(f"{self.store.blobs}/{blob.hex}"):
                    self._place_blob(blob, moved)
        else:
            for blob in image.blobs:
                self._place_blob(blob, moved)
            digest = f"sha256:{image.blobs[0].hex}"
            blobs = " ".join(blob.hex for blob in image.blobs)
            row = (config.id, digest, config.data.decode(), config.created, size, " ".join(chains), blobs)
            execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        for name in image.names:
            execute("REPLACE INTO image_names VALUES (?, ?, ?)", (name, reference.parse(name).familiar, config.id))
        for key, signed in image.verified.items():
            execute("REPLACE INTO verifications VALUES (?, ?, ?)", (config.id, key, signed))

    def _place_layer(self, chain: str, moved: list[tuple[str, str]]) -> int:
        """Make a layer the store's; its size in bytes."""
        execute = self.store.connection.execute
        row = execute("SELECT size FROM layers WHERE chain_id = ?", (chain,)).fetchone()
        if row is not None and (os.path.isdir(self._path(chain)) or chain not in self._new):
            return int(row[0])  # it was there, or another load was quicker
        if chain in self._new:
            directory, size = self._new[chain]
            if os.path.lexists(self._path(chain)):  # left by a commit that was killed
                self._move(self._path(chain), f"{self.directory}/stale-{chain}", moved)
            self._move(directory, self._path(chain), moved)
        else:
            size = self._sizes[chain]  # its last image was removed meanwhile; our lock has kept the bytes
        execute("REPLACE INTO layers VALUES (?, ?)", (chain, size))
        return size

    def _place_blob(self, blob: Blob, moved: list[tuple[str, str]]) -> None:
        target = f"{self.store.blobs}/{blob.hex}"
        if os.path.exists(target):
            if os.path.exists(blob.path):  # not when this commit has placed it already
                files.rename(blob.path, target)
        else:
            self._move(blob.path, target, moved)

    @staticmethod
    def _move(origin: str, target: str, moved: list[tuple[str, str]]) -> None:
        files.rename(origin, target)
        moved.append((target, origin))

    def _has(self, chain: str) -> bool:
        row = self.store.connection.execute("SELECT size FROM layers WHERE chain_id = ?", (chain,)).fetchone()
        if row is not None and os.path.isdir(self._path(chain)):
            self._sizes[chain] = row[0]
            return True
        return chain in self._new

    def _is_checked(self, chain: str, blob: Blob) -> bool:
        """Whether the blob is known to become that layer. A compressed one tells it only after it is decompressed."""
        if self._stored is None:
            self._stored = set()
            for chains, blobs in self.store.connection.execute("SELECT layers, blobs FROM images"):
                self._stored.update(zip(chains.split(), blobs.split()[2:], strict=False))
        return (chain, blob.hex) in self._checked or (chain, blob.hex) in self._stored

    def _path(self, chain: str) -> str:
        return f"{self.store.layers}/{chain}"

    @staticmethod
    def _sync(directory: str, function: str) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            call(function, descriptor, path=directory)
        finally:
            os.close(descriptor)
