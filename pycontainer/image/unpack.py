"""Layers are unpacked by forked children, two at a time, each chrooted into the directory it fills.

parent                              child
open blob, mkdir, pipe, fork  ->    read blob from its descriptor, chroot, unpack, verify the diff id
poll the pipes                <-    one JSON object, then exit
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
from collections.abc import Callable
from io import FileIO
from typing import Any, NamedTuple, NoReturn, Protocol

from pycontainer.errors import HostError, ImageError, StepFailed
from pycontainer.image.layer import Tree, unpack
from pycontainer.image.stream import ForwardStream, too_large, write_all
from pycontainer.kernel import files, process, record

PARALLEL = 2
MAX_IMPLIED = 16 << 20  # bytes of memory for the names of directories that have no member of their own, of all layers
MAX_INODES = 4_000_000  # of all layers of an archive, which may name one many times
_POLL_MS = 100
Progress = Callable[[str, int, int], None]


class Layer(NamedTuple):
    """One layer to unpack from the file `blob` into the new `directory`; without one it is verified only.

    `size` in bytes is the blob's; `diff_id` is empty where none is known; `verified` says that the digest of the blob,
    taken while it arrived, is the diff id, so that hashing it again would tell nothing if it is not compressed.
    """

    blob: str
    size: int
    directory: str
    name: str
    diff_id: str
    verified: bool
    base: bool


class Arrivals(Protocol):
    """Blobs that are not there yet."""

    def has(self, path: str, /) -> bool:
        """Whether that one is."""

    def fileno(self) -> int:
        """What to poll for `receive`."""

    def receive(self) -> bool:
        """Learn which are; False when there is nothing more to come. Raises PycontainerError."""


class Unpacked(NamedTuple):
    """`size` in bytes of all regular files; `implied`: paths of directories that have no member of their own.

    `read` counts the bytes of the layer's tar, `inodes` all that it made.
    """

    diff_id: str
    size: int
    implied: list[bytes]
    read: int
    inodes: int


class Allowance:
    """What may be unpacked, of one layer and of all together. What a running child may use is set aside for it."""

    def __init__(self, layer: int, total: int) -> None:
        self._layer = layer
        self._total = total
        self._left = total
        self._inodes = MAX_INODES
        self._implied = MAX_IMPLIED
        self._running = 0

    def take(self) -> int:
        """The limit of the next child in bytes; 0 to wait for one that runs. Raises ImageError."""
        if self._left < self._layer and self._running:
            return 0
        if self._left <= 0:
            raise too_large("its layers", self._total, "unpacked")
        limit = min(self._layer, self._left)
        self._left -= limit
        self._running += 1
        return limit

    def give_back(self, limit: int, result: Unpacked) -> None:
        """What a child has not used of what it took. Raises ImageError."""
        self._running -= 1
        self._left += limit - result.read
        self._inodes -= result.inodes
        self._implied -= sum(len(path) + 100 for path in result.implied)
        if self._implied < 0:
            raise ImageError(
                "read archive", "its layers", f"directories without a member take over {MAX_IMPLIED} bytes"
            )
        if self._inodes < 0:
            raise ImageError("read archive", "its layers", f"more than {MAX_INODES} members unpacked")


def unpack_layers(
    layers: list[Layer], allowance: Allowance, progress: Progress | None, arrivals: Arrivals | None = None
) -> list[Unpacked]:
    """Unpack all, each as soon as its blob has arrived; results in the order of `layers`.

    The caller must have no threads. Raises ImageError for what is in the archive, StepFailed for what the host refuses,
    and what `arrivals` raises.
    """
    if os.geteuid() != 0:
        raise HostError("unpack layer", "", "only root can keep owners and devices", "use sudo")
    results: dict[int, Unpacked] = {}
    waiting = dict(enumerate(layers))
    children: dict[int, _Child] = {}
    poll = select.poll()
    total = sum(layer.size for layer in layers)
    done = 0
    try:
        if arrivals is not None:
            poll.register(arrivals, select.POLLIN)
        while waiting or children:
            ready = [index for index, layer in waiting.items() if arrivals is None or arrivals.has(layer.blob)]
            while ready and len(children) < PARALLEL and (limit := allowance.take()):
                index = ready.pop(0)
                child = _Child(index, waiting.pop(index), limit)
                children[child.pipe] = child
                poll.register(child.pipe, select.POLLIN)
            for pipe, _ in poll.poll(_POLL_MS):
                if arrivals is not None and pipe == arrivals.fileno():
                    if not arrivals.receive():
                        poll.unregister(arrivals)
                elif not children[pipe].receive():
                    child = children.pop(pipe)
                    poll.unregister(pipe)
                    done += child.layer.size
                    results[child.index] = child.result()
                    allowance.give_back(child.limit, results[child.index])
            if progress is not None:
                progress("unpacking", done + sum(child.position() for child in children.values()), total)
    except OSError as error:
        raise StepFailed("unpack layer", error.filename or "", error.errno or 0) from error
    finally:
        for child in children.values():
            child.kill()
    return [results[index] for index in range(len(layers))]


class _Child:
    """A running child, seen from the parent."""

    def __init__(self, index: int, layer: Layer, limit: int) -> None:
        self.index = index
        self.layer = layer
        self.limit = limit
        self._received = bytearray()
        self._blob = os.open(layer.blob, os.O_RDONLY | os.O_CLOEXEC)
        if layer.directory:
            files.mkdir(layer.directory, 0o755)
        self.pipe, report = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _run(layer, parent, self._blob, report, limit)
        os.close(report)

    def position(self) -> int:
        """Bytes of the blob read so far: the descriptor's offset is shared with the child."""
        return os.lseek(self._blob, 0, os.SEEK_CUR)

    def receive(self) -> bool:
        """Take what the child reports; False at the end."""
        data = os.read(self.pipe, 1 << 16)
        self._received += data
        return bool(data)

    def result(self) -> Unpacked:
        """Wait for the child. Raises its error."""
        self._close()
        try:
            report: dict[str, Any] = json.loads(self._received)
        except ValueError as error:
            raise ImageError("unpack layer", self.layer.name, "the process that unpacks it was killed") from error
        if "errno" in report:
            raise StepFailed("unpack layer", report["path"], report["errno"])
        if "error" in report:
            raise ImageError(*report["error"])
        for line, times in report["calls"]:
            record.count(line, times)
        implied = [path.encode("utf-8", "surrogateescape") for path in report["implied"]]
        return Unpacked(report["diff_id"], report["size"], implied, report["read"], report["inodes"])

    def kill(self) -> None:
        """End a child whose result is not wanted any more."""
        os.kill(self.pid, signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self.pipe)
        os.close(self._blob)


