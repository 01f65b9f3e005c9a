"""Trees of files that are compared: one of a directory, or one that a tar archive holds.

A tree is a dict of paths, relative and as bytes; what there is of each is a dict too:

    kind, mode, owner   of the inode; mode without the kind
    contents            size and digest of a file, what a symbolic link says, numbers of a device
    names               all names that a file has in the tree, the first one of a tree's order first
    xattrs, mtime       the latter in nanoseconds

Needs the standard library only, because a container has a copy of this file.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from decimal import Decimal
from typing import BinaryIO

Tree = dict[bytes, dict[str, object]]
XATTR = "SCHILY.xattr."
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
}
MODES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def of_directory(top: bytes, left_out: frozenset[bytes] = frozenset()) -> Tree:
    """What is below the directory `top`, but not what is below the paths `left_out`, nor they."""
    found: Tree = {}
    inodes: dict[tuple[int, int], list[bytes]] = {}
    for path in _paths(top, b"", left_out):
        place = os.path.join(top, path)
        status = os.lstat(place)
        kind = MODES[stat.S_IFMT(status.st_mode)]
        names = [path]
        if kind != "directory" and status.st_nlink > 1:
            names = inodes.setdefault((status.st_dev, status.st_ino), [])
            names.append(path)
        contents: object = None
        if kind == "file":
            with open(place, "rb") as file:
                contents = _digest(file)
        elif kind == "symlink":
            contents = os.readlink(place)
        elif kind == "device":
            contents = (os.major(status.st_rdev), os.minor(status.st_rdev))
        xattrs = {name: os.getxattr(place, name, follow_symlinks=False) for name in _xattrs(place)}
        found[path] = {
            "kind": kind,
            "mode": 0o777 if kind == "symlink" else stat.S_IMODE(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
            "contents": contents,
            "names": names,
            "xattrs": xattrs,
            "mtime": status.st_mtime_ns,
        }
    return found


def _paths(top: bytes, directory: bytes, left_out: frozenset[bytes]) -> Iterator[bytes]:
    for name in sorted(os.listdir(os.path.join(top, directory))):
        path = os.path.join(directory, name)
        if path in left_out:
            continue
        yield path
        if stat.S_ISDIR(os.lstat(os.path.join(top, path)).st_mode):
            yield from _paths(top, path, left_out)


def _xattrs(place: bytes) -> list[str]:
    # overlayfs's own, and what a security module of this machine has put there, are no part of a tree.
    names = os.listxattr(place, follow_symlinks=False)
    return [name for name in names if name.startswith(("user.", "security.capability", "system.posix_acl_"))]


def of_tar(file: BinaryIO) -> Tree:
    """What a tar archive holds, compressed or not. A hard link has the properties of what it is linked to."""
    found: Tree = {}
    with tarfile.open(fileobj=file, mode="r:*", errors="surrogateescape") as archive:
        for member in archive:
            path = _name(member.name)
            if member.islnk():
                original = found[_name(member.linkname)]
                names = original["names"]
                assert isinstance(names, list)
                names.append(path)
                found[path] = original
                continue
            contents: object = None
            if member.isreg():
                data = archive.extractfile(member)
                assert data is not None
                contents = _digest(data)
            elif member.issym():
                contents = os.fsencode(member.linkname)
            elif member.isdev() and not member.isfifo():
                contents = (member.devmajor, member.devminor)
            headers = member.pax_headers
            found[path] = {
                "kind": KINDS[member.type],
                "mode": 0o777 if member.issym() else member.mode & 0o7777,
                "owner": (member.uid, member.gid),
                "contents": contents,
                "names": [path],
                "xattrs": {
                    key.removeprefix(XATTR): value.encode(errors="surrogateescape")
                    for key, value in headers.items()
                    if key.startswith(XATTR)
                },
                "mtime": int(Decimal(headers.get("mtime", member.mtime)) * 10**9),
            }
    found.pop(b"", None)
    return found


def _name(text: str) -> bytes:
    name = os.fsencode(text).strip(b"/")
    return b"" if name == b"." else name.removeprefix(b"./")


def _digest(file: BinaryIO | object) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while data := file.read(1 << 20):  # type: ignore[union-attr]
        digest.update(data)
        size += len(data)
    return size, digest.hexdigest()


def below(tree: Tree, directory: bytes) -> Tree:
    """The part of a tree that is in a directory, with paths relative to it."""
    prefix = directory + b"/"
    found: Tree = {}
    for path, entry in tree.items():
        if path.startswith(prefix):
            names = entry["names"]
            assert isinstance(names, list)
            kept = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
            found[path.removeprefix(prefix)] = {**entry, "names": kept}
    return found
