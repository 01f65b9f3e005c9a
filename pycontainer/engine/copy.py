"""`cp`: files from a container to the host, or the other way, by the rules that `docker cp --help` gives.

What is copied goes through a pipe as a tar stream: one end is this process, which reads or writes the host's files, the
other a worker that does so with the container's (rootfs.py). Where one side is `-`, the stream is the user's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable
from io import FileIO
from typing import TYPE_CHECKING, NamedTuple

from pycontainer.engine import containers, rootfs
from pycontainer.engine.settings import Settings
from pycontainer.errors import NotFound, PycontainerError, StepFailed, UsageError, printable
from pycontainer.image.extract import extract
from pycontainer.image.pack import Packer
from pycontainer.image.stream import ForwardStream, Gathered
from pycontainer.kernel import mount
from pycontainer.kernel.root_path import make_directories, open_in_root

if TYPE_CHECKING:
    import sqlite3

    from pycontainer.engine.containers import Container

_STEP = "copy"
_MAX_SYMLINKS = 40
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_UNLIMITED = 1 << 62  # bytes of a stream: it is copied as it comes
_ROOT_USER = (0, 0)
# Of a container's root directory: what is in them are no files of its own.
_KERNELS = (b"dev", b"proc", b"sys")
_SIZELESS = (mount.PROC_SUPER_MAGIC, mount.SYSFS_MAGIC)


class Place(NamedTuple):
    """One of the two sides as it was written. container is empty for the host's, path is "-" for a stream."""

    container: str
    path: str

    @property
    def is_stream(self) -> bool:
        return not self.container and self.path == "-"

    def __str__(self) -> str:
        return f"{self.container}:{self.path}" if self.container else self.path


def parse_place(text: str) -> Place:
    """`CONTAINER:PATH`, a path or `-`. A path of the host's with a colon in it is written with a `/`, or `./`, before.

    Raises UsageError.
    """
    container, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        container, path = "", text
    if not path:
        raise UsageError(_STEP, repr(text), "the path is empty", "CONTAINER:PATH, or a path of the host's")
    return Place(container, path)


class _Found(NamedTuple):
    """Where a path leads: `name` in `directory`, an O_PATH descriptor. Without `status` there is nothing there."""

    directory: int
    name: str
    status: os.stat_result | None

    @property
    def is_directory(self) -> bool:
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)


class _Path:
    """A path in the root directory `root`: that of a container, or the host's.

    contents    what is in the directory is meant, and not the directory: it ends in `/.`
    directory   it must be one: it ends in `/`
    """

    def __init__(self, place: Place, root: int) -> None:
        self.place = place
        self.root = root
        # As docker does it: `..` is taken away with the name before it, wherever that leads.
        base = "/" if place.container else os.getcwd()
        self.path = "/" + posixpath.normpath(posixpath.join(base, place.path)).lstrip("/")
        self.contents = posixpath.basename(place.path.rstrip("/")) in ("", ".")
        self.directory = self.contents or place.path.endswith("/")

    @property
    def name(self) -> str:
        return "." if self.contents else posixpath.basename(self.path)

    def find(self, stack: contextlib.ExitStack, *, follow: bool) -> _Found:
        """Where it leads; symbolic links at its end are followed with `follow`, also to what is not there.

        Raises StepFailed, NotFound where a directory on the way is missing.
        """
        try:
            found = self._find(stack, follow or self.directory)
        except FileNotFoundError as error:
            raise NotFound(_STEP, str(self.place), "no such directory") from error
        except OSError as error:
            raise StepFailed(_STEP, str(self.place), error.errno or 0) from error
        if self.directory and found.status is not None and not found.is_directory:
            raise UsageError(_STEP, str(self.place), "not a directory", "leave out the / at its end")
        return found

    def _find(self, stack: contextlib.ExitStack, follow: bool) -> _Found:
        path = self.path
        for _ in range(_MAX_SYMLINKS):
            above, _, name = path.rpartition("/")
            if self.contents or name in ("", ".", ".."):
                directory = self._open(stack, path)
                return _Found(directory, ".", os.fstat(directory))
            directory = self._open(stack, above or "/")
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return _Found(directory, name, None)
            if not follow or not stat.S_ISLNK(status.st_mode):
                return _Found(directory, name, status)
            path = posixpath.join(above or "/", os.readlink(name, dir_fd=directory))
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _open(self, stack: contextlib.ExitStack, path: str) -> int:
        descriptor = open_in_root(self.root, path, _DIRECTORY)
        stack.callback(os.close, descriptor)
        return descriptor


class _Source(NamedTuple):
    """What is to be copied, and its name in the copy. is_root: all of a container."""

    found: _Found
    name: str
    is_root: bool

    def hollow(self, member: bytes) -> frozenset[bytes]:
        """What of it is copied as an empty directory; `member` is its own name."""
        return frozenset(member + b"/" + name for name in _KERNELS if self.is_root)


def _source(path: _Path, stack: contextlib.ExitStack, *, follow: bool) -> _Source:
    found = path.find(stack, follow=follow)
    if found.status is None:
        raise NotFound(_STEP, str(path.place), "no such file or directory")
    if mount.file_system_type(found.directory) in _SIZELESS and not found.is_directory:
        cause = "the kernel tells no size of it"
        raise UsageError(_STEP, str(path.place), cause, "read it from inside: pycontainer exec CONTAINER cat FILE")
    return _Source(found, path.name, bool(path.place.container) and path.path == "/")


