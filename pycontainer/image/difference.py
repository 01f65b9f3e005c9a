"""How one directory tree differs from another: what `system verify --deep` finds between a layer and its blob.

Both are below descriptors and no link is followed, for a layer's files lead anywhere. Memory is that of the names of
one directory, on each level.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Set

from pycontainer.image.stream import CHUNK

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFREG: "a file",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
# Others are the host's, such as the labels of SELinux, which go by where a file was made.
_XATTRS = ("user.", "trusted.", "security.capability", "system.posix_acl")


def differences(
    wanted: str, found: str, loose: Set[str] = frozenset(), on_read: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[str, str]]:
    """Path and cause for each difference of the tree `found`. Raises OSError.

    loose    directories, from "/" on, of which nobody can say what owner and mode they should have
    on_read  gets the bytes that were compared
    """
    with _opened(wanted, _DIRECTORY, None) as left, _opened(found, _DIRECTORY, None) as right:
        if "/" not in loose:
            yield from _unlike("/", os.fstat(left.number), os.fstat(right.number))
            yield from _xattrs("/", f"/proc/self/fd/{left.number}/.", f"/proc/self/fd/{right.number}/.")
        yield from _below("", left.number, right.number, loose, on_read)


class _opened:
    """A descriptor that is closed on the way out. Raises OSError."""

    def __init__(self, name: str, flags: int, directory: int | None) -> None:
        self.number = os.open(name, flags, dir_fd=directory)

    def __enter__(self) -> _opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)


def _below(
    path: str, left: int, right: int, loose: Set[str], on_read: Callable[[int], None]
) -> Iterator[tuple[str, str]]:
    names = sorted(os.listdir(left))
    surplus = set(os.listdir(right)).difference(names)
    for name in names:
        place = f"{path}/{name}"
        wanted = os.stat(name, dir_fd=left, follow_symlinks=False)
        try:
            found = os.stat(name, dir_fd=right, follow_symlinks=False)
        except FileNotFoundError:
            yield place, f"{kind(wanted)} that is missing"
            continue
        same = stat.S_IFMT(wanted.st_mode) == stat.S_IFMT(found.st_mode)
        if not same or place not in loose:
            yield from _unlike(place, wanted, found)
        if not same:
            continue
        if place not in loose:
            yield from _xattrs(place, f"/proc/self/fd/{left}/{name}", f"/proc/self/fd/{right}/{name}")
        if stat.S_ISDIR(wanted.st_mode):
            with _opened(name, _DIRECTORY, left) as one, _opened(name, _DIRECTORY, right) as other:
                yield from _below(place, one.number, other.number, loose, on_read)
        elif stat.S_ISLNK(wanted.st_mode):
            targets = [os.readlink(name, dir_fd=directory) for directory in (right, left)]
            if targets[0] != targets[1]:
                yield place, f"leads to {targets[0]}, not to {targets[1]}"
        elif stat.S_ISREG(wanted.st_mode) and wanted.st_size == found.st_size:
            with _opened(name, _FILE, left) as one, _opened(name, _FILE, right) as other:
                if cause := _content(one.number, other.number, on_read):
                    yield place, cause
    for name in sorted(surplus):
        yield f"{path}/{name}", "it should not be there"


def kind(status: os.stat_result) -> str:
    """`a directory`, `a file` and so on."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "something")


def _unlike(path: str, wanted: os.stat_result, found: os.stat_result) -> Iterator[tuple[str, str]]:
    if kind(wanted) != kind(found):
        yield path, f"{kind(found)}, not {kind(wanted)}"
        return
    modes = [stat.S_IMODE(status.st_mode) for status in (found, wanted)]
    if modes[0] != modes[1]:
        yield path, f"its mode is {modes[0]:04o}, not {modes[1]:04o}"
    if (found.st_uid, found.st_gid) != (wanted.st_uid, wanted.st_gid):
        yield path, f"its owner is {found.st_uid}:{found.st_gid}, not {wanted.st_uid}:{wanted.st_gid}"
    if stat.S_ISDIR(wanted.st_mode):
        # Its size is the file system's, and its time that of now where the layer has no member for it.
        return
    if found.st_rdev != wanted.st_rdev:
        yield path, "another device"
    if found.st_nlink != wanted.st_nlink:
        yield path, f"it has {found.st_nlink} names, not {wanted.st_nlink}"
    if not stat.S_ISREG(wanted.st_mode):
        return
    if found.st_size != wanted.st_size:
        yield path, f"it has {found.st_size} bytes, not {wanted.st_size}"
    if found.st_mtime_ns != wanted.st_mtime_ns:
        yield path, "its time has changed"


def _xattrs(path: str, wanted: str, found: str) -> Iterator[tuple[str, str]]:
    values = [_read_xattrs(place) for place in (wanted, found)]
    for name in sorted({*values[0], *values[1]}):
        if values[0].get(name) != values[1].get(name):
            yield path, f"its attribute {name} has changed"


def _read_xattrs(path: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names if name.startswith(_XATTRS)}
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return {}


def _content(wanted: int, found: int, on_read: Callable[[int], None]) -> str:
    """What is wrong with what a file holds; "" for nothing."""
    while data := os.read(wanted, CHUNK):
        on_read(len(data))
        try:
            other = os.read(found, len(data))
        except OSError as error:
            return (error.strerror or "cannot be read").lower()
        if data != other:
            return "its content has changed"
    return ""
