"""`load`: the images of a docker archive, an OCI archive, or an OCI layout directory."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

from pycontainer.errors import ImageError, UsageError
from pycontainer.image import manifest, reference
from pycontainer.image.ingest import ARCHIVE_FACTOR, Blob, Files, ingest_archive, ingest_layout
from pycontainer.image.manifest import Config, Descriptor
from pycontainer.image.operations import ReadArchive
from pycontainer.image.reference import Reference
from pycontainer.image.store import Store
from pycontainer.image.stream import Readable
from pycontainer.image.unpack import Progress
from pycontainer.image.workspace import NewImage, Workspace
from pycontainer.kernel.operation import Journal

DEFAULT_MAX_LAYER_SIZE = 16 << 30
MAX_NESTED_INDEXES = 4

_CONFIG_NAME = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?")
_MAGIC_SUFFIXES = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


def load(
    store: Store,
    source: Readable | str,
    *,
    progress: Progress | None = None,
    max_layer_size: int = DEFAULT_MAX_LAYER_SIZE,
    total: int = 0,
    wanted: Reference | None = None,
    journal: Journal | None = None,
) -> list[str]:
    """Add the images of `source`, a stream or the path of an OCI layout directory; lines as `docker load` prints them.

    All of them or none; with `wanted` only the one that has this name, or the only one there is, under this name alone.
    `total` is the length of the stream in bytes where it is known, for `progress`.
    Raises ImageError, StepFailed, HostError.
    """
    journal = journal or Journal()
    with Workspace(store, max_layer_size, max_layer_size * ARCHIVE_FACTOR, journal) as work:
        files = _read(source, work.directory, max_layer_size, reporter(progress, "reading", total), journal)
        if "manifest.json" in files:
            images = _docker_images(files, work)
        elif "index.json" in files:
            images = _oci_images(files)
        else:
            raise ImageError(
                "read image",
                "",
                "no manifest.json and no index.json in it",
                "a root file system is read by `pycontainer import`",
            )
        if not images:
            raise ImageError("read image", "", "there is no image in it")
        if wanted is not None:
            images = [_choose(images, wanted)]
        for image in images:
            work.unpack_image(image.config, image.blobs[2:], progress)
        work.commit(images)
    lines: list[str] = []
    for image in images:
        lines.extend(f"Loaded image: {reference.parse(name).familiar}" for name in image.names)
        if not image.names:
            lines.append(f"Loaded image ID: {image.config.id}")
    return lines


def _read(
    source: Readable | str, directory: str, limit: int, on_read: Callable[[int], None] | None, journal: Journal
) -> Files:
    """What the archive or layout holds, copied into `directory`. Raises ImageError, StepFailed."""

    def read() -> Files:
        if isinstance(source, str):
            return ingest_layout(source, directory, limit, on_read)
        return ingest_archive(source, directory, limit, on_read)

    is_layout = isinstance(source, str)
    name = source if isinstance(source, str) else getattr(source, "name", "-")
    found: Files = journal.perform(
        ReadArchive(name if isinstance(name, str) else "-", directory, read, is_layout=is_layout)
    )
    return found


def _choose(images: list[NewImage], wanted: Reference) -> NewImage:
    """The image that is called so, or is the only one. Raises ImageError."""
    name = str(wanted)
    chosen = [image for image in images if name in image.names]
    if not chosen and len({image.config.id for image in images}) > 1:
        names = ", ".join(sorted(reference.parse(each).familiar for image in images for each in image.names))
        cause = f"several images in it, and none is {wanted.familiar}, but {names or 'they have no names'}"
        raise ImageError("read image", "", cause, "`pycontainer load -i FILE` takes all of them")
    return (chosen or images)[-1]._replace(names=[name])


def reporter(progress: Progress | None, step: str, total: int) -> Callable[[int], None] | None:
    """`progress` as a function of the bytes alone."""
    return None if progress is None else lambda done: progress(step, done, total)


def make_manifest(config: Blob, layers: list[Blob]) -> bytes:
    """An OCI manifest for an image that came without one."""

    def descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": f"sha256:{blob.hex}", "size": blob.size}

    document = {
        "schemaVersion": 2,
        "mediaType": manifest.MANIFEST_TYPE,
        "config": descriptor(manifest.CONFIG_TYPE, config),
        "layers": [descriptor(manifest.LAYER_TYPE + _suffix(layer), layer) for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _suffix(layer: Blob) -> str:
    with open(layer.path, "rb", buffering=0) as file:
        return _MAGIC_SUFFIXES.get(file.read(2), "")


def _docker_images(files: Files, work: Workspace) -> list[NewImage]:
    images = []
    configs: dict[str, Config] = {}
    manifests = _kept_manifests(files)
    for entry in manifest.parse_archive_manifest(files.read("manifest.json")):
        config_blob = files.blob(entry.config)
        if (match := _CONFIG_NAME.fullmatch(entry.config)) and match[1] != config_blob.hex:
            raise ImageError("read image", entry.config, f"wrong digest: its content is sha256:{config_blob.hex}")
        config = configs.get(config_blob.hex) or manifest.parse_config(files.read(entry.config), entry.config)
        configs[config_blob.hex] = config
        layers = [files.blob(name) for name in entry.layers]
        _check_layers(config, layers, entry.config)
        key = tuple(blob.hex for blob in (config_blob, *layers))
        manifest_blob = manifests.get(key) or work.add_blob(make_manifest(config_blob, layers))
        images.append(NewImage(config, [manifest_blob, config_blob, *layers], _names(entry.tags)))
    return images


def _kept_manifests(files: Files) -> dict[tuple[str, ...], Blob]:
    """The manifests of an archive that is an OCI one as well, by the blobs of their config and layers.

    With its manifest an image keeps its digest. But only manifest.json says what is in a docker archive: some versions
    of docker write manifests there that name no layers, and whatever is wrong with one is no fault of the archive's.
    """
    found: dict[tuple[str, ...], Blob] = {}
    if "index.json" not in files:
        return found
    with contextlib.suppress(ImageError):
        entries = manifest.parse_index(files.read("index.json"), "index.json")
        # Each once: an image with several names is there as often.
        for entry in {entry.digest: entry for entry in entries if entry.media_type in manifest.MANIFEST_TYPES}.values():
            with contextlib.suppress(ImageError):
                name, blob = _oci_blob(files, entry)
                parsed = manifest.parse_manifest(files.read(name), name)
                parts = [_oci_blob(files, part)[1].hex for part in (parsed.config, *parsed.layers)]
                found[tuple(parts)] = blob
    return found


def _oci_images(files: Files) -> list[NewImage]:
    groups: dict[str, list[Descriptor]] = {}
    for entry in manifest.parse_index(files.read("index.json"), "index.json"):
        groups.setdefault(entry.name, []).append(entry)
    images = []
    for name, entries in groups.items():
        for entry in manifest.choose_platform(entries, "index.json"):
            image = _oci_image(files, entry)
            # A bare tag, which is what most tools write there, says nothing about the repository.
            images.append(image._replace(names=_names([name]) if set(name) & set(":/") else []))
    return images


def _oci_image(files: Files, entry: Descriptor) -> NewImage:
    for _ in range(MAX_NESTED_INDEXES):
        name, blob = _oci_blob(files, entry)
        if entry.media_type not in manifest.INDEX_TYPES:
            break
        entries = manifest.choose_platform(manifest.parse_index(files.read(name), name), name)
        if not entries:
            raise ImageError("read image", name, "there is no image in it")
        entry = entries[0]
    else:
        raise ImageError("read image", name, f"more than {MAX_NESTED_INDEXES} nested indexes")
    found = manifest.parse_manifest(files.read(name), name)
    config_name, config_blob = _oci_blob(files, found.config)
    config = manifest.parse_config(files.read(config_name), config_name)
    layers = [_oci_blob(files, layer)[1] for layer in found.layers]
    _check_layers(config, layers, name)
    return NewImage(config, [blob, config_blob, *layers], [])


def _oci_blob(files: Files, descriptor: Descriptor) -> tuple[str, Blob]:
    """A blob's name in the layout and the blob. Digest and size were taken while it arrived."""
    name = f"blobs/{descriptor.digest.replace(':', '/')}"
    blob = files.blob(name)
    if blob.hex != descriptor.digest.removeprefix("sha256:"):
        raise ImageError("read image", name, f"wrong digest: its content is sha256:{blob.hex}")
    if blob.size != descriptor.size:
        raise ImageError("read image", name, f"wrong size: it has {blob.size} bytes, not {descriptor.size}")
    return name, blob


def _check_layers(config: Config, layers: list[Blob], name: str) -> None:
    if len(layers) != len(config.diff_ids):
        raise ImageError("read image", name, f"{len(layers)} layers, but {len(config.diff_ids)} diff ids")
    if not layers:
        raise ImageError("read image", name, "an image without layers")


def _names(texts: list[str]) -> list[str]:
    names = []
    for text in texts:
        try:
            parsed = reference.parse(text)
            if parsed.tag:
                names.append(str(reference.parse_name(str(parsed._replace(digest="")))))
        except UsageError as error:
            raise ImageError("read image", text, "not a valid image name") from error
    return names