def _target(path: _Path, source: _Source, stack: contextlib.ExitStack) -> tuple[int, str]:
    """The directory that a copy of `source` goes to, and its name there. Raises UsageError, NotFound, StepFailed."""
    found = path.find(stack, follow=True)
    if found.is_directory:
        try:
            directory = os.open(found.name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found.directory)
        except OSError as error:
            raise StepFailed(_STEP, str(path.place), error.errno or 0) from error
        stack.callback(os.close, directory)
        return directory, source.name
    if found.status is None:
        if path.directory and not source.found.is_directory:
            raise NotFound(_STEP, str(path.place), "no such directory", "make it, or leave out the / at its end")
    elif source.found.is_directory:
        raise UsageError(_STEP, str(path.place), "not a directory", "a directory is copied to a directory only")
    elif not stat.S_ISREG(found.status.st_mode):
        raise UsageError(_STEP, str(path.place), "neither a file nor a directory")
    return found.directory, found.name


def copy(
    settings: Settings,
    connection: sqlite3.Connection,
    source: Place,
    target: Place,
    *,
    archive: bool,
    follow: bool,
) -> None:
    """Copy `source` to `target`, of which one is in a container.

    archive  keep owners, and whatever they entrust to a file; otherwise all belongs to root in a container, and to the
             caller on the host
    follow   copy what a symbolic link leads to, if the source is one

    Raises PycontainerError, OSError.
    """
    name = source.container or target.container
    container = containers.find(connection, name)
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(rootfs.opened(settings, connection, container, _STEP, mounts=True))
        host = os.open("/", _DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, host)
        if source.container:
            found = _source(_Path(source, root), stack, follow=follow)
            if target.is_stream:
                _write_stream(container, found)
            else:
                _copy_out(container, found, *_target(_Path(target, host), found, stack), archive=archive)
        elif source.is_stream:
            _read_stream(container, _Path(target, root))
        else:
            found = _source(_Path(source, host), stack, follow=follow)
            _copy_in(container, found, *_target(_Path(target, root), found, stack), archive=archive)
    action = "archive-path" if source.container else "extract-to-dir"
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        path = source.path if source.container else target.path
        containers.note(connection, container.id, action, path=printable(path))


def _pack(out: int, source: _Source, name: str, owner: tuple[int, int] | None, *, sparse: bool) -> None:
    # Because a system call for each header and each small file would take as long as reading them.
    gathered = Gathered(out)
    packer = Packer(gathered.write, owner, sparse=sparse)
    try:
        member = os.fsencode(name)
        packer.add_tree(source.found.directory, os.fsencode(source.found.name), member, source.hollow(member))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StepFailed(_STEP, printable(str(error.filename or "")), error.errno or 0) from error
    packer.finish()
    gathered.flush()


def _extract(
    descriptor: int, find: Callable[[str], int], owner: tuple[int, int] | None = None, *, plain: bool = False
) -> None:
    extract(ForwardStream(FileIO(descriptor, closefd=False), "stream", _UNLIMITED), find, owner=owner, plain=plain)


def _below(directory: int) -> Callable[[str], int]:
    # Without symbolic links, because each directory of what is copied is a real one.
    return lambda path: make_directories(directory, path, symlinks=False)


def _write_stream(container: Container, source: _Source) -> None:
    _finish(rootfs.Worker(container.id_maps, lambda: _pack(1, source, source.name, None, sparse=False)))


def _read_stream(container: Container, target: _Path) -> None:
    with contextlib.ExitStack() as stack:
        if not target.find(stack, follow=True).is_directory:
            raise UsageError(_STEP, str(target.place), "not a directory", "a stream is unpacked into a directory")

    def find(path: str) -> int:
        # Other than for a tree, symbolic links that are there are followed, as docker does: in the container's root.
        return make_directories(target.root, posixpath.join(target.path, path))

    _finish(rootfs.Worker(container.id_maps, lambda: _extract(0, find)))


def _finish(worker: rootfs.Worker) -> None:
    try:
        worker.finish()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StepFailed(_STEP, error.filename or "", error.errno or 0) from error


def _copy_in(container: Container, source: _Source, directory: int, name: str, *, archive: bool) -> None:
    owner = None if archive else _ROOT_USER
    _transfer(
        container,
        lambda out: _pack(out, source, name, owner, sparse=True),
        lambda descriptor: _extract(descriptor, _below(directory)),
        packs=False,
    )


def _copy_out(container: Container, source: _Source, directory: int, name: str, *, archive: bool) -> None:
    owner = None if archive else (os.getuid(), os.getgid())

    def unpack(descriptor: int) -> None:
        mask = os.umask(0)
        try:
            _extract(descriptor, _below(directory), owner, plain=not archive)
        finally:
            os.umask(mask)

    _transfer(container, lambda out: _pack(out, source, name, None, sparse=True), unpack, packs=True)


def _transfer(container: Container, pack: Callable[[int], None], unpack: Callable[[int], None], *, packs: bool) -> None:
    """Call `pack` and `unpack` with the ends of a pipe: one here, and the other, `pack` if `packs`, in a worker."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    ours, theirs = (reading, writing) if packs else (writing, reading)
    work, rest = (pack, unpack) if packs else (unpack, pack)
    try:
        worker = rootfs.Worker(container.id_maps, lambda: work(theirs), (ours,))
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        here = _failure(lambda: rest(ours))
    except BaseException:
        worker.kill()
        raise
    finally:
        # The worker waits for this end of its stream.
        os.close(ours)
    there = _failure(worker.finish)
    of_packing, of_unpacking = (there, here) if packs else (here, there)
    # When one end fails, the other finds a stream that is cut off, or nobody who reads it: the first one says why.
    if of_packing is not None and not (isinstance(of_packing, BrokenPipeError) and of_unpacking is not None):
        raise of_packing
    if of_unpacking is not None:
        raise of_unpacking


def _failure(function: Callable[[], None]) -> Exception | None:
    try:
        function()
    except (PycontainerError, OSError) as error:
        return error
    return None
