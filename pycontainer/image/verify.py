"""`system verify`: whether what the store keeps is what its digests say, and all of an image fits together.

    row in the database  <->  config blob  <->  manifest blob  <->  layers' blobs
                 └─ chain ids  <->  diff ids              └─ layers, unpacked

Each blob is hashed, and each layer looked at, once for all images that have it. With `deep`, each layer is unpacked
once more beside the store, by the code that unpacked it first, and compared with what is there: so whiteouts, links
and directories without a member need no second understanding. One layer at a time, for the disk's sake.

The store's lock is held, shared: others load and run meanwhile, and no bytes are freed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from pycontainer.errors import ImageError, StepFailed
from pycontainer.image import manifest
from pycontainer.image.difference import differences
from pycontainer.image.implied import inherit_attributes
from pycontainer.image.opaque import hide_lower_root
from pycontainer.image.store import Image, Store, remove_tree
from pycontainer.image.stream import CHUNK
from pycontainer.image.unpack import Allowance, Layer, Progress, unpack_layers

_AGAIN = "pull or load {} again"
_REMOVE = "remove {}, then pull or load {} again"
_ANEW = "pycontainer rmi -f {}, then pull or load it again"
_MOST = 20  # differences of one layer that are told
_UNLIMITED = 1 << 60


class Problem(NamedTuple):
    """One thing that is wrong: of what, where it is, why, and what puts it right."""

    what: str
    path: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.path}: {self.cause}: {self.remedy}"


class Verifier:
    """Looks at images one after the other, and counts what it has looked at."""

    def __init__(self, store: Store, *, deep: bool, progress: Progress | None) -> None:
        self.images = 0
        self.without_blobs = 0
        self.layers: set[str] = set()
        self.blobs: dict[str, bool] = {}  # hexadecimal digest -> whether it is that of the content
        self.bytes = 0
        self._store = store
        self._deep = deep
        self._missing: set[str] = set()
        self._damaged: set[str] = set()
        self._progress = progress
        self._total = 0
        self._compared = 0
        self._to_compare = 0

    def verify(self, images: list[Image]) -> Iterator[Problem]:
        """What is wrong with these. Raises StepFailed, HostError, ImageError where it cannot be found out."""
        try:
            self._store.make_directories()
            lock = self._store.lock_shared()
        except OSError as error:
            raise StepFailed("open image store", error.filename or self._store.root, error.errno or 0) from error
        try:
            # Counted before, for who waits.
            names = {name for image in images for name in self._row(image)[1]}
            self._total = sum(_length(f"{self._store.blobs}/{name}") for name in names)
            self._to_compare = sum(
                self._store.layer_size(layer) for layer in {each for i in images for each in i.layers}
            )
            for image in images:
                yield from self._image(image)
                self.images += 1
        finally:
            os.close(lock)

    def _row(self, image: Image) -> tuple[str, list[str]]:
        """Config and blobs, as the database has them; of an image that was removed meanwhile nothing."""
        select = "SELECT config, blobs FROM images WHERE id = ?"
        row = self._store.connection.execute(select, (image.id,)).fetchone()
        return (row[0], row[1].split()) if row else ("", [])

    def _image(self, image: Image) -> Iterator[Problem]:
        name = image.names[0] if image.names else image.id[7:19]
        text, blobs = self._row(image)
        if not blobs:
            return
        for label, digits in zip(("manifest", "config"), blobs, strict=False):
            yield from self._blob(f"{label} of {name}", digits, name)
        config = None
        try:
            config = manifest.parse_config(text.encode(), f"config of {name}")
        except ImageError as error:
            yield Problem(f"image {name}", "database", error.cause, _ANEW.format(name))
        if config is not None and config.id != image.id:
            yield Problem(f"image {name}", "database", f"its config is that of {config.id}", _ANEW.format(name))
            config = None
        diff_ids = config.diff_ids if config is not None else []
        chains = [os.path.basename(layer) for layer in image.layers]
        if config is not None and manifest.chain_ids(diff_ids) != chains:
            yield Problem(f"image {name}", "database", "its layers are not those of its config", _ANEW.format(name))
            diff_ids = []
        sizes: dict[str, int] = {}
        if self.blobs[blobs[0]]:
            yield from self._fit(image, name, blobs, sizes)
        if len(blobs) <= 2:
            self.without_blobs += 1
        yield from self._layers(image, name, blobs[2:], sizes, diff_ids)

    def _fit(self, image: Image, name: str, blobs: list[str], sizes: dict[str, int]) -> Iterator[Problem]:
        """Whether manifest and database agree; `sizes` gets the bytes of the layers' blobs, if they do."""
        path = f"{self._store.blobs}/{blobs[0]}"
        try:
            with open(path, "rb") as file:
                found = manifest.parse_manifest(file.read(manifest.MAX_JSON), f"manifest of {name}")
        except ImageError as error:
            yield Problem(f"manifest of {name}", path, error.cause, _ANEW.format(name))
            return
        cause = ""
        if image.digest != f"sha256:{blobs[0]}":
            cause = f"the database calls it {image.digest}"
        elif found.config.digest != image.id or image.id != f"sha256:{blobs[1]}":
            cause = f"its config is {found.config.digest}, and not the image's"
        elif len(found.layers) != len(image.layers):
            cause = f"it has {len(found.layers)} layers, and the image {len(image.layers)}"
        elif len(blobs) > 2 and [f"sha256:{digits}" for digits in blobs[2:]] != [each.digest for each in found.layers]:
            cause = "its layers are not those that the database has"
        if cause:
            yield Problem(f"manifest of {name}", path, cause, _ANEW.format(name))
        else:
            sizes.update((layer.digest.removeprefix("sha256:"), layer.size) for layer in found.layers)

    def _layers(
        self, image: Image, name: str, blobs: list[str], sizes: dict[str, int], diff_ids: list[str]
    ) -> Iterator[Problem]:
        for index, layer in enumerate(image.layers):
            what = f"layer {index + 1} of {len(image.layers)} of {name}"
            blob = ""
            if index < len(blobs):
                digits = blobs[index]
                yield from self._blob(what, digits, name, sizes.get(digits))
                blob = f"{self._store.blobs}/{digits}" if self.blobs[digits] else ""
            if layer in self.layers:
                continue
            self.layers.add(layer)
            problems = list(self._directory(image, what, layer, name))
            yield from problems
            if problems:
                self._missing.add(layer)
            # What a layer looks like depends on those below.
            if self._deep and blob and diff_ids and self._missing.isdisjoint(image.layers[: index + 1]):
                for problem in self._compare(what, name, image.layers[: index + 1], blob, diff_ids[index]):
                    self._damaged.add(layer)
                    yield problem

    def _blob(self, what: str, digits: str, name: str, size: int | None = None) -> Iterator[Problem]:
        """Hash one, unless that is done; `size` is what the manifest says."""
        if digits in self.blobs:
            return
        self.blobs[digits] = False
        path = f"{self._store.blobs}/{digits}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            yield Problem(what, path, "its blob is gone from the disk", _AGAIN.format(name))
            return
        except OSError as error:
            yield Problem(what, path, (error.strerror or "failed").lower(), _REMOVE.format("it", name))
            return
        try:
            cause = self._hash(descriptor, digits, size)
        except OSError as error:
            cause = f"cannot be read: {(error.strerror or 'failed').lower()}"
        finally:
            os.close(descriptor)
        self.blobs[digits] = not cause
        if cause:
            yield Problem(what, path, cause, _REMOVE.format("it", name))

    def _hash(self, descriptor: int, digits: str, size: int | None) -> str:
        """What is wrong with a blob, "" for nothing. Raises OSError."""
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "not a regular file"
        hasher, count = hashlib.sha256(), 0
        while data := os.read(descriptor, CHUNK):
            hasher.update(data)
            count += len(data)
            self.bytes += len(data)
            if self._progress is not None:
                self._progress("verifying", self.bytes, self._total)
        if hasher.hexdigest() != digits:
            return f"its content is sha256:{hasher.hexdigest()}"
        # A wrong size is the manifest's fault, whose digest is right: it came so.
        return f"it has {count} bytes, not the {size} of its manifest" if size not in (None, count) else ""

    def _directory(self, image: Image, what: str, layer: str, name: str) -> Iterator[Problem]:
        """What can be seen of an unpacked layer without a look into it."""
        chain = os.path.basename(layer)
        row = self._store.connection.execute("SELECT size FROM layers WHERE chain_id = ?", (chain,)).fetchone()
        # Not where `rmi` has removed the image meanwhile.
        if row is None and self._row(image)[1]:
            yield Problem(what, layer, "the database does not know this layer", _ANEW.format(name))
        try:
            if not stat.S_ISDIR(os.lstat(layer).st_mode):
                yield Problem(what, layer, "not a directory", _REMOVE.format("it", name))
                return
            with os.scandir(layer) as entries:
                if row is not None and row[0] and next(entries, None) is None:
                    yield Problem(what, layer, f"it is empty, and had {row[0]} bytes", _REMOVE.format("it", name))
        except FileNotFoundError:
            yield Problem(what, layer, "the unpacked layer is gone from the disk", _AGAIN.format(name))
        except OSError as error:
            yield Problem(
                what, layer, f"cannot be read: {(error.strerror or 'failed').lower()}", _REMOVE.format("it", name)
            )

    def _compare(self, what: str, name: str, layers: list[str], blob: str, diff_id: str) -> Iterator[Problem]:
        """What is in a layer, the last of `layers`, against what its blob unpacks to."""
        marker = self._store.make_marker()
        try:
            copy = f"{marker}/layer"
            try:
                wanted = Layer(blob, os.stat(blob).st_size, copy, what, diff_id, False, len(layers) == 1)
                (result,) = unpack_layers([wanted], Allowance(_UNLIMITED, _UNLIMITED), None)
            except ImageError as error:
                yield Problem(what, blob, error.cause, _ANEW.format(name))
                return
            try:
                hide_lower_root(copy, layers[:-1])
                inherit_attributes(copy, result.implied, layers[:-1])
                implied = {f"/{os.fsdecode(path)}" for path in result.implied}
                loose = set() if self._damaged.isdisjoint(layers) else implied
                found = differences(copy, layers[-1], loose, self._count)
                for path, cause in islice(found, _MOST):
                    yield Problem(what, layers[-1] + path, cause, _REMOVE.format(layers[-1], name))
                if next(found, None) is not None:
                    cause = f"it differs in more than {_MOST} places"
                    yield Problem(what, layers[-1], cause, _REMOVE.format("it", name))
            except OSError as error:
                cause = f"{error.filename or ''}: {(error.strerror or 'failed').lower()}"
                yield Problem(what, layers[-1], f"cannot be compared: {cause}", _REMOVE.format("it", name))
        finally:
            remove_tree(marker)

    def _count(self, count: int) -> None:
        self._compared += count
        if self._progress is not None:
            self._progress("comparing", self._compared, self._to_compare)


def _length(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
