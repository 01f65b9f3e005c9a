"""`pull`: an image from a registry into the store.

manifest (by way of an index, if the image is for several platforms)
└─ config and layers: three at a time, by a process of their own (fetch.py)
   └─ each layer is unpacked as soon as it is there, and all are committed as `load` does it (workspace.py)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pycontainer.errors import HostError, ImageError, NotFound, PycontainerError, UsageError
from pycontainer.image import manifest, policy, reference
from pycontainer.image.ingest import ARCHIVE_FACTOR, Blob
from pycontainer.image.load import DEFAULT_MAX_LAYER_SIZE, MAX_NESTED_INDEXES
from pycontainer.image.reference import Reference
from pycontainer.image.registry import credentials
from pycontainer.image.registry.client import Notify, Registry, connect
from pycontainer.image.registry.fetch import fetch
from pycontainer.image.registry.operations import AwaitBlobs, FetchManifest, ForgetDownloads
from pycontainer.image.store import Store
from pycontainer.image.unpack import Progress
from pycontainer.image.workspace import NewImage, Workspace
from pycontainer.kernel.operation import Journal


class Pulled(NamedTuple):
    """What came of it. `digest` is that of the name: of an index, if the image is for several platforms."""

    name: Reference
    digest: str
    image_id: str
    is_new: bool


def pull(
    store: Store,
    name: Reference,
    *,
    platform: tuple[str, str] | None = None,
    progress: Progress | None = None,
    notify: Notify = lambda _: None,
    max_layer_size: int = DEFAULT_MAX_LAYER_SIZE,
    keys: Sequence[str] = (),
    journal: Journal | None = None,
) -> Pulled:
    """Have an image in the store, under its name if it has a tag. Raises PycontainerError; then nothing has changed.

    platform  (os, architecture), None for the host's
    keys      files of public keys, of which one must have signed it; none for whoever the policy wants (policy.py)
    """
    verify = _verifier(name, keys)
    journal = journal or Journal()

    def find() -> tuple[Registry, bytes, manifest.Manifest, str, str]:
        registry, data, digest = _find(name, notify)
        return registry, *_choose(registry, data, digest, str(name), platform), digest

    with Workspace(store, max_layer_size, max_layer_size * ARCHIVE_FACTOR, journal) as work:
        registry, data, found, image_digest, digest = journal.perform(FetchManifest(name, find))
        verified = verify(registry, [image_digest, digest])
        known = store.connection.execute("SELECT id FROM images WHERE digest = ?", (image_digest,)).fetchone()
        blobs = [found.config, *found.layers]
        with fetch(registry, store, blobs, work.directory, max_layer_size, progress, journal) as arrivals:
            config_blob, *layers = [
                Blob(arrivals.path(each), each.digest.removeprefix("sha256:"), each.size) for each in blobs
            ]
            if config_blob.size > manifest.MAX_JSON:
                raise ImageError("pull", str(name), f"its config is larger than {manifest.MAX_JSON} bytes")
            while not arrivals.has(config_blob.path):
                arrivals.receive()
            with open(config_blob.path, "rb") as file:
                config = manifest.parse_config(file.read(), str(name))
            if not layers or len(layers) != len(config.diff_ids):
                raise ImageError("pull", str(name), f"{len(layers)} layers, but {len(config.diff_ids)} diff ids")
            work.unpack_image(config, layers, progress, arrivals)
            journal.perform(AwaitBlobs(arrivals))
            names = [str(name._replace(digest=""))] if name.tag else []
            work.commit([NewImage(config, [work.add_blob(data), config_blob, *layers], names, verified)])
            journal.perform(ForgetDownloads(arrivals))
    return Pulled(name, digest, config.id, known is None)


def _verifier(name: Reference, keys: Sequence[str]) -> Callable[[Registry, list[str]], dict[str, str]]:
    """What raises unless the image is signed by one of the keys, and as the policy wants it for that name.

    It gives the digests of the keys that have signed it, and what of it. Raises UsageError where a key is none.
    """
    rule = policy.find(name)
    if not keys and rule is None:
        return lambda registry, digests: {}
    # Only now, because the library takes a while to import.
    from pycontainer.image.registry import signature

    wanted = [[signature.load_key(path, "--verify") for path in keys]] if keys else []
    if rule is not None:
        wanted.append([signature.load_key(rule.key, f'[signatures] "{rule.prefix}"')])
    return lambda registry, digests: dict(signature.verify(registry, digests, each, str(name)) for each in wanted)


def tags(name: Reference, notify: Notify) -> list[str]:
    """All tags of a repository. Raises NotFound, UsageError, ImageError, HostError."""
    failure: PycontainerError | None = None
    for registry in connect(name.domain, name.path, credentials.find(name.domain), notify):
        try:
            return registry.tags()
        except (HostError, NotFound) as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _find(name: Reference, notify: Notify) -> tuple[Registry, bytes, str]:
    """Who has it, its manifest or index, and the digest of that. A mirror that fails is passed over."""
    failure: PycontainerError | None = None
    for registry in connect(name.domain, name.path, credentials.find(name.domain), notify):
        try:
            return registry, *registry.manifest(name.digest or name.tag)
        except (HostError, NotFound, UsageError) as error:
            # What the last one says is the registry's own word, unless nobody was there.
            failure = error if failure is None or not isinstance(error, HostError) else failure
    assert failure is not None
    raise failure


def _choose(
    registry: Registry, data: bytes, digest: str, name: str, platform: tuple[str, str] | None
) -> tuple[bytes, manifest.Manifest, str]:
    """The manifest of one platform's image, parsed, and its digest. Raises ImageError."""
    for _ in range(MAX_NESTED_INDEXES):
        if not manifest.is_index(data, name):
            return data, manifest.parse_manifest(data, name), digest
        entries = manifest.choose_platform(manifest.parse_index(data, name), name, platform)
        if not entries:
            raise ImageError("pull", name, "there is no image in it")
        data, digest = registry.manifest(entries[0].digest)
    raise ImageError("pull", name, f"more than {MAX_NESTED_INDEXES} nested indexes")


def parse(text: str, *, all_tags: bool = False) -> Reference:
    """What is to be pulled. Raises UsageError."""
    name = reference.parse(text, tagged=not all_tags)
    if all_tags and (name.tag or name.digest):
        raise UsageError("pull", text, "one tag, and all of them", "leave the tag away")
    return name
