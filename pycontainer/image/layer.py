"""One layer's tar becomes a directory tree, whiteouts as overlayfs wants them. Runs chrooted into that directory.

Because the process is chrooted, no name and no link can reach the host, whatever the checks miss. They are here so
that a hostile archive is refused with the name of its member, and never half taken.

Names through a symlink. Docker follows a symlink that an earlier member of the same layer made; tars put together from
packages need that (`lib -> usr/lib`, then `lib/x`). So a relative symlink that stays inside is followed, and one that
is absolute or climbs above the root is refused. A symlink that a lower layer made is not seen here: `lib/x` then makes
a directory `lib`, which hides the symlink, as in Docker.

Whiteouts (image-spec, layer.md) apply to lower layers only, wherever they stand in the archive: they are noted and
carried out at the end, on what the layer itself has not made anew.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from typing import Any, NamedTuple

from pycontainer.errors import ImageError, printable
from pycontainer.image.stream import ForwardStream
from pycontainer.image.tar import UNFIT, members
from pycontainer.kernel import record

MAX_MEMBERS = 1_000_000  # implied directories count: each takes an inode
MAX_DEVICES = 4096  # device nodes and fifos
MAX_DEPTH = 256  # what every tool that walks the tree recursively can take
MAX_SYMLINKS = 40  # in one name, as in the kernel
MAX_SIZE = 1 << 53  # bytes of all files, holes too: those of 500 layers together fit the database's integers
MAX_NAME = 4095  # bytes of one name: no longer path reaches the kernel
MAX_KEPT = 40 << 20  # bytes of memory for what is only done after the last member: directories' times, whiteouts
MAX_CACHED = 8 << 20  # bytes of memory for where directories are
_ENTRY = 200  # what an entry takes beside its names

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
# Dropped, not refused: an image committed from inside another overlay may carry them, and they would make overlayfs
# redirect or hide what the layer does not hold.
_OVERLAY_XATTRS = "trusted.overlay."
_XATTR_RECORD = "SCHILY.xattr."
_STEP = "unpack layer"


class Tree(NamedTuple):
    """`size`: bytes of all regular files. `implied`: paths of directories that have no member of their own.

    `inodes`: how many files, directories and others were made, at most.
    """

    size: int
    implied: list[bytes]
    inodes: int


def unpack(stream: ForwardStream, base: bool, complete: bool) -> Tree:
    """Unpack `stream` into the current root directory, as root and with umask 0.

    `base`: the lowest layer, where whiteouts have nothing to hide and are dropped. `complete`: see tar.members.
    Raises ImageError, and OSError with the member as its filename.
    """
    unpacking = _Unpacking()
    for _, member in members(stream, complete):
        try:
            unpacking.add(member, stream)
        except OSError as error:
            raise OSError(error.errno, error.strerror, printable(member.name)) from error
        except (ValueError, OverflowError) as error:
            raise _refused(member, UNFIT) from error
    unpacking.finish(base)
    return Tree(unpacking.size, sorted(filter(_is_directory, unpacking.implied)), unpacking.inodes)


class _Unpacking:
    """The state of one layer. Paths are bytes, relative to the root, without symlinks; the root itself is empty."""

    def __init__(self) -> None:
        self.size = 0
        self.implied = {b""}
        self.inodes = 0
        self._devices = 0
        self._directories: dict[bytes, bytes] = {b"": b""}  # a directory as members name it -> its path
        self._times: dict[bytes, int] = {}  # of directories, set at the end because their contents change them
        self._whiteouts: list[tuple[str, bytes, bytes]] = []  # the member's name, the directory, what is hidden in it
        self._kept = 0
        self._cached = 0

    def add(self, member: tarfile.TarInfo, stream: ForwardStream) -> None:
        """One member. Raises ImageError, OSError, ValueError, OverflowError."""
        self._count(member)
        name = _components(member, member.name)
        if not name:
            if not member.isdir():
                raise _refused(member, "the root is not a directory")
            self._directory(member, b"")
            return
        last = name[-1]
        if last.startswith(WHITEOUT_PREFIX):
            self._note_whiteout(member, name)
            return
        parent = self._parent(member, name[:-1])
        path = parent + b"/" + last if parent else last
        if member.isdir():
            self._directory(member, path)
        elif member.isreg():
            self._file(member, path, stream)
        elif member.issym():
            self._make(path, lambda: os.symlink(_encode(member.linkname), path))
            _set_attributes(member, path)
        elif member.islnk():
            self._hard_link(member, path)
        elif member.isdev():
            self._device(member, path)
        else:
            raise _refused(member, f"members of type {member.type!r} are not supported")

    def finish(self, base: bool) -> None:
        """Whiteouts and opaque directories, then the directories' times."""
        if not base:
            for member_name, parent, name in self._whiteouts:
                self._whiteout(tarfile.TarInfo(member_name), parent, name)
        for path, nanoseconds in self._times.items():
            # What was in a directory that a later member replaced is still noted here.
            if _is_directory(path):
                os.utime(path or b".", ns=(nanoseconds, nanoseconds), follow_symlinks=False)

    def _count(self, member: tarfile.TarInfo) -> None:
        self.inodes += 1
        if self.inodes > MAX_MEMBERS:
            raise _refused(member, f"the layer has more than {MAX_MEMBERS} members")

    def _keep(self, member: tarfile.TarInfo, size: int) -> None:
        self._kept += size + _ENTRY
        if self._kept > MAX_KEPT:
            raise _refused(member, f"directories and whiteouts take more than {MAX_KEPT} bytes of memory")

    # Places

    def _parent(self, member: tarfile.TarInfo, name: list[bytes]) -> bytes:
        """The path of the directory that members call `name`; made if it is missing."""
        key = b"/".join(name)
        if (path := self._directories.get(key)) is None:
            path = self._walk(member, name, make=True)
            self._cached += len(key) + len(path) + _ENTRY
            if self._cached > MAX_CACHED:
                self._forget_directories()
            self._directories[key] = path
        return path

    def _walk(self, member: tarfile.TarInfo, name: list[bytes], make: bool) -> bytes:
        walked: list[bytes] = []
        ahead = name[::-1]
        links = 0
        while ahead:
            component = ahead.pop()
            if component == b"..":  # of a symlink's target; a name has none
                if not walked:
                    raise _refused(member, "its name goes through a symlink that leads outside the layer")
                walked.pop()
                continue
            walked.append(component)
            path = b"/".join(walked)
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                if not make:
                    raise
                self._imply(member, walked)
                continue
            if stat.S_ISLNK(mode):
                links += 1
                target = os.readlink(path)
                if target.startswith(b"/") or links > MAX_SYMLINKS:
                    raise _refused(member, "its name goes through a symlink that leads outside the layer")
                walked.pop()
                ahead.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))
            elif not stat.S_ISDIR(mode):
                if not make:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                self._remove(path, mode)
                self._imply(member, walked)
        return b"/".join(walked)

    def _imply(self, member: tarfile.TarInfo, walked: list[bytes]) -> None:
        """Make a directory that has no member of its own, or none yet."""
        self._count(member)
        self._keep(member, sum(map(len, walked)))
        if len(walked) > MAX_DEPTH:
            raise _refused(member, f"its name has more than {MAX_DEPTH} components")
        path = b"/".join(walked)
        os.mkdir(path, 0o755)
        self.implied.add(path)

    def _remove(self, path: bytes, mode: int) -> None:
        """Make room for a member that replaces an earlier one."""
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
            self._times.pop(path, None)
        else:
            os.unlink(path)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._forget_directories()  # any of them may have led through what is gone

    def _forget_directories(self) -> None:
        self._directories = {b"": b""}
        self._cached = 0

    # Members

    def _make(self, path: bytes, make: Callable[[], None]) -> None:
        """Call `make()`, after removing what is in its way. Never opens or follows what is there."""
        try:
            make()
        except FileExistsError:
            self._remove(path, os.lstat(path).st_mode)
            make()

    def _directory(self, member: tarfile.TarInfo, path: bytes) -> None:
        if path:
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                if not stat.S_ISDIR(mode := os.lstat(path).st_mode):
                    self._remove(path, mode)
                    os.mkdir(path, 0o700)
        if path.count(b"/") >= MAX_DEPTH:
            raise _refused(member, f"its name has more than {MAX_DEPTH} components")
        self.implied.discard(path)
        self._keep(member, len(path))
        self._times[path] = _set_attributes(member, path or b".")

    def _file(self, member: tarfile.TarInfo, path: bytes, stream: ForwardStream) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            self._remove(path, os.lstat(path).st_mode)
            descriptor = os.open(path, flags, 0o600)
        try:
            regions: Any = member.sparse  # pairs of offset and length; the type that typeshed gives it is wrong
            if regions is None:
                stream.copy(descriptor, member.size)
            else:
                for offset, length in regions:
                    if offset < 0 or length < 0 or offset + length > member.size:
                        raise _refused(member, "its sparse map exceeds its size")
                    os.lseek(descriptor, offset, os.SEEK_SET)
                    stream.copy(descriptor, length)
                os.ftruncate(descriptor, member.size)
            _set_attributes(member, descriptor)
        finally:
            os.close(descriptor)
        self.size += member.size
        if self.size > MAX_SIZE:
            raise _refused(member, f"the layer's files have more than {MAX_SIZE} bytes")

    def _hard_link(self, member: tarfile.TarInfo, path: bytes) -> None:
        target = _components(member, member.linkname)
        try:
            if not target:
                raise IsADirectoryError
            parent = self._walk(member, target[:-1], make=False)
            source = parent + b"/" + target[-1] if parent else target[-1]
            if source == path:
                raise _refused(member, "a hard link to itself")
            if stat.S_ISDIR(os.lstat(source).st_mode):
                raise IsADirectoryError
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _refused(member, f"hard link to {printable(member.linkname)}, which is not in the layer") from error
        except IsADirectoryError as error:
            raise _refused(member, f"hard link to {printable(member.linkname)}, a directory") from error
        self._make(path, lambda: os.link(source, path, follow_symlinks=False))

    def _device(self, member: tarfile.TarInfo, path: bytes) -> None:
        self._devices += 1
        if self._devices > MAX_DEVICES:
            raise _refused(member, f"the layer has more than {MAX_DEVICES} devices and fifos")
        kind = stat.S_IFIFO if member.isfifo() else stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        number = 0 if member.isfifo() else os.makedev(member.devmajor, member.devminor)
        self._make(path, lambda: os.mknod(path, kind | 0o600, number))
        _set_attributes(member, path)

    # Whiteouts

    def _note_whiteout(self, member: tarfile.TarInfo, name: list[bytes]) -> None:
        last = name[-1]
        self._keep(member, 3 * len(member.name))
        if last == OPAQUE_MARKER:
            self._whiteouts.append((member.name, b"/".join(name[:-1]), b""))
        elif not last.startswith(WHITEOUT_PREFIX * 2):  # `.wh..wh.*` is bookkeeping of aufs
            hidden = last.removeprefix(WHITEOUT_PREFIX)
            if hidden in (b"", b".", b".."):
                raise _refused(member, "a whiteout of no file")
            self._whiteouts.append((member.name, b"/".join(name[:-1]), hidden))

    def _whiteout(self, member: tarfile.TarInfo, parent: bytes, name: bytes) -> None:
        """Hide `name` of the lower layers in `parent`, or with an empty name everything in it."""
        directory = self._parent(member, parent.split(b"/") if parent else [])
        path = b"/".join(part for part in (directory, name) if part)
        try:
            mode = os.lstat(path or b".").st_mode
        except FileNotFoundError:
            os.mknod(path, stat.S_IFCHR, 0)
            record.count("mknodat(AT_FDCWD, …, S_IFCHR|000, makedev(0, 0))")
            return
        if stat.S_ISDIR(mode):  # made anew by this layer: what the lower ones have in it stays hidden
            os.setxattr(path or b".", OPAQUE_XATTR, b"y")
            record.count(f'setxattr(…, "{OPAQUE_XATTR}", "y", 1, 0)')


