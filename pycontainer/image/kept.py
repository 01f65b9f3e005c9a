"""The bytes of an image as the store keeps them, for `save`, which archives them, and `push`, which sends them.

They are hashed while they are read, and the end of a blob is held back until its digest is known to be right: a blob
that has changed on the disk breaks off within it, and nobody takes it for the right one.

Errors begin with the step that the caller is at, and name the layer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from pycontainer.errors import ImageError, StepFailed
from pycontainer.image import manifest
from pycontainer.image.store import Image, Store
from pycontainer.image.stream import CHUNK

AGAIN = "pull or load the image again, which brings back what is missing"


class Part(NamedTuple):
    """A blob; `label` is what errors call it."""

    label: str
    digest: str
    size: int

    @property
    def place(self) -> str:
        """Both, for an error."""
        return f"{self.label}, {self.digest}"


class Kept(NamedTuple):
    """What an image consists of: `data` is its manifest, of that type; `parts` are manifest, config and layers."""

    data: bytes
    media_type: str
    parts: list[Part]


def read_image(store: Store, image: Image, name: str, step: str) -> Kept:
    """An image of which everything is there, and as long as it should be. Raises ImageError, StepFailed."""
    label = f"manifest of {name}"
    first = Part(label, image.digest, _size(store, label, image.digest, step))
    if first.size > manifest.MAX_JSON:
        raise ImageError(step, label, f"larger than {manifest.MAX_JSON} bytes")
    with open_blob(store, first, step) as source:
        data = b"".join(source.read(first.size))
    found = manifest.parse_manifest(data, label)
    if found.config.digest != image.id or len(found.layers) != len(image.layers):
        raise ImageError(step, label, "it is not that of the image's config", AGAIN)
    parts = [first, Part(f"config of {name}", found.config.digest, found.config.size)]
    for number, layer in enumerate(found.layers, 1):
        parts.append(Part(f"layer {number} of {len(found.layers)} of {name}", layer.digest, layer.size))
    for part in parts[1:]:
        if (size := _size(store, part.label, part.digest, step, image.id)) != part.size:
            raise ImageError(step, part.place, f"its blob has {size} bytes, not {part.size}", AGAIN)
    media_type = manifest.parse_json(data, label).get("mediaType") or manifest.MANIFEST_TYPE
    return Kept(data, media_type, parts)


class Source:
    """A blob that is read from its beginning to its end. `done` counts the bytes that were given away."""

    def __init__(self, descriptor: int, path: str, part: Part, step: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._part = part
        self._step = step
        self._hasher = hashlib.sha256()
        self.done = 0

    def read(self, count: int) -> Iterator[bytes]:
        """The next `count` bytes, which are in the blob; its last ones only when the digest is right.

        Raises ImageError, StepFailed.
        """
        if not self._part.size:
            self._check(0)
        while count:
            data = self._next(min(count, CHUNK))
            self._hasher.update(data)
            count -= len(data)
            if not data or self.done + len(data) == self._part.size:
                self._check(len(data))
            self.done += len(data)
            yield data

    def _next(self, count: int) -> bytes:
        try:
            return os.read(self._descriptor, count)
        except OSError as error:
            raise StepFailed(self._step, self._path, error.errno or 0) from error

    def _check(self, count: int) -> None:
        part, digest = self._part, f"sha256:{self._hasher.hexdigest()}"
        if self.done + count != part.size or self._next(1):
            raise ImageError(self._step, part.place, f"its blob has not {part.size} bytes any more", AGAIN)
        if digest != part.digest:
            cause = f"its blob has changed on the disk: it is {digest}"
            raise ImageError(self._step, part.place, cause, f"remove {self._path}, then pull or load the image again")


@contextlib.contextmanager
def open_blob(store: Store, part: Part, step: str) -> Iterator[Source]:
    """To read it. Raises StepFailed."""
    path = _path(store, part.digest)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StepFailed(step, path, error.errno or 0) from error
    try:
        yield Source(descriptor, path, part, step)
    finally:
        os.close(descriptor)


def _size(store: Store, label: str, digest: str, step: str, image_id: str = "") -> int:
    try:
        status = os.lstat(_path(store, digest))
    except FileNotFoundError:
        raise ImageError(step, f"{label}, {digest}", why_missing(store, image_id), AGAIN) from None
    except OSError as error:
        raise StepFailed(step, _path(store, digest), error.errno or 0) from error
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(step, f"{label}, {digest}", "its blob is not a regular file", AGAIN)
    return status.st_size


def why_missing(store: Store, image_id: str) -> str:
    """Why one of the image's blobs is not there, as an error's cause; without an image it is not a layer's."""
    if image_id and not store.has_layer_blobs(image_id):
        return "`image prune --blobs` has given its blob back"
    return "its blob is gone from the disk"


def _path(store: Store, digest: str) -> str:
    return f"{store.blobs}/{digest.removeprefix('sha256:')}"
