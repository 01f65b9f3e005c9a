"""Files become a tar archive: pax, as POSIX.1-2001 has it, with extended attributes as GNU tar writes them.

The same files give the same bytes: entries are sorted, and nothing but what is in them is written. The tree may be a
container's, which changes it meanwhile: each file is opened once, with O_PATH and without following it, and whatever is
told of it is told of that one. So a name that is exchanged for a symbolic link, a FIFO or a device leads nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from pycontainer.errors import ImageError, printable
from pycontainer.image.layer import MAX_DEPTH
from pycontainer.image.stream import CHUNK

_BLOCK = 512
_RECORD = 20 * _BLOCK  # what tar(1) pads an archive to
# Name, mode, owner, group, size and time, the checksum's place, kind, link, no names of the owner's, device, no prefix.
_HEADER = (
    b"%b" + b"%07o\0" * 3 + b"%011o\0" * 2 + b" " * 8 + b"%b%bustar\x0000" + bytes(64) + b"%07o\0" * 2 + bytes(167)
)
_MAX_EXTENTS = 4096  # the map of a file in more pieces would be larger than readers accept
_MAX_SPARSE = 8 << 30  # the size field has eleven octal digits, and Python's tarfile takes no other one here
_O_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
# Not trusted.overlay.*, which says how a layer is stacked, and not what a security module of this host has put there.
_XATTRS = ("user.", "trusted.", "system.posix_acl_", "security.capability")
_OVERLAY_XATTRS = "trusted.overlay."


class Packer:
    """Writes one archive through `write`, which takes all of the bytes it is given.

    owner   (uid, gid) that every file is to have; None for its own
    sparse  leave out the holes of files, in GNU tar's form 1.0, which other programs than it and Go's do not all know

    Raises OSError with the member as its filename, ImageError.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        owner: tuple[int, int] | None = None,
        *,
        sparse: bool = False,
    ) -> None:
        self._write = write
        self._owner = owner
        self._sparse = sparse
        self._links: dict[tuple[int, int], bytes] = {}
        self._size = 0

    def add_tree(self, directory: int, entry: bytes, name: bytes, hollow: frozenset[bytes] = frozenset()) -> None:
        """`entry` of `directory` as the member `name`, and all below it except what is in the directories `hollow`."""
        self._add_tree(directory, entry, name, hollow, 0)

    def add_contents(self, directory: int) -> None:
        """All that is in `directory`, but not itself."""
        for entry in list_directory(directory):
            self._add_child(directory, entry, entry, frozenset(), 0)

    def add_entry(self, directory: int, entry: bytes, name: bytes) -> bool:
        """`entry` of `directory` without what is below it; whether it is a directory."""
        with _named(name):
            descriptor = os.open(entry, _O_ENTRY, dir_fd=directory)
            try:
                return self._add(descriptor, name)
            finally:
                os.close(descriptor)

    def _add_tree(self, directory: int, entry: bytes, name: bytes, hollow: frozenset[bytes], depth: int) -> None:
        with _named(name):
            descriptor = os.open(entry, _O_ENTRY, dir_fd=directory)
        try:
            with _named(name):
                if not self._add(descriptor, name) or name in hollow:
                    return
                entries = list_directory(descriptor)
            if depth >= MAX_DEPTH:
                raise ImageError("pack", printable(os.fsdecode(name)), f"more than {MAX_DEPTH} levels deep")
            for child in entries:
                self._add_child(descriptor, child, name + b"/" + child, hollow, depth + 1)
        finally:
            os.close(descriptor)

    def _add_child(self, directory: int, entry: bytes, name: bytes, hollow: frozenset[bytes], depth: int) -> None:
        try:
            self._add_tree(directory, entry, name, hollow, depth)
        except FileNotFoundError:
            # Removed since it was listed.
            pass

    def add_empty(self, name: bytes) -> None:
        """An empty file of root's, as a whiteout is."""
        self._write_header(name, b"0", 0, 0, (0, 0), 0, {})

    def finish(self) -> None:
        """Write the end-of-archive marker."""
        self._put(bytes(2 * _BLOCK))
        self._put(bytes(-self._size % _RECORD))

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._size += len(data)

    def _add(self, descriptor: int, name: bytes) -> bool:
        """Whether it is a directory, and so there may be more."""
        status = os.fstat(descriptor)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            # A socket, which is nothing without the process that listens.
            return False
        records: dict[bytes, bytes] = {}
        link, device = b"", (0, 0)
        if kind == b"5":
            name += b"/"
        elif status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                self._write_member(name, b"1", status, records, link=first)
                return False
        if kind == b"2":
            link = os.readlink(b"", dir_fd=descriptor)
        elif kind in (b"3", b"4"):
            device = os.major(status.st_rdev), os.minor(status.st_rdev)
        if kind == b"0":
            self._add_file(descriptor, name, status)
        else:
            records.update(_xattrs(_path(descriptor)))
            self._write_member(name, kind, status, records, link=link, device=device)
        return kind == b"5"

    def _add_file(self, entry: int, name: bytes, status: os.stat_result) -> None:
        # O_NONBLOCK, because a lease of the container's would keep us waiting.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(_path(entry), flags)
        try:
            records, size = _xattrs(descriptor), status.st_size
            extents = _extents(descriptor, size) if self._sparse and status.st_blocks * 512 < size else []
            stored = sum(length for _, length in extents)
            if not extents or stored >= _MAX_SPARSE or len(extents) > _MAX_EXTENTS:
                self._write_member(name, b"0", status, records, size=size)
                self._copy(descriptor, 0, size)
            else:
                numbers = [len(extents)] + [number for extent in extents for number in extent]
                table = "".join(f"{number}\n" for number in numbers).encode()
                table += bytes(-len(table) % _BLOCK)
                sparse = {b"major": b"1", b"minor": b"0", b"name": name, b"realsize": str(size).encode()}
                records.update((b"GNU.sparse." + key, value) for key, value in sparse.items())
                size = len(table) + stored
                self._write_member(b"GNUSparseFile.0/" + name[-80:], b"0", status, records, size=size)
                self._put(table)
                for offset, length in extents:
                    self._copy(descriptor, offset, length)
            self._put(bytes(-size % _BLOCK))
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, offset: int, length: int) -> None:
        while length:
            data = os.pread(descriptor, min(length, CHUNK), offset)
            if not data:
                # It has become shorter; the header has said how long it is.
                data = bytes(min(length, CHUNK))
            self._put(data)
            offset += len(data)
            length -= len(data)

    def _write_member(
        self,
        name: bytes,
        kind: bytes,
        status: os.stat_result,
        records: dict[bytes, bytes],
        *,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
        size: int = 0,
    ) -> None:
        owner = self._owner or (status.st_uid, status.st_gid)
        mode, time = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        # Because a program of one user that runs as its owner must not become one that runs as another.
        mode &= ~(stat.S_ISUID if owner[0] != status.st_uid else 0)
        mode &= ~(stat.S_ISGID if owner[1] != status.st_gid and kind != b"5" else 0)
        self._write_header(name, kind, mode, size, owner, time, records, link=link, device=device)

    def _write_header(
        self,
        name: bytes,
        kind: bytes,
        mode: int,
        size: int,
        owner: tuple[int, int],
        nanoseconds: int,
        records: dict[bytes, bytes],
        *,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
    ) -> None:
        for key, text in ((b"path", name), (b"linkpath", link)):
            if len(text) > 100 or not text.isascii():
                records.setdefault(key, text)
        numbers = {b"uid": owner[0], b"gid": owner[1], b"size": size, b"mtime": nanoseconds // 10**9}
        widths = {b"uid": 7, b"gid": 7, b"size": 11, b"mtime": 11}
        for key, width in widths.items():
            if not 0 <= numbers[key] < 8**width:
                records[key] = str(numbers[key]).encode()
                numbers[key] = 0
        # The first header is always a pax one, because its name, unlike a file's, is never taken for compressed data.
        if nanoseconds % 10**9 or not self._size:
            records[b"mtime"] = _decimal(nanoseconds)
        if b"GNU.sparse.name" in records:
            records.pop(b"path", None)
        if records:
            data = b"".join(_record(key, value) for key, value in sorted(records.items()))
            self._put(_header(b"PaxHeaders.0/" + name[-80:].strip(b"/"), b"x", {b"mode": 0o644, b"size": len(data)}))
            self._put(data + bytes(-len(data) % _BLOCK))
        self._put(_header(name, kind, {**numbers, b"mode": mode}, link=link, device=device))


def _header(
    name: bytes, kind: bytes, numbers: dict[bytes, int], *, link: bytes = b"", device: tuple[int, int] = (0, 0)
) -> bytes:
    """One ustar header; tar(5) shows the fields."""
    block = _HEADER % (
        name[:100].ljust(100, b"\0"),
        *(numbers.get(key, 0) for key in (b"mode", b"uid", b"gid", b"size", b"mtime")),
        kind,
        link[:100].ljust(100, b"\0"),
        *(number & 0o7777777 for number in device),
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, of which the length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _decimal(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    return f"{'-' if nanoseconds < 0 else ''}{seconds}.{fraction:09}".rstrip("0").rstrip(".").encode()


def _xattrs(target: int | str) -> dict[bytes, bytes]:
    """The extended attributes of a descriptor, or of a path of one that is O_PATH, as pax records."""
    found = {}
    try:
        names = os.listxattr(target)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
    for name in names:
        if name.startswith(_XATTRS) and not name.startswith(_OVERLAY_XATTRS):
            try:
                value = os.getxattr(target, name)
            except OSError as error:
                if error.errno != errno.ENODATA:  # removed since they were listed
                    raise
                continue
            found[b"SCHILY.xattr." + os.fsencode(name)] = value
    return found


def _extents(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Offset and length of each piece of a file that is not a hole, and an empty one at its end."""
    found: list[tuple[int, int]] = []
    position = 0
    while position < size and len(found) <= _MAX_EXTENTS:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                break
            if error.errno == errno.EINVAL:  # a file system that knows of no holes
                return []
            raise
        if start >= size:
            break
        found.append((start, end - start))
        position = end
    return [*found, (size, 0)]


@contextlib.contextmanager
def _named(name: bytes) -> Iterator[None]:
    """An OSError has the member as its filename, and not a number of a descriptor."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(name)) from error


def list_directory(directory: int) -> list[bytes]:
    """The names in the directory that an O_PATH descriptor is of, sorted. Raises OSError."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return sorted(map(os.fsencode, os.listdir(descriptor)))
    finally:
        os.close(descriptor)


def _path(descriptor: int) -> str:
    """A path of the file that an O_PATH descriptor is of: what takes no such descriptor takes this."""
    return f"/proc/self/fd/{descriptor}"
