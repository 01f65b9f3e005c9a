"""`pull`: an image from a registry into the store.

    manifest (by way of an index, if the image is for several platforms)
    └─ config and layers: three at a time into ROOT/downloads, hashed while they arrive
       └─ unpacked and committed as `load` does it (workspace.py)

    ROOT/downloads/HEX.partial   what has arrived of a blob so far; whoever fetches it holds a lock, flock(2), on it
    ROOT/downloads/HEX           all of it, verified; removed when an image that needs it is in the store

A blob is fetched by one process at a time; another that needs it waits and finds it there. What a killed pull has left
the next one goes on with.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import NamedTuple

import urllib3

from pycontainer.errors import HostError, ImageError, NotFound, PycontainerError, StepFailed, UsageError, printable
from pycontainer.image import downloads, manifest, policy, reference
from pycontainer.image.ingest import ARCHIVE_FACTOR, Blob
from pycontainer.image.load import DEFAULT_MAX_LAYER_SIZE, MAX_NESTED_INDEXES
from pycontainer.image.manifest import Descriptor
from pycontainer.image.reference import Reference
from pycontainer.image.registry import credentials
from pycontainer.image.registry.client import Notify, Registry, connect
from pycontainer.image.store import Store
from pycontainer.image.stream import CHUNK, write_all
from pycontainer.image.unpack import Progress
from pycontainer.image.workspace import NewImage, Workspace

_AT_ONCE = 3
_RETRIES = 5  # of a connection that breaks off, in a row without a byte between
_STALE = 7 * 24 * 3600  # seconds after which nobody will go on with what has arrived
_POLL = 0.1  # seconds between two looks at a lock that another process has


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
) -> Pulled:
    """Have an image in the store, under its name if it has a tag. Raises PycontainerError; then nothing has changed.

    platform  (os, architecture), None for the host's
    keys      files of public keys, of which one must have signed it; none for whoever the policy wants (policy.py)
    """
    verify = _verifier(name, keys)
    with Workspace(store, max_layer_size, max_layer_size * ARCHIVE_FACTOR) as work:
        registry, data, digest = _find(name, notify)
        data, found, image_digest = _choose(registry, data, digest, str(name), platform)
        verified = verify(registry, [image_digest, digest])
        known = store.connection.execute("SELECT id FROM images WHERE digest = ?", (image_digest,)).fetchone()
        fetcher = Fetcher(store, registry, max_layer_size, progress)
        paths = fetcher.fetch([found.config, *found.layers], work.directory)
        config_blob, *layers = [
            Blob(path, each.digest.removeprefix("sha256:"), each.size)
            for path, each in zip(paths, [found.config, *found.layers], strict=True)
        ]
        if config_blob.size > manifest.MAX_JSON:
            raise ImageError("pull", str(name), f"its config is larger than {manifest.MAX_JSON} bytes")
        with open(config_blob.path, "rb") as file:
            config = manifest.parse_config(file.read(), str(name))
        if not layers or len(layers) != len(config.diff_ids):
            raise ImageError("pull", str(name), f"{len(layers)} layers, but {len(config.diff_ids)} diff ids")
        work.unpack_image(config, layers, progress)
        names = [str(name._replace(digest=""))] if name.tag else []
        work.commit([NewImage(config, [work.add_blob(data), config_blob, *layers], names, verified)])
        fetcher.forget()
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


class Fetcher:
    """Gets blobs of a repository, several at a time."""

    def __init__(self, store: Store, registry: Registry, limit: int, progress: Progress | None) -> None:
        self._store = store
        self._registry = registry
        self._limit = limit
        self._progress = progress
        self._directory = downloads.directory_of(store.root)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}
        self._fetched: list[str] = []

    def fetch(self, wanted: list[Descriptor], directory: str) -> list[str]:
        """Files that are the blobs, in the store or linked into `directory`. Raises PycontainerError."""
        os.makedirs(self._directory, 0o700, exist_ok=True)
        stale = time.time() - _STALE
        downloads.remove_idle(self._store.root, lambda changed: changed < stale)
        missing: dict[str, Descriptor] = {}
        paths: dict[str, str] = {}
        for each in wanted:
            digits = each.digest.removeprefix("sha256:")
            if each.size > self._limit:
                hint = "--max-layer-size sets the limit"
                raise ImageError("pull", each.digest, f"more than {self._limit} bytes", hint)
            paths[digits] = f"{self._store.blobs}/{digits}"
            if not os.path.exists(paths[digits]):
                missing[digits], paths[digits] = each, f"{directory}/{digits}"
        for each in missing.values():
            self._report(each, 0)
        try:
            # Joined before anything is forked: what has threads must not be.
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                tasks = [pool.submit(self._get, digits, each, paths[digits]) for digits, each in missing.items()]
                try:
                    finished, _ = wait(tasks, return_when=FIRST_EXCEPTION)
                finally:
                    self._stop.set()
                    pool.shutdown(wait=True, cancel_futures=True)
            for task in finished:
                task.result()
        except OSError as error:
            raise StepFailed("pull", error.filename or self._directory, error.errno or 0) from error
        return [paths[each.digest.removeprefix("sha256:")] for each in wanted]

    def forget(self) -> None:
        """What was fetched is in the store now."""
        for path in self._fetched:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _report(self, blob: Descriptor, count: int) -> None:
        with self._lock:
            done = self._done[blob.digest] = self._done.get(blob.digest, 0) + count
            if self._progress is not None:
                self._progress(blob.digest.removeprefix("sha256:")[:12], done, blob.size)

    def _get(self, digits: str, descriptor: Descriptor, target: str) -> None:
        """Have the blob at `target`."""
        whole, kept = f"{self._directory}/{digits}", f"{self._store.blobs}/{digits}"
        with self._locked(f"{whole}.partial") as partial:
            # Looked at once more, now that nobody else can be about to fetch it, or to put it there.
            found = next((path for path in (whole, kept) if os.path.exists(path)), "")
            if found:
                self._report(descriptor, descriptor.size)
            else:
                self._fill(partial, descriptor)
                os.rename(f"{whole}.partial", whole)
            os.link(found or whole, target)
            if found:
                # After the link, because as long as its name is locked nobody removes the whole one (downloads.py).
                os.unlink(f"{whole}.partial")
        if found != kept:
            self._fetched.append(whole)

    @contextlib.contextmanager
    def _locked(self, path: str) -> Iterator[int]:
        """The file, made if need be, that no other process has locked. Raises OSError."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had it may have given it its other name.
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    yield descriptor
                    return
            except BlockingIOError:
                # Looked at again and again, because who waits in flock(2) cannot be told to stop.
                if self._stop.wait(_POLL):
                    raise HostError("pull", path, "interrupted") from None
            except FileNotFoundError:
                pass
            finally:
                os.close(descriptor)

    def _fill(self, descriptor: int, wanted: Descriptor) -> None:
        """Append what is missing. Raises ImageError where it is not what was asked for; then nothing of it stays."""
        hasher, size = hashlib.sha256(), 0
        while data := os.read(descriptor, CHUNK):
            hasher.update(data)
            size += len(data)
        self._report(wanted, min(size, wanted.size))
        failures = 0
        while size < wanted.size:
            before = size
            try:
                with self._registry.blob(wanted, size) as response:
                    if response.status == 416:
                        self._discard(descriptor, wanted, f"it has {size} bytes, not the {wanted.size} of its manifest")
                    if size and response.status != 206:
                        # It cannot go on in the middle.
                        self._report(wanted, -size)
                        size, before, hasher = 0, 0, hashlib.sha256()
                        os.ftruncate(descriptor, 0)
                        os.lseek(descriptor, 0, os.SEEK_SET)
                    while size < wanted.size and (data := response.read(CHUNK, decode_content=False)):
                        if self._stop.is_set():
                            raise HostError("pull", wanted.digest, "interrupted")
                        if size + len(data) > wanted.size:
                            self._discard(
                                descriptor, wanted, f"it has more than the {wanted.size} bytes of its manifest"
                            )
                        write_all(descriptor, data)
                        hasher.update(data)
                        size += len(data)
                        self._report(wanted, len(data))
                if size == before:
                    raise urllib3.exceptions.ProtocolError("nothing came")
            except urllib3.exceptions.HTTPError as error:
                failures = 0 if size > before else failures + 1
                if failures > _RETRIES:
                    cause = f"the connection broke off {failures} times: {printable(str(error))}"
                    raise HostError("pull", wanted.digest, cause, "try again: it goes on where it was") from error
                if self._stop.wait(0.1 * failures):
                    raise HostError("pull", wanted.digest, "interrupted") from None
        if f"sha256:{hasher.hexdigest()}" != wanted.digest or size > wanted.size:
            self._discard(descriptor, wanted, f"wrong digest: what came is sha256:{hasher.hexdigest()}")

    def _discard(self, descriptor: int, wanted: Descriptor, cause: str) -> None:
        os.ftruncate(descriptor, 0)
        raise ImageError("pull", wanted.digest, cause, "the registry, or somebody on the way to it, has changed it")


def parse(text: str, *, all_tags: bool = False) -> Reference:
    """What is to be pulled. Raises UsageError."""
    name = reference.parse(text, tagged=not all_tags)
    if all_tags and (name.tag or name.digest):
        raise UsageError("pull", text, "one tag, and all of them", "leave the tag away")
    return name