# What the archive, not the host, is to blame for.
_ARCHIVE_ERRNOS = (
    "ENAMETOOLONG",
    "ENOTDIR",
    "EISDIR",
    "ENOENT",
    "EINVAL",
    "EPERM",
    "ELOOP",
    "EFBIG",
    "ERANGE",
    "E2BIG",
)


def _run(layer: Layer, parent: int, blob: int, report: int, limit: int) -> NoReturn:
    """The child. Everything it needs is imported: after chroot a late import would load code from the layer."""
    status = 1
    try:
        process.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != parent:  # it died before that could take effect
            os._exit(1)
        answer = _answer(layer, blob, report, limit)
        write_all(report, json.dumps(answer).encode())
        status = 0
    except BaseException:  # nobody is left to tell: the parent sees a report that is cut short
        pass
    finally:
        os._exit(status)


def _answer(layer: Layer, blob: int, report: int, limit: int) -> dict[str, Any]:
    import errno

    try:
        record.begin_anew()
        low, high = sorted((blob, report))
        # Because a lock that the parent holds must die with it, not with its last child.
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, 1 << 20)
        stream = ForwardStream(FileIO(blob), layer.name, limit)
        if stream.compressed or not layer.verified:
            stream.hasher = hashlib.sha256()
        tree = _unpack(stream, layer) if layer.directory else Tree(0, [], 0)
        stream.exhaust()
        diff_id = layer.diff_id if stream.hasher is None else f"sha256:{stream.hasher.hexdigest()}"
        if layer.diff_id and diff_id != layer.diff_id:
            raise ImageError("unpack layer", layer.name, f"its diff id is {diff_id}, the image says {layer.diff_id}")
        implied = [path.decode("utf-8", "surrogateescape") for path in tree.implied]
        if sum(map(len, implied)) > MAX_IMPLIED // 4:
            raise ImageError("unpack layer", layer.name, f"names without a member of over {MAX_IMPLIED // 4} bytes")
    except ImageError as error:
        return {"error": [error.step, error.path, error.cause, error.hint]}
    except OSError as error:
        path = f"{layer.name}: {error.filename}" if error.filename else layer.name
        if errno.errorcode.get(error.errno or 0) in _ARCHIVE_ERRNOS:
            return {"error": ["unpack layer", path, (error.strerror or "failed").lower()]}
        return {"errno": error.errno or 0, "path": path}
    except Exception:
        return {"error": ["unpack layer", layer.name, "its contents are not understood"]}
    amounts = {"size": tree.size, "read": stream.total, "inodes": tree.inodes}
    return {"diff_id": diff_id, "implied": implied, "calls": record.so_far(), **amounts}


def _unpack(stream: ForwardStream, layer: Layer) -> Tree:
    os.umask(0)
    files.chroot(layer.directory)
    files.chdir("/")
    return unpack(stream, layer.base, complete=not layer.diff_id)
