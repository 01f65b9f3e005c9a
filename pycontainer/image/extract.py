"""A tar stream becomes files below a directory that others may change meanwhile: what `cp` does.

Unlike layer.py, whose directory is new and nobody else's, this process is not chrooted. The directories that hold a
member are found anew by `find`, with openat2(2), and all that is made in them is made through their descriptors: with
O_EXCL, never through what somebody else has put there under its name.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from typing import Any

from pycontainer.errors import ImageError, StepFailed, printable
from pycontainer.image.layer import MAX_DEPTH, nanoseconds_of, set_xattr
from pycontainer.image.stream import ForwardStream
from pycontainer.image.tar import UNFIT, members

_STEP = "copy"
_XATTR_RECORD = "SCHILY.xattr."
_XATTRS = ("user.", "system.posix_acl_")
_CAPABILITY = "security.capability"
_HINTS = {
    errno.ENOSPC: "the file system that it goes to is full",
    errno.EDQUOT: "the quota of the file system that it goes to is used up",
    errno.EROFS: "the container's root or the volume is read-only; what is writable is in its volumes and tmpfs mounts",
    errno.EBUSY: "something is mounted there: write to it from inside, with pycontainer exec",
    errno.EINVAL: "a container with a user namespace has the ids 0 to 65535 only; leave out -a, or use --userns=host",
    errno.EPERM: "a container with a user namespace makes no device nodes",
}


def extract(
    stream: ForwardStream,
    find: Callable[[str], int],
    *,
    owner: tuple[int, int] | None = None,
    plain: bool = False,
) -> None:
    """Make every member of `stream`, as root and with umask 0.

    find   gives a new O_PATH descriptor of a directory, named relative to where the members go ("." for that); it makes
           what is missing
    owner  (uid, gid) of all; None for what the archive says
    plain  leave out set-user-ID and set-group-ID bits, file capabilities and devices, which somebody else could have
           prepared for the host's users

    Like `docker cp` it replaces files, but no directory by a file, nor a file by a directory. Raises ImageError,
    StepFailed.
    """
    with _Extraction(stream, find, owner, plain) as extraction:
        for _, member in members(stream, complete=True):
            try:
                extraction.add(member)
            except OSError as error:
                raise _failed(error, printable(member.name)) from error
            except (ValueError, OverflowError) as error:
                raise ImageError(_STEP, printable(member.name), UNFIT) from error
        try:
            extraction.set_times()
        except OSError as error:
            raise _failed(error, str(error.filename or "")) from error


def _failed(error: OSError, path: str) -> StepFailed:
    number = error.errno or 0
    return StepFailed(_STEP, path, number, hint=_HINTS.get(number, ""), cause=(error.strerror or "failed").lower())


class _Extraction:
    def __init__(
        self, stream: ForwardStream, find: Callable[[str], int], owner: tuple[int, int] | None, plain: bool
    ) -> None:
        self._stream = stream
        self._find = find
        self._owner = owner
        self._plain = plain
        self._parent: tuple[str, int] = ("", -1)  # the directory of the last member, for the next one is in it as well
        self._times: dict[str, int] = {}  # of directories, set at the end because their contents change them

    def __enter__(self) -> _Extraction:
        return self

    def __exit__(self, *_: object) -> None:
        if self._parent[1] >= 0:
            os.close(self._parent[1])

    def add(self, member: tarfile.TarInfo) -> None:
        """One member. Raises ImageError, OSError, ValueError, OverflowError."""
        names = _components(member, member.name)
        if not names:
            # The directory itself, which is there already and whose attributes are its owner's affair.
            return
        parent, name = self._directory(names[:-1]), names[-1]
        if member.isdir():
            self._add_directory(member, parent, names)
        elif member.isreg():
            self._add_file(member, parent, name)
        elif member.issym():
            self._replace(member, parent, name, lambda: os.symlink(member.linkname, name, dir_fd=parent))
            self._set_by_name(member, parent, name)
        elif member.islnk():
            self._add_link(member, names)
        elif member.isdev():
            self._add_node(member, parent, name)
        else:
            raise ImageError(_STEP, printable(member.name), f"members of type {member.type!r} are not supported")

    def set_times(self) -> None:
        """The modification times of the directories. Raises OSError."""
        for path, nanoseconds in self._times.items():
            *above, name = path.split("/")
            try:
                os.utime(name, ns=(nanoseconds,) * 2, dir_fd=self._directory(above), follow_symlinks=False)
            except FileNotFoundError:
                # Somebody has removed it again.
                continue

    def _directory(self, names: list[str]) -> int:
        path = "/".join(names) or "."
        if self._parent[0] != path:
            if len(names) > MAX_DEPTH:
                raise ImageError(_STEP, printable(path), f"more than {MAX_DEPTH} levels deep")
            descriptor = self._find(path)
            if self._parent[1] >= 0:
                os.close(self._parent[1])
            self._parent = (path, descriptor)
        return self._parent[1]

    def _replace(self, member: tarfile.TarInfo, parent: int, name: str, make: Callable[[], Any]) -> Any:
        """Call `make()`, after removing a file that is in its way."""
        try:
            return make()
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                cause = "there is a directory of that name, and it is none"
                raise ImageError(_STEP, printable(member.name), cause) from None
            if _is_mount_point(parent, name):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY)) from None
            os.unlink(name, dir_fd=parent)
            return make()

    def _add_directory(self, member: tarfile.TarInfo, parent: int, names: list[str]) -> None:
        name = names[-1]
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            cause = "it is a directory, and there is something else of that name"
            raise ImageError(_STEP, printable(member.name), cause) from None
        try:
            self._times["/".join(names)] = self._set_attributes(member, descriptor)
        finally:
            os.close(descriptor)

    def _add_file(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = self._replace(member, parent, name, lambda: os.open(name, flags, 0o600, dir_fd=parent))
        try:
            self._write(member, descriptor)
            nanoseconds = self._set_attributes(member, descriptor)
            os.utime(descriptor, ns=(nanoseconds, nanoseconds))
        except BaseException:
            # Half a file would be taken for a whole one.
            os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(descriptor)

    def _write(self, member: tarfile.TarInfo, descriptor: int) -> None:
        regions: Any = member.sparse  # pairs of offset and length; the type that typeshed gives it is wrong
        if regions is None:
            self._stream.copy(descriptor, member.size)
            return
        for offset, length in regions:
            if offset < 0 or length < 0 or offset + length > member.size:
                raise ImageError(_STEP, printable(member.name), "its sparse map exceeds its size")
            os.lseek(descriptor, offset, os.SEEK_SET)
            self._stream.copy(descriptor, length)
        os.ftruncate(descriptor, member.size)

    def _add_link(self, member: tarfile.TarInfo, names: list[str]) -> None:
        target = _components(member, member.linkname)
        if not target or target == names:
            raise ImageError(_STEP, printable(member.name), f"hard link to {printable(member.linkname)}")
        parent = os.dup(self._directory(names[:-1]))
        try:
            source = self._directory(target[:-1])

            def link() -> None:
                os.link(target[-1], names[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

            self._replace(member, parent, names[-1], link)
        finally:
            os.close(parent)

    def _add_node(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if member.isfifo():
            kind, number = stat.S_IFIFO, 0
        elif self._plain:
            cause, hint = "a device node", "-a copies them too, and -, instead of a path, writes a tar archive"
            raise ImageError(_STEP, printable(member.name), cause, hint)
        else:
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            number = os.makedev(member.devmajor, member.devminor)
        # The mode at once, because chmod(2) would follow what takes its place.
        mode = kind | member.mode & 0o777
        self._replace(member, parent, name, lambda: os.mknod(name, mode, number, dir_fd=parent))
        self._set_by_name(member, parent, name)

    def _owner_of(self, member: tarfile.TarInfo) -> tuple[int, int]:
        if self._owner is not None:
            return self._owner
        if not (0 <= member.uid < 2**32 - 1 and 0 <= member.gid < 2**32 - 1):
            raise ImageError(_STEP, printable(member.name), f"owner {member.uid}:{member.gid} is out of range")
        return member.uid, member.gid

    def _set_by_name(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        nanoseconds = nanoseconds_of(member)
        os.chown(name, *self._owner_of(member), dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(nanoseconds, nanoseconds), dir_fd=parent, follow_symlinks=False)

    def _set_attributes(self, member: tarfile.TarInfo, descriptor: int) -> int:
        """Owner, extended attributes, mode, in this order: see layer.py. The time in nanoseconds is returned."""
        os.fchown(descriptor, *self._owner_of(member))
        kept = _XATTRS if self._plain else (*_XATTRS, _CAPABILITY)
        for record, value in member.pax_headers.items():
            name = record.removeprefix(_XATTR_RECORD)
            if record != name and name.startswith(kept):
                set_xattr(descriptor, name, value.encode("utf-8", "surrogateescape"), True)
        os.fchmod(descriptor, stat.S_IMODE(member.mode) & (0o1777 if self._plain else 0o7777))
        return nanoseconds_of(member)


def _is_mount_point(parent: int, name: str) -> bool:
    """Because the kernel lets one be removed that is in another mount namespace: what was mounted is gone with it."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        return _mount_id(descriptor) != _mount_id(parent)
    finally:
        os.close(descriptor)


def _mount_id(descriptor: int) -> str:
    with open(f"/proc/self/fdinfo/{descriptor}") as file:
        return next(line for line in file if line.startswith("mnt_id:"))


def _components(member: tarfile.TarInfo, name: str) -> list[str]:
    """The components of a name, without `.`; a name that is absolute or holds `..` is refused."""
    components = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in components:
        raise ImageError(_STEP, printable(member.name), "its name leads outside")
    return components
