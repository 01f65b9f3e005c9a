"""The JSON of images: manifests, indexes and configs become checked, immutable values.

Follows the OCI image-spec 1.1 (manifest.md, image-index.md, config.md), Docker's schema 2, and the manifest.json of
docker archives. What is read here was written by others: every type is checked, once, and trusted afterwards.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, NamedTuple

from pycontainer import json_text
from pycontainer.errors import ImageError

MAX_JSON = 4 << 20  # as much as registries take
MAX_NESTING = 64  # of objects and lists: far more than any image has, far less than what writes them again can take
MAX_CONTAINERS = 100_000  # objects and lists in one document: an empty one of two bytes takes many times that
MAX_IMAGES = 1000  # in one archive
MAX_LAYERS = 500  # as many lower directories as overlayfs takes

INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_TYPES = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
CONFIG_TYPES = (CONFIG_TYPE, "application/vnd.docker.container.image.v1+json")
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
LAYER_TYPES = (
    LAYER_TYPE,
    f"{LAYER_TYPE}+gzip",
    f"{LAYER_TYPE}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)
NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")

_STEP = "read image"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What config.md allows under "config", as far as it is acted on.
_CONFIG_TYPES: dict[str, type] = {
    "User": str,
    "Env": list,
    "Cmd": list,
    "Entrypoint": list,
    "WorkingDir": str,
    "StopSignal": str,
    "Labels": dict,
    "ExposedPorts": dict,
    "Volumes": dict,
}


class Descriptor(NamedTuple):
    """What points at a blob. `platform` is (os, architecture), empty strings where it is not given."""

    media_type: str
    digest: str
    size: int
    platform: tuple[str, str]
    name: str


class Manifest(NamedTuple):
    """One image: its config and its layers, base first."""

    config: Descriptor
    layers: list[Descriptor]


class ArchiveEntry(NamedTuple):
    """One image of a docker archive's manifest.json; `config` and `layers` are names of members."""

    config: str
    tags: list[str]
    layers: list[str]


class Config(NamedTuple):
    """An image config: `data` is all of it, whose digest is the image ID."""

    id: str
    data: bytes
    diff_ids: list[str]
    created: str


