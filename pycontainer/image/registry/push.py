"""`push`: images of the store into a repository of a registry.

    layers, three at a time (upload.py)
    └─ config
       └─ manifest, which makes all of it an image, under its tag

Bytes and media types are those that the store keeps, so that the digest stays what it was.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pycontainer.errors import HostError, ImageError, ImageNotFound, StepFailed, UsageError
from pycontainer.image import kept, reference
from pycontainer.image.kept import Kept, Part
from pycontainer.image.reference import Reference
from pycontainer.image.registry import credentials
from pycontainer.image.registry.client import ATTEMPTS, Notify, Registry, connect
from pycontainer.image.registry.trouble import NotTLS
from pycontainer.image.registry.upload import STEP, Uploader, check_digest
from pycontainer.image.store import Image, Store
from pycontainer.image.unpack import Progress

_AT_ONCE = 3
_MOST_ORIGINS = 8  # repositories that a token is asked for besides: they all stand in one URL


class _Tagged(NamedTuple):
    """An image, under the tag that it goes with; `diff_ids` are what docker calls its layers by."""

    name: Reference
    kept: Kept
    diff_ids: list[str]


def parse(text: str, *, all_tags: bool = False) -> Reference:
    """What is to be pushed. Raises UsageError."""
    name = reference.parse(text, tagged=not all_tags)
    if name.digest:
        raise UsageError("cannot push a digest reference", text, hint="name a tag; `pycontainer tag` gives one")
    if all_tags and name.tag:
        raise UsageError("tag can't be used with --all-tags/-a", text, hint="leave the tag away")
    return name


def push(
    store: Store,
    name: Reference,
    *,
    tell: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
    notify: Notify = lambda _: None,
) -> None:
    """Have an image in its registry, or all images of the repository where `name` has no tag.

    tell  gets docker's lines; may be called by several threads, never by two at once

    Raises PycontainerError; what has arrived by then stays there, and is not sent again.
    """
    try:
        store.make_directories()
        lock = store.lock_shared()
    except OSError as error:
        raise StepFailed("open image store", error.filename or store.root, error.errno or 0) from error
    # Held until the end, so that no blob is freed meanwhile, whatever `rmi` does.
    try:
        images = [_read(image, each, store) for each, image in choose(store, name)]
        origins = find_origins(store, name, {part.digest for image in images for part in image.kept.parts[1:]})
        registry = _reach(name, sorted(set(origins.values())), notify)
        pusher = _Pusher(store, registry, origins, tell, progress)
        pusher.add(part for image in images for part in image.kept.parts[1:])
        for image in images:
            pusher.push(image)
    finally:
        os.close(lock)


def choose(store: Store, name: Reference) -> list[tuple[Reference, Image]]:
    """The images of a name that has a tag, or of all tags of one that has none. Raises NotFound, in docker's words."""
    found = dict(store.names_in(name.name))
    if not found:
        cause = "An image does not exist locally with the tag"
        raise ImageNotFound(cause, name.familiar_name, hint=f"`pycontainer tag IMAGE {name.familiar}` gives it to one")
    if name.tag and str(name) not in found:
        raise ImageNotFound("tag does not exist", name.familiar, hint=f"`pycontainer images {name.familiar_name}`")
    chosen = [str(name)] if name.tag else list(found)
    return [(reference.parse(each), store.get(found[each])) for each in chosen]


def find_origins(store: Store, name: Reference, digests: set[str]) -> dict[str, str]:
    """For a digest another repository of the same registry that may have it, because an image of that name does."""
    rows = store.connection.execute(
        "SELECT name, blobs FROM image_names JOIN images ON id = image_id WHERE name >= ?1 || '/' AND name < ?1 || '0'"
        " ORDER BY name",
        (name.domain,),  # '0' follows '/'
    ).fetchall()
    found: dict[str, str] = {}
    for text, blobs in rows:
        path = reference.parse(text).path
        if path == name.path or (path not in found.values() and len(set(found.values())) == _MOST_ORIGINS):
            continue
        for digits in blobs.split():
            if f"sha256:{digits}" in digests:
                found.setdefault(f"sha256:{digits}", path)
    return found


