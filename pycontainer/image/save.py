"""`save`: images of the store become one archive, which is a docker archive and an OCI one at the same time.

    oci-layout, index.json      what readers of OCI archives begin with
    manifest.json               what readers of docker archives begin with
    blobs/sha256/HEX            manifests, configs and layers exactly as they arrived, each once

The store keeps every blob, so nothing is packed or compressed anew and digests stay what they were. A blob that has
changed on the disk leaves an archive that breaks off within it, and not one that holds something else (kept.py).

The same images under the same names give the same bytes.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pycontainer.errors import StepFailed, UsageError
from pycontainer.image import kept, manifest, reference
from pycontainer.image.kept import Kept, Part
from pycontainer.image.reference import Reference
from pycontainer.image.store import Image, Store

Write = Callable[[bytes | memoryview], object]

_STEP = "save"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_BLOBS = "blobs/sha256"


class Chosen(NamedTuple):
    """An image to save, and the names that it is to have in the archive."""

    image: Image
    names: list[Reference]


class _Stored(NamedTuple):
    """An image with what it consists of."""

    chosen: Chosen
    kept: Kept


def save(store: Store, operands: Iterable[str], write: Write) -> None:
    """Write the images to `write`, which takes all of the bytes that it is given.

    Nothing is written before all images and their blobs are found. Raises NotFound, Conflict, UsageError, ImageError,
    StepFailed, and what `write` raises.
    """
    try:
        store.make_directories()
        lock = store.lock_shared()
    except OSError as error:
        raise StepFailed("open image store", error.filename or store.root, error.errno or 0) from error
    # Held until the end, so that no blob is freed meanwhile, whatever `rmi` does.
    try:
        images = [_read(store, chosen) for chosen in choose(store, operands)]
        _write_archive(store, images, write)
    finally:
        os.close(lock)


def choose(store: Store, operands: Iterable[str]) -> list[Chosen]:
    """What `docker save` takes for these words, in their order, each image once.

    A name with a tag is that one, and goes with the image; a name without one is all tags of that repository, or else
    the beginning of an id. By id or digest, an image goes without a name. Raises NotFound, Conflict, UsageError.
    """
    found: dict[str, Chosen] = {}
    for operand in operands:
        for image, name in _matches(store, operand):
            names = found.setdefault(image.id, Chosen(image, [])).names
            if name is not None and name not in names:
                names.append(name)
    return list(found.values())


def _matches(store: Store, operand: str) -> Iterator[tuple[Image, Reference | None]]:
    wanted = None
    try:
        wanted = reference.parse(operand, tagged=False)
    except UsageError:
        pass  # an id; `resolve` complains about what is none either
    if wanted is not None and not wanted.tag and not wanted.digest and (names := store.names_in(wanted.name)):
        for name, image_id in names:
            yield store.get(image_id), reference.parse(name)
        return
    image = store.resolve(operand)
    by_name = wanted is not None and wanted.tag and not wanted.digest and wanted.familiar in image.names
    yield image, wanted if by_name else None


def _read(store: Store, chosen: Chosen) -> _Stored:
    name = chosen.names[0].familiar if chosen.names else chosen.image.id[7:19]
    return _Stored(chosen, kept.read_image(store, chosen.image, name, _STEP))


def _write_archive(store: Store, images: list[_Stored], write: Write) -> None:
    written = 0

    def put(data: bytes | memoryview) -> None:
        nonlocal written
        write(data)
        written += len(data)

    # What says how to read the rest comes first, for who reads it through a pipe.
    documents = {"oci-layout": _LAYOUT, "index.json": _index(images), "manifest.json": _archive_manifest(images)}
    for name, data in documents.items():
        put(_header(name, len(data)))
        put(data + _padding(len(data)))
    for directory in ("blobs", _BLOBS):
        put(_header(directory, None))
    done: set[str] = set()
    for part in (part for image in images for part in image.kept.parts):
        if part.digest not in done:
            done.add(part.digest)
            put(_header(f"{_BLOBS}/{part.digest.removeprefix('sha256:')}", part.size))
            _copy(store, part, put)
            put(_padding(part.size))
    put(bytes(2 * tarfile.BLOCKSIZE))
    put(bytes(-written % tarfile.RECORDSIZE))


def _header(name: str, size: int | None) -> bytes:
    """That of a file, or of a directory where it has no size. Nothing in it is of this machine, or of now."""
    member = tarfile.TarInfo(name)
    member.mode = 0o755 if size is None else 0o644
    member.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
    member.size = size or 0
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _copy(store: Store, part: Part, put: Write) -> None:
    """Pass a blob on. Raises ImageError, StepFailed, and what `put` raises."""
    with kept.open_blob(store, part, _STEP) as source:
        for data in source.read(part.size):
            put(data)


def _index(images: list[_Stored]) -> bytes:
    """index.json: image-index.md of the image-spec, with containerd's name for a name with its repository."""
    entries: list[dict[str, Any]] = []
    for stored in images:
        first = stored.kept.parts[0]
        entry = {"mediaType": stored.kept.media_type, "digest": first.digest, "size": first.size}
        config = stored.chosen.image.config
        platform = {
            "architecture": config.get("architecture") or manifest.host_architecture(),
            "os": config.get("os") or "linux",
        }
        if config.get("variant"):
            platform["variant"] = config["variant"]
        names: list[Reference | None] = [*stored.chosen.names] or [None]
        for name in names:
            full, tag = manifest.NAME_ANNOTATIONS
            named = {} if name is None else {"annotations": {full: str(name), tag: name.tag}}
            entries.append({**entry, **named, "platform": platform})
    return _json({"schemaVersion": 2, "mediaType": manifest.INDEX_TYPES[0], "manifests": entries})


def _archive_manifest(images: list[_Stored]) -> bytes:
    """manifest.json, as docker writes it: `RepoTags` is null for an image that goes without a name."""
    entries = []
    for stored in images:
        config, *layers = (f"{_BLOBS}/{part.digest.removeprefix('sha256:')}" for part in stored.kept.parts[1:])
        names = [name.familiar for name in stored.chosen.names]
        entries.append({"Config": config, "RepoTags": names or None, "Layers": layers})
    return _json(entries)


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
