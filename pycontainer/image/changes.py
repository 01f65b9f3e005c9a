"""What a container has changed of its image: its upper directory, compared with the layers below it.

Overlayfs keeps in the upper directory a copy of all that was opened for writing, a whiteout (a character device 0:0)
for each file that was removed, and marks directories that hide all below them as opaque: filesystems/overlayfs.rst in
the kernel's documentation.

Both are read with the ids that files have in the container: the upper directory through an ID-mapped mount that takes
the container's range back to 0, the layers as they are. Neither disturbs the container that has them mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from pycontainer.errors import ImageError, printable
from pycontainer.image.layer import MAX_DEPTH, OPAQUE_XATTR
from pycontainer.image.pack import Packer, list_directory
from pycontainer.kernel import mount, namespace
from pycontainer.kernel.id_map import IdMap

ADDED, CHANGED, DELETED = "A", "C", "D"

_O_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT_PREFIX = b".wh."
_OPAQUE_MARKER = b".wh..wh..opq"


class Change:
    """One path, relative to the root, that is ADDED, CHANGED or DELETED.

    directory, entry   where it is in the upper directory, for as long as the next change is not asked for
    by_opaque          DELETED because a directory above it is opaque
    opaque             a directory that hides what the layers below have in it
    """

    __slots__ = ("by_opaque", "directory", "entry", "kind", "opaque", "path")

    def __init__(
        self, kind: str, path: bytes, directory: int, *, opaque: bool = False, by_opaque: bool = False
    ) -> None:
        self.kind = kind
        self.path = path
        self.entry = path.rpartition(b"/")[2] or b"."
        self.directory = directory
        self.opaque = opaque
        self.by_opaque = by_opaque


def open_upper(path: str, maps: list[IdMap]) -> int:
    """The upper directory with the ids that its files have in a container with these maps. Raises OSError."""
    tree = mount.open_tree(mount.AT_FDCWD, path, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    try:
        attributes, userns = mount.MOUNT_ATTR_RDONLY, 0
        if maps:
            back = [IdMap(extent.outside, extent.inside, extent.size) for extent in maps]
            attributes, userns = attributes | mount.MOUNT_ATTR_IDMAP, namespace.new_user_namespace(back, back)
        try:
            mount.mount_setattr(tree, 0, attributes, userns=userns)
        finally:
            if userns:
                os.close(userns)
    except BaseException:
        os.close(tree)
        raise
    return tree


def open_lower(layers: list[str], mount_point: str) -> int:
    """The layers (base first) as one file system. In a mount namespace and a process of its own. Raises OSError."""
    if len(layers) == 1:
        return os.open(layers[0], _O_DIRECTORY)
    # Named by descriptor, as in overlay.py.
    names = ":".join(str(os.open(layer, _O_DIRECTORY)) for layer in reversed(layers))
    os.chdir("/proc/self/fd")
    mount.mount("overlay", mount_point, "overlay", mount.MS_RDONLY | mount.MS_NODEV, f"lowerdir={names}")
    return mount.open_tree(mount.AT_FDCWD, mount_point, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)


class Comparison:
    """Compares the trees of two O_PATH descriptors.

    passed_over  paths that count only with something else than an empty file, or than a directory of such, in them
    copies       what was copied up counts as changed, whether a difference can be seen or not: a file with its old size
                 and time may have other contents
    """

    def __init__(self, upper: int, lower: int, passed_over: frozenset[bytes], *, copies: bool = False) -> None:
        self._upper = upper
        self._lower = lower
        self._passed_over = passed_over
        self._copies = copies

    def changes(self) -> Iterator[Change]:
        """All of them, sorted, a directory before what is in it; one with changes in it counts as changed itself."""
        own = _differs(os.fstat(self._upper), os.fstat(self._lower), b"", self._upper, self._lower)
        if own:
            yield Change(CHANGED, b"", self._upper)
        yield from self._below(self._upper, self._lower, b"", 0, hidden=False)

    def _below(self, upper: int, lower: int | None, path: bytes, depth: int, *, hidden: bool) -> Iterator[Change]:
        """`hidden`: what the layers have here is hidden, though it was there."""
        if depth > MAX_DEPTH:
            raise ImageError(
                "compare with the image", printable(os.fsdecode(path)), f"more than {MAX_DEPTH} levels deep"
            )
        present = set(list_directory(upper))
        names = present | set(list_directory(lower)) if hidden and lower is not None else present
        for name in sorted(names):
            place = path + b"/" + name if path else name
            before = None if lower is None else _lstat(lower, name)
            after = _lstat(upper, name) if name in present else None
            if after is None or is_whiteout(after):
                # One that vanished since it was listed is passed over: the container works on it.
                if before is not None and (after is not None or name not in present):
                    yield Change(DELETED, place, upper, by_opaque=after is None)
            elif stat.S_ISDIR(after.st_mode):
                yield from self._directory(upper, lower, place, after, before, depth, hidden=hidden)
            elif before is None:
                if place not in self._passed_over or after.st_size:
                    yield Change(ADDED, place, upper)
            elif _is_whole(upper, name, place) if self._copies else _differs(after, before, name, upper, lower):
                yield Change(CHANGED, place, upper)

    def _directory(
        self,
        upper: int,
        lower: int | None,
        path: bytes,
        after: os.stat_result,
        before: os.stat_result | None,
        depth: int,
        *,
        hidden: bool,
    ) -> Iterator[Change]:
        name = path.rpartition(b"/")[2]
        try:
            descriptor = os.open(name, _O_DIRECTORY, dir_fd=upper)
        except FileNotFoundError:
            return
        below = None
        try:
            opaque = is_opaque(descriptor, path)
            if before is not None and stat.S_ISDIR(before.st_mode):
                below = os.open(name, _O_DIRECTORY, dir_fd=lower)
            own = Change(ADDED if before is None else CHANGED, path, upper, opaque=opaque and below is not None)
            if before is None:
                shown = path not in self._passed_over
            else:
                # What a layer makes anew inside an opaque directory it has to hold, the same as before or not. Any
                # other was copied up for a change, be it of its time or of its extended attributes.
                copied = self._copies and (hidden or path not in self._passed_over)
                shown = copied or _differs(after, before, name, upper, lower)
            if shown:
                yield own
            for change in self._below(descriptor, below, path, depth + 1, hidden=hidden or opaque):
                if not shown:
                    shown = True
                    yield own
                yield change
        finally:
            os.close(descriptor)
            if below is not None:
                os.close(below)


def pack(packer: Packer, changes: Iterator[Change]) -> bool:
    """Write the changes as a layer, with whiteouts as the image-spec has them (layer.md); whether there were any."""
    found = False
    for change in changes:
        found = True
        parent, slash, name = change.path.rpartition(b"/")
        if change.kind != DELETED:
            try:
                packer.add_entry(change.directory, change.entry, change.path or b".")
            except FileNotFoundError:
                # A container that is not paused has removed it.
                continue
            if change.opaque:
                packer.add_empty(change.path + b"/" + _OPAQUE_MARKER)
        elif not change.by_opaque:
            packer.add_empty(parent + slash + _WHITEOUT_PREFIX + name)
    packer.finish()
    return found


def _lstat(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_whiteout(status: os.stat_result) -> bool:
    """Whether it takes away what lower layers have under its name."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _differs(after: os.stat_result, before: os.stat_result, name: bytes, upper: int, lower: int | None) -> bool:
    """As docker sees it: of a directory its size and time say nothing."""

    def fields(status: os.stat_result) -> tuple[int, ...]:
        contents = () if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns)
        return (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, *contents)

    if fields(after) != fields(before):
        return True
    return stat.S_ISREG(after.st_mode) and _capability(upper, name) != _capability(lower, name)


