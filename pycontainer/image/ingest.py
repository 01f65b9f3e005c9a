"""The files of an image archive, or of an OCI layout directory, are copied into a directory of our own and hashed.

An archive may come through a pipe, where manifest.json is last: every regular member is kept until it is known what it
is for. A member that is named by its digest is verified when its last byte is written, before anything else reads it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pycontainer.errors import ImageError, StepFailed, printable
from pycontainer.image.manifest import MAX_JSON
from pycontainer.image.stream import CHUNK, ForwardStream, Hash, Readable, too_large, write_all
from pycontainer.image.tar import members

MAX_FILES = 50_000
MAX_NAME = 4095  # bytes of a member's name
MAX_NAMES = 8 << 20  # bytes of all of them
MAX_ALL_JSON = 16 << 20  # bytes of an archive's manifests, indexes and configs, each time that one is read
# An archive holds many layers, each of which has its own limit; this bounds one that is a bomb as a whole: what arrives
# of it, and what becomes of it, for one layer may be named many times.
ARCHIVE_FACTOR = 4

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_STEP = "read archive"


class Blob(NamedTuple):
    """A file that arrived: where it is, its sha256 in hexadecimal, its size in bytes."""

    path: str
    hex: str
    size: int


class Files:
    """What an archive held, by name. Links are followed within the archive."""

    def __init__(self, blobs: dict[str, Blob], links: dict[str, str]) -> None:
        self._blobs = blobs
        self._links = links
        self._read = 0

    def __contains__(self, name: str) -> bool:
        return name in self._blobs

    def blob(self, name: str) -> Blob:
        """The file of that name. Raises ImageError if the archive does not hold it."""
        current = posixpath.normpath(name)
        for _ in range(8):
            if current in self._blobs:
                return self._blobs[current]
            current = self._links.get(current, "")
        raise ImageError("read image", printable(name), "the archive does not hold it")

    def read(self, name: str) -> bytes:
        """A JSON file's content. Raises ImageError."""
        blob = self.blob(name)
        if blob.size > MAX_JSON:
            raise ImageError("read image", printable(name), f"larger than {MAX_JSON} bytes")
        self._read += blob.size
        if self._read > MAX_ALL_JSON:
            raise ImageError("read image", printable(name), f"the archive has more than {MAX_ALL_JSON} bytes of JSON")
        with open(blob.path, "rb", buffering=0) as file:
            return file.readall()


def ingest_archive(
    source: Readable, directory: str, max_layer_size: int, on_read: Callable[[int], None] | None
) -> Files:
    """Copy the regular members of a tar archive into `directory`. Raises ImageError, StepFailed."""
    stream = ForwardStream(source, "archive", max_layer_size * ARCHIVE_FACTOR, on_read=on_read)
    blobs: dict[str, Blob] = {}
    links: dict[str, str] = {}
    named = 0
    for number, (_, member) in enumerate(members(stream)):
        lengths = [len(text.encode("utf-8", "surrogateescape")) for text in (member.name, member.linkname)]
        named += sum(lengths)
        if max(lengths) > MAX_NAME or named > MAX_NAMES:
            cause = f"a name of more than {MAX_NAME} bytes, or of more than {MAX_NAMES} with all before"
            raise ImageError(_STEP, printable(member.name[:MAX_NAME]), cause)
        name = posixpath.normpath(member.name)
        if number >= MAX_FILES:
            raise ImageError(_STEP, printable(name), f"the archive has more than {MAX_FILES} members")
        if member.issym():
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            links[name] = posixpath.normpath(member.linkname)
        elif member.isreg() and member.sparse is None:
            copy = partial(stream.copy, size=member.size)
            blobs[name] = receive(name, f"{directory}/{number}", copy)
    return Files(blobs, links)


def ingest_layout(path: str, directory: str, max_layer_size: int, on_read: Callable[[int], None] | None) -> Files:
    """Copy an OCI layout directory's files, following no symlink below `path`. Raises ImageError, StepFailed."""
    blobs: dict[str, Blob] = {}
    copied = 0
    limit = max_layer_size * ARCHIVE_FACTOR

    def copy(source: int, descriptor: int, hasher: Hash) -> None:
        nonlocal copied
        while data := os.read(source, CHUNK):
            copied += len(data)
            if copied > limit:
                raise too_large("layout", limit, "in it")
            hasher.update(data)
            write_all(descriptor, data)
            if on_read is not None:
                on_read(copied)

    with contextlib.ExitStack() as stack:
        root = _open(stack, path, os.O_DIRECTORY, None)
        names = [("index.json", root)]
        blob_directory = _open(stack, "sha256", os.O_DIRECTORY, _open(stack, "blobs", os.O_DIRECTORY, root))
        names.extend((f"blobs/sha256/{entry}", blob_directory) for entry in sorted(os.listdir(blob_directory)))
        if len(names) > MAX_FILES:
            raise ImageError(_STEP, path, f"the layout has more than {MAX_FILES} blobs")
        for name, parent in names:
            with contextlib.ExitStack() as one:
                source = _open(one, os.path.basename(name), os.O_NONBLOCK, parent)
                if not stat.S_ISREG(os.fstat(source).st_mode):
                    raise ImageError(_STEP, name, "not a regular file")
                blobs[name] = receive(name, f"{directory}/{len(blobs)}", partial(copy, source))
    return Files(blobs, {})


def _open(stack: contextlib.ExitStack, name: str, flags: int, parent: int | None) -> int:
    """A descriptor that `stack` closes. Only the directory that the user named may be a symlink."""
    flags |= os.O_RDONLY | os.O_CLOEXEC | (0 if parent is None else os.O_NOFOLLOW)
    try:
        descriptor = os.open(name, flags, dir_fd=parent)
    except OSError as error:
        cause = "is a symlink" if error.errno == errno.ELOOP else (error.strerror or "failed").lower()
        raise ImageError("read OCI layout", name, cause) from error
    stack.callback(os.close, descriptor)
    return descriptor


def receive(name: str, path: str, copy: Callable[..., None]) -> Blob:
    """Make the file `path` with what `copy(descriptor, hasher=…)` writes and hashes."""
    hasher = hashlib.sha256()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy(descriptor, hasher=hasher)
            size = os.lseek(descriptor, 0, os.SEEK_CUR)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StepFailed(_STEP, printable(name), error.errno or 0) from error
    digest = hasher.hexdigest()
    if (match := _BLOB.fullmatch(name)) and match[1] != digest:
        raise ImageError(_STEP, name, f"wrong digest: its content is sha256:{digest}")
    return Blob(path, digest, size)
