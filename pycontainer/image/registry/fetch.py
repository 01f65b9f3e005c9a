"""Blobs of a repository, fetched by a process of their own while those that have arrived are unpacked.

parent, without threads            child
fork                          ->   three threads; connections of its own
poll, receive (unpack.py)     <-   one message a line, JSON: ["progress", digits, bytes], ["arrived", digits, kept];
                                   and the last: ["end", system calls], ["failed", class, step, path, cause, hint] or
                                   ["refused", errno, path]

Because each layer is unpacked by a fork, and nothing is forked from a process with threads, they are not the parent's.

    ROOT/downloads/HEX.partial   what has arrived of a blob so far; whoever fetches it holds a lock, flock(2), on it
    ROOT/downloads/HEX           all of it, verified; removed when an image that needs it is in the store

A blob is fetched by one process at a time; another that needs it waits and finds it there. What a killed pull has left
the next one goes on with.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, NoReturn

import urllib3

from pycontainer.errors import HostError, ImageError, NotFound, PycontainerError, StepFailed, UsageError, printable
from pycontainer.image import downloads
from pycontainer.image.manifest import Descriptor
from pycontainer.image.registry.client import Registry
from pycontainer.image.registry.operations import FetchBlobs
from pycontainer.image.store import Store
from pycontainer.image.stream import CHUNK, write_all
from pycontainer.image.unpack import Progress
from pycontainer.kernel import files, process, record
from pycontainer.kernel.operation import Journal

_AT_ONCE = 3
_RETRIES = 5  # of a connection that breaks off, in a row without a byte between
_STALE = 7 * 24 * 3600  # seconds after which nobody will go on with what has arrived
_POLL = 0.1  # seconds between two looks at a lock that another process has
_ERRORS = {each.__name__: each for each in (HostError, ImageError, NotFound, UsageError)}


@contextlib.contextmanager
def fetch(
    registry: Registry,
    store: Store,
    wanted: list[Descriptor],
    directory: str,
    limit: int,
    progress: Progress | None,
    journal: Journal,
) -> Iterator[Arrivals]:
    """Have the blobs that the store lacks linked into `directory`, in the order of `wanted`. The caller has no threads.

    A blob of more than `limit` bytes is refused. The child ends with the block, and what has arrived of a blob stays
    for the next pull. Raises PycontainerError.
    """
    paths, missing = {}, {}
    for each in wanted:
        if each.size > limit:
            hint = "--max-layer-size sets the limit"
            raise ImageError("pull", each.digest, f"more than {limit} bytes", hint)
        digits = _digits(each)
        paths[digits] = f"{store.blobs}/{digits}"
        if not os.path.exists(paths[digits]):
            missing[digits], paths[digits] = each, f"{directory}/{digits}"
    registry.disconnect()
    receiving, sending = os.pipe()
    parent = os.getpid()

    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            _run(_Fetcher(store, registry, sending), missing, paths, parent)
        return pid

    pid = journal.perform(FetchBlobs(store.blobs, registry, missing, paths, fork))
    os.close(sending)
    try:
        yield Arrivals(receiving, downloads.directory_of(store.root), paths, missing, progress)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(receiving)


class Arrivals:
    """What the child tells of the blobs.

    calls  its system calls, each with how often it was made; when it has ended, and if they are to be explained
    """

    def __init__(
        self,
        pipe: int,
        directory: str,
        paths: dict[str, str],
        missing: dict[str, Descriptor],
        progress: Progress | None,
    ) -> None:
        self._pipe = pipe
        self._directory = directory
        self._paths = paths
        self._sizes = {digits: each.size for digits, each in missing.items()}
        self._awaited = {paths[digits] for digits in missing}
        self._progress = progress
        self._unread = b""
        self._fetched: list[str] = []
        self._ended = False
        self.calls: list[tuple[str, int]] = []
        for digits in missing:
            self._show(digits, 0)

    def path(self, blob: Descriptor) -> str:
        """Where it is, or will be."""
        return self._paths[_digits(blob)]

    def has(self, path: str) -> bool:
        """Whether the blob that `path` was said to be is there, all of it."""
        return path not in self._awaited

    def fileno(self) -> int:
        """What to poll for `receive`."""
        return self._pipe

    def receive(self) -> bool:
        """Wait until there is something to be told; False when there will be nothing more. Raises PycontainerError."""
        data = os.read(self._pipe, 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._take(*json.loads(line))
        if not data and not self._ended:
            raise ImageError("pull", "", "the process that fetches it was killed", "try again: it goes on where it was")
        return bool(data)

    def missing(self) -> list[str]:
        """Where those are, or will be, that the store lacked."""
        return [self._paths[digits] for digits in self._sizes]

    def downloads(self) -> list[str]:
        """The names that the next pull would find them by."""
        return [f"{self._directory}/{digits}" for digits in self._fetched]

    def forget(self) -> None:
        """What was fetched is in the store now."""
        for path in self.downloads():
            with contextlib.suppress(FileNotFoundError):
                files.unlink(path)

    def _take(self, kind: str, *values: Any) -> None:
        if kind == "progress":
            self._show(*values)
        elif kind == "arrived":
            digits, kept = values
            self._awaited.discard(self._paths[digits])
            if not kept:
                self._fetched.append(digits)
        elif kind == "failed":
            name, *words = values
            raise _ERRORS[name](*words)
        elif kind == "refused":
            number, path = values
            raise StepFailed("pull", path, number)
        else:
            self._ended = True
            self.calls = [(line, times) for line, times in values[0]]

    def _show(self, digits: str, count: int) -> None:
        if self._progress is not None:
            self._progress(digits[:12], count, self._sizes[digits])


def _digits(blob: Descriptor) -> str:
    return blob.digest.removeprefix("sha256:")


def _run(fetcher: _Fetcher, missing: dict[str, Descriptor], paths: dict[str, str], parent: int) -> NoReturn:
    """The child. An interrupt is its parent's to answer, which then ends it."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        process.set_parent_death_signal(signal.SIGKILL)
        record.begin_anew()
        if os.getppid() == parent:  # else it died before that could take effect
            fetcher.run(missing, paths)
            status = 0
    finally:
        os._exit(status)