def _capability(directory: int | None, name: bytes) -> bytes:
    try:
        return os.getxattr(
            b"/proc/self/fd/%d/%s" % (directory or 0, name), "security.capability", follow_symlinks=False
        )
    except OSError:
        return b""


def is_opaque(directory: int, path: bytes) -> bool:
    """Whether a directory of the upper one hides what is below. Raises ImageError."""
    place = f"/proc/self/fd/{directory}"
    names = os.listxattr(place)
    if "trusted.overlay.redirect" in names:
        raise _refers(path, "redirect_dir")
    return OPAQUE_XATTR in names and os.getxattr(place, OPAQUE_XATTR) == b"y"


def _is_whole(directory: int, name: bytes, path: bytes) -> bool:
    """True; raises ImageError for a file of which only the attributes were copied up."""
    if "trusted.overlay.metacopy" in os.listxattr(b"/proc/self/fd/%d/%s" % (directory, name), follow_symlinks=False):
        raise _refers(path, "metacopy")
    return True


def _refers(path: bytes, setting: str) -> ImageError:
    cause = f"overlayfs has kept it in another form, because this system asks for it ({setting})"
    hint = f"echo N > /sys/module/overlay/parameters/{setting}, and make the container anew"
    return ImageError("compare with the image", printable(os.fsdecode(path)), cause, hint)