def host_architecture() -> str:
    """This machine's architecture as image-spec names it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def digest_of(data: bytes) -> str:
    """The sha256 digest in the form that the image-spec has."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(value: object) -> bool:
    """Whether it is "sha256:" and 64 hexadecimal digits, as everything is addressed here."""
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def parse_json(data: bytes, name: str) -> Any:
    """JSON from outside, such as can be written again: by the reader that the store has as well. Raises ImageError."""
    if data.count(b"{") + data.count(b"[") > MAX_CONTAINERS:
        raise _wrong(name, f"more than {MAX_CONTAINERS} objects and lists")
    try:
        value = json_text.loads(data.decode())
    except UnicodeDecodeError as error:
        raise _wrong(name, f"not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        raise _wrong(name, f"not JSON ({error})") from error
    level, depth = [value], 0
    while level:
        if depth > MAX_NESTING:
            raise _wrong(name, f"more than {MAX_NESTING} levels of objects and lists")
        level, depth = [part for item in level for part in _parts(item, name)], depth + 1
    return value


def _parts(value: Any, name: str) -> list[Any]:
    """What an object or a list holds. No text may hold half of a surrogate pair, which is nothing in UTF-8."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _wrong(name, f"half of a surrogate pair: {value[error.start]!r}") from error
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def is_index(data: bytes, name: str) -> bool:
    """Whether it lists images for several platforms, and is none itself. Raises ImageError."""
    document = _object(parse_json(data, name), name, "manifest")
    return document.get("mediaType") in INDEX_TYPES or ("mediaType" not in document and "manifests" in document)


def parse_index(data: bytes, name: str) -> list[Descriptor]:
    """The entries of an index that are images or indexes; attestations and artifacts are left out."""
    document = _object(parse_json(data, name), name, "index")
    entries = [_descriptor(entry, name) for entry in _images(_list(document.get("manifests"), name, "manifests"), name)]
    entries = [entry for entry in entries if entry.platform != ("unknown", "unknown")]
    for entry in entries:
        if entry.media_type not in INDEX_TYPES + MANIFEST_TYPES:
            raise _wrong(name, f"media type {entry.media_type!r} is not supported")
    return entries


def parse_manifest(data: bytes, name: str) -> Manifest:
    """An image manifest; every media type is one that is supported."""
    document = _object(parse_json(data, name), name, "manifest")
    media_type = document.get("mediaType", MANIFEST_TYPE)
    if document.get("schemaVersion") != 2 or media_type not in MANIFEST_TYPES:
        raise _wrong(name, f"a manifest of type {media_type!r} is not supported")
    config = _descriptor(document.get("config"), name)
    if config.media_type not in CONFIG_TYPES:
        raise _wrong(name, f"not an image to run: its config is of type {config.media_type!r}")
    layers = [_descriptor(entry, name) for entry in _list(document.get("layers"), name, "layers")]
    for layer in layers:
        if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
            raise _wrong(name, f"layer {layer.digest} is not in the archive: it may not be distributed")
        if layer.media_type not in LAYER_TYPES:
            raise _wrong(name, f"layer media type {layer.media_type!r} is not supported")
    return Manifest(config, layers)


def parse_archive_manifest(data: bytes) -> list[ArchiveEntry]:
    """manifest.json of a docker archive."""
    name = "manifest.json"
    result = []
    for item in _images(_list(parse_json(data, name), name, "document"), name):
        entry = _object(item, name, "entry")
        result.append(
            ArchiveEntry(
                _string(entry.get("Config"), name, "Config"),
                _strings(_get(entry, "RepoTags", []), name, "RepoTags"),
                _strings(_get(entry, "Layers", []), name, "Layers"),
            )
        )
    return result


def parse_config(data: bytes, name: str) -> Config:
    """An image config for Linux. Raises ImageError."""
    document = _object(parse_json(data, name), name, "config")
    if document.get("os", "linux") != "linux":
        raise _wrong(name, f"the image is for {document.get('os')!r}, not for linux")
    for key in ("architecture", "variant", "created", "author"):
        if document.get(key) is not None:
            _string(document[key], name, key)
    rootfs = _object(document.get("rootfs"), name, "rootfs")
    diff_ids = _strings(_get(rootfs, "diff_ids", []), name, "diff_ids")
    if rootfs.get("type") != "layers" or not all(map(_DIGEST.fullmatch, diff_ids)):
        raise _wrong(name, "rootfs is not a list of sha256 diff ids")
    if len(diff_ids) > MAX_LAYERS:
        raise _wrong(name, f"more than {MAX_LAYERS} layers")
    for item in _list(_get(document, "history", []), name, "history"):
        _object(item, name, "history")
    settings = _object(_get(document, "config", {}), name, "config.config")
    for key, kind in _CONFIG_TYPES.items():
        value = settings.get(key)
        if value is None:
            continue
        if kind is list:
            _strings(value, name, key)
        elif kind is str:
            _string(value, name, key)
        else:
            _object(value, name, key)
    for key, label in (_get(settings, "Labels", {})).items():
        _string(label, name, f"label {key}")
    return Config(digest_of(data), data, diff_ids, document.get("created") or "")


def choose_platform(entries: list[Descriptor], name: str, platform: tuple[str, str] | None = None) -> list[Descriptor]:
    """Of entries that are one image for several platforms, the host's; entries that tell no platform are all kept.

    platform  (os, architecture) of the one that is wanted in place of the host's

    Raises ImageError if there are platforms and none is the one that is wanted.
    """
    known = [entry for entry in entries if entry.platform != ("", "")]
    if not known:
        return entries
    host = platform or ("linux", host_architecture())
    for entry in known:
        if entry.platform == host:
            return [entry]
    platforms = ", ".join(sorted({"/".join(entry.platform) for entry in known}))
    raise _wrong(name, f"no image for {'/'.join(host)}, only for {platforms}")


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain id of each layer, in hexadecimal (config.md, "Layer ChainID")."""
    chains: list[str] = []
    for diff_id in diff_ids:
        text = f"sha256:{chains[-1]} {diff_id}" if chains else ""
        chains.append(hashlib.sha256(text.encode()).hexdigest() if text else diff_id.removeprefix("sha256:"))
    return chains


def _descriptor(value: Any, name: str) -> Descriptor:
    entry = _object(value, name, "descriptor")
    digest = _string(entry.get("digest"), name, "digest")
    if not _DIGEST.fullmatch(digest):
        raise _wrong(name, f"digest {digest!r} is not a sha256 digest")
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _wrong(name, f"size {size!r} of {digest} is not a size")
    platform = _object(_get(entry, "platform", {}), name, "platform")
    annotations = _object(_get(entry, "annotations", {}), name, "annotations")
    return Descriptor(
        _string(entry.get("mediaType"), name, "mediaType"),
        digest,
        size,
        (_string(platform.get("os", ""), name, "os"), _string(platform.get("architecture", ""), name, "architecture")),
        next((_string(annotations[key], name, key) for key in NAME_ANNOTATIONS if annotations.get(key)), ""),
    )


def _get(document: dict[str, Any], key: str, default: Any) -> Any:
    """A key that may be absent or null."""
    value = document.get(key)
    return default if value is None else value


def _object(value: Any, name: str, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(name, f"{what} is not an object")
    return value


def _list(value: Any, name: str, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(name, f"{what} is not a list")
    return value


def _images(entries: list[Any], name: str) -> list[Any]:
    if len(entries) > MAX_IMAGES:
        raise _wrong(name, f"more than {MAX_IMAGES} images")
    return entries


def _string(value: Any, name: str, what: str) -> str:
    if not isinstance(value, str):
        raise _wrong(name, f"{what} is not a string")
    return value


def _strings(value: Any, name: str, what: str) -> list[str]:
    return [_string(item, name, what) for item in _list(value, name, what)]


def _wrong(name: str, cause: str) -> ImageError:
    return ImageError(_STEP, name, cause)