def _components(member: tarfile.TarInfo, name: str) -> list[bytes]:
    """The components of a name, without `.`; a name that is absolute or holds `..` is refused."""
    encoded = _encode(name)
    if len(encoded) > MAX_NAME:
        raise _refused(member, f"a name of more than {MAX_NAME} bytes")
    if encoded.startswith(b"/"):
        raise _refused(member, f"{printable(name)} is an absolute name")
    components = [part for part in encoded.split(b"/") if part not in (b"", b".")]
    if b".." in components:
        raise _refused(member, f"{printable(name)} holds a `..`")
    return components


def _set_attributes(member: tarfile.TarInfo, target: int | bytes) -> int:
    """Owner, xattrs, mode, time; the time in nanoseconds is returned.

    In this order, because chown(2) clears the set-user-ID bit and file capabilities.
    """
    if not (0 <= member.uid < 2**32 - 1 and 0 <= member.gid < 2**32 - 1):
        raise _refused(member, f"owner {member.uid}:{member.gid} is out of range")
    follow = isinstance(target, int)
    nanoseconds = nanoseconds_of(member)
    os.chown(target, member.uid, member.gid, follow_symlinks=follow)
    for header, value in member.pax_headers.items():
        if header.startswith(_XATTR_RECORD):
            set_xattr(target, header.removeprefix(_XATTR_RECORD), _encode(value), follow)
    if not member.issym():
        os.chmod(target, stat.S_IMODE(member.mode))
    if not member.isdir():
        os.utime(target, ns=(nanoseconds, nanoseconds), follow_symlinks=follow)
    return nanoseconds


def set_xattr(target: int | bytes, name: str, value: bytes, follow: bool) -> None:
    """Set one unless it is overlayfs's own, or the file system has none of its kind. Raises OSError."""
    if name.startswith(_OVERLAY_XATTRS):
        return
    try:
        os.setxattr(target, _encode(name), value, follow_symlinks=follow)
    except OSError as error:
        # The file system lacks this kind of attribute. Without its capability a program would only fail later.
        if error.errno != errno.EOPNOTSUPP or name == "security.capability":
            raise


def nanoseconds_of(member: tarfile.TarInfo) -> int:
    """The modification time. tarfile makes a float of it, which cannot hold nanoseconds; the pax record can."""
    text = member.pax_headers.get("mtime")
    if text is None:
        return int(member.mtime) * 10**9
    seconds, _, fraction = text.partition(".")
    nanoseconds = int(fraction[:9].ljust(9, "0") or "0")
    return int(seconds or "0") * 10**9 + (-nanoseconds if text.startswith("-") else nanoseconds)


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path or b".").st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _refused(member: tarfile.TarInfo, cause: str) -> ImageError:
    return ImageError(_STEP, printable(member.name[:MAX_NAME]), cause)