class _Fetcher:
    """Gets blobs, several at a time, and tells of it through the pipe."""

    def __init__(self, store: Store, registry: Registry, pipe: int) -> None:
        self._store = store
        self._registry = registry
        self._pipe = pipe
        self._directory = downloads.directory_of(store.root)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}

    def run(self, missing: dict[str, Descriptor], paths: dict[str, str]) -> None:
        """All of them, or the first error, and then the end."""
        try:
            # Because the store's lock must die with the parent. The parent has closed its connections.
            os.closerange(3, self._pipe)
            os.closerange(self._pipe + 1, 1 << 20)
            self._fetch(missing, paths)
        except PycontainerError as error:
            self._tell("failed", type(error).__name__, error.step, error.path, error.cause, error.hint)
        except OSError as error:
            self._tell("refused", error.errno or 0, error.filename or self._directory)
        else:
            self._tell("end", record.so_far())

    def _fetch(self, missing: dict[str, Descriptor], paths: dict[str, str]) -> None:
        with contextlib.suppress(FileExistsError):
            files.mkdir(self._directory, 0o700)
        stale = time.time() - _STALE
        downloads.remove_idle(self._store.root, lambda changed: changed < stale)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            tasks = [pool.submit(self._get, digits, each, paths[digits]) for digits, each in missing.items()]
            try:
                finished, _ = wait(tasks, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        for task in finished:
            task.result()

    def _tell(self, *message: Any) -> None:
        with self._lock:
            write_all(self._pipe, json.dumps(message).encode() + b"\n")

    def _report(self, blob: Descriptor, count: int) -> None:
        digits = _digits(blob)
        self._done[digits] = self._done.get(digits, 0) + count
        self._tell("progress", digits, self._done[digits])

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
                files.rename(f"{whole}.partial", whole)
            files.link(found or whole, target)
            if found:
                # After the link, because as long as its name is locked nobody removes the whole one (downloads.py).
                files.unlink(f"{whole}.partial")
        self._tell("arrived", digits, found == kept)

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