def _read(image: Image, name: Reference, store: Store) -> _Tagged:
    found = kept.read_image(store, image, name.familiar, STEP)
    rootfs = image.config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != len(found.parts) - 2 or not all(map(_is_text, diff_ids)):
        raise ImageError(STEP, name.familiar, "its config and its manifest do not have the same layers")
    return _Tagged(name, found, diff_ids)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _reach(name: Reference, origins: list[str], notify: Notify) -> Registry:
    """The registry itself, never a mirror, by the first way on which it answers. Raises HostError, UsageError."""
    scopes = (f"repository:{name.path}:pull,push", *(f"repository:{origin}:pull" for origin in origins))
    failure: HostError | None = None
    for registry in connect(name.domain, name.path, credentials.find(name.domain), notify, scopes):
        try:
            registry.reach()
            return registry
        except HostError as error:
            failure = error if failure is None or isinstance(failure, NotTLS) else failure
    assert failure is not None
    raise failure


class _Pusher:
    """Pushes images of one repository, and says what comes of it."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        origins: dict[str, str],
        tell: Callable[[str], None],
        progress: Progress | None,
    ) -> None:
        self._registry = registry
        self._tell = tell
        self._progress = progress
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._uploader = Uploader(store, registry, origins, self._report, self._stop)

    def add(self, parts: Iterable[Part]) -> None:
        """Count what there will be to push."""
        self._total += sum(part.size for part in parts)
        self._report(0)

    def push(self, image: _Tagged) -> None:
        """Layers, config, manifest. Raises PycontainerError."""
        manifest, config, *layers = image.kept.parts
        jobs: dict[str, Callable[[], None]] = {}
        for part, diff_id in zip(layers, image.diff_ids, strict=True):
            if part.digest in jobs:
                self._report(part.size)
            else:
                jobs[part.digest] = lambda part=part, diff_id=diff_id: self._layer(part, diff_id)  # type: ignore[misc]
        run_at_once([*jobs.values()], self._stop)
        self._uploader.put(config)
        tag = image.name.tag
        headers = {"Content-Type": image.kept.media_type}
        for attempt in range(1, ATTEMPTS + 1):
            with self._registry.ask("PUT", f"manifests/{tag}", headers, image.kept.data) as response:
                # docker-registry 2.8 does not know a blob for a moment that two pushes have brought at once.
                if response.status != 400 or attempt == ATTEMPTS:
                    self._registry.refuse(response, tag)
                    check_digest(response, manifest.digest, image.name.familiar)
                    break
            time.sleep(0.2 * attempt)
        self._say(f"{tag}: digest: {manifest.digest} size: {manifest.size}")

    def _layer(self, part: Part, diff_id: str) -> None:
        self._say(f"{diff_id.removeprefix('sha256:')[:12]}: {self._uploader.put(part)}")

    def _say(self, line: str) -> None:
        with self._lock:
            if not self._stop.is_set():
                self._tell(line)

    def _report(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._progress is not None and not self._stop.is_set():
                self._progress("pushing", self._done, self._total)


def run_at_once(jobs: list[Callable[[], None]], stop: threading.Event) -> None:
    """Do them, three at a time. Raises what the first raises that fails; `stop` tells the others then.

    They are not waited for, for one may hang in a read from the network, and nothing is to be put away after it.
    """
    waiting = deque(jobs)
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        while waiting and not stop.is_set():
            try:
                job = waiting.popleft()
            except IndexError:
                return
            try:
                job()
                ended.put(None)
            except BaseException as error:
                ended.put(error)

    for _ in range(min(_AT_ONCE, len(jobs))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in jobs:
            if (error := ended.get()) is not None:
                raise error
    except BaseException:
        stop.set()
        raise
