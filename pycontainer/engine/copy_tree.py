"""Copying a tree of files with all that belongs to them: owners, modes, times, links, extended attributes, holes."""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Place:
    """Where a copy is at: the same directory in the tree that is read and in the one that is written."""

    def __init__(self, source: int, target: int) -> None:
        self.source = os.open(".", _DIRECTORY, dir_fd=source)
        self.target = os.open(".", _DIRECTORY, dir_fd=target)
        # For each level the names that are left to copy, and on the way to it the names of the directories.
        self.left = [os.listdir(self.source)]
        self.path: list[str] = []

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)

    def _go(self, name: str) -> None:
        source = os.open(name, _DIRECTORY, dir_fd=self.source)
        try:
            target = os.open(name, _DIRECTORY, dir_fd=self.target)
        except BaseException:
            os.close(source)
            raise
        self.close()
        self.source, self.target = source, target

    def enter(self, name: str) -> None:
        self._go(name)
        self.path.append(name)
        self.left.append(os.listdir(self.source))

    def leave(self) -> bool:
        """Go back to the directory above, when all in this one is there; False at the top."""
        # Now, because each file that was made has changed the directory's time.
        copy_attributes(self.source, self.target, os.fstat(self.source))
        self.left.pop()
        if not self.path:
            return False
        self.path.pop()
        self._go("..")
        return True


def copy_tree(source: int, target: int) -> None:
    """Copy all in the directory `source` into the empty directory `target`, and its own attributes. Raises OSError.

    Nobody else may change either of the two meanwhile. However deep the tree is, there are a few descriptors and no
    recursion. The whiteouts of overlayfs are left out, of which a single layer may have some that hide nothing.
    """
    copies: dict[tuple[int, int], str] = {}
    place = _Place(source, target)
    try:
        while True:
            if not place.left[-1]:
                if not place.leave():
                    return
                continue
            name = place.left[-1].pop()
            try:
                status = os.stat(name, dir_fd=place.source, follow_symlinks=False)
            except FileNotFoundError:
                # Overlayfs lists the whiteouts of a directory that no other layer has.
                continue
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(name, 0o700, dir_fd=place.target)
                place.enter(name)
            elif (inode := (status.st_dev, status.st_ino)) in copies:
                os.link(copies[inode], name, src_dir_fd=target, dst_dir_fd=place.target, follow_symlinks=False)
            elif not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
                _copy_file(name, place.source, place.target, status)
                if status.st_nlink > 1:
                    copies[inode] = "/".join([*place.path, name])
    finally:
        place.close()


def _copy_file(name: str, source: int, target: int, status: os.stat_result) -> None:
    """Anything but a directory."""
    if stat.S_ISREG(status.st_mode):
        _copy_content(name, source, target, status.st_size)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=target)
    theirs = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        ours = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
        try:
            copy_attributes(theirs, ours, status)
        finally:
            os.close(ours)
    finally:
        os.close(theirs)


def _copy_content(name: str, source: int, target: int, size: int) -> None:
    theirs = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        ours = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            position = 0
            while position < size:
                try:
                    position = os.lseek(theirs, position, os.SEEK_DATA)
                except OSError as error:
                    if error.errno != errno.ENXIO:
                        raise
                    # A hole up to the end.
                    break
                end = os.lseek(theirs, position, os.SEEK_HOLE)
                os.lseek(ours, position, os.SEEK_SET)
                while position < end:
                    # Not copy_file_range(2), which does not copy from an overlay to what is below it.
                    sent = os.sendfile(ours, theirs, position, end - position)
                    if not sent:
                        raise OSError(errno.EIO, "the file became shorter", name)
                    position += sent
            os.ftruncate(ours, size)
        finally:
            os.close(ours)
    finally:
        os.close(theirs)


def copy_attributes(source: int, target: int, status: os.stat_result) -> None:
    """Give `target` the owner, mode, extended attributes and times of `source`, whose `status` is. Raises OSError.

    The descriptors may be O_PATH ones, of symbolic links too. What the target's file system cannot store is left out.
    """
    # By /proc, because the system calls that take a descriptor refuse those of O_PATH.
    theirs, ours = f"/proc/self/fd/{source}", f"/proc/self/fd/{target}"
    os.chown(ours, status.st_uid, status.st_gid)
    if not stat.S_ISLNK(status.st_mode):
        # After chown(2), which takes setuid bits away, as it does with the attribute of capabilities.
        os.chmod(ours, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(theirs):
        # Overlayfs's own, which a layer has and its files do not.
        if not name.startswith("trusted.overlay."):
            _copy_attribute(theirs, ours, name)
    os.utime(ours, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_attribute(source: str, target: str, name: str) -> None:
    try:
        os.setxattr(target, name, os.getxattr(source, name))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
