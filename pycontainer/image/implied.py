"""Directories that a layer's tar only implies look like those of the layers below.

overlayfs shows a merged directory with the owner, mode and times of the uppermost layer that has it. A tar that holds
`etc/motd` but no entry for `etc` must not change how `etc` looks.
"""

from __future__ import annotations

import os
import stat

from pycontainer.image.layer import OPAQUE_XATTR
from pycontainer.kernel import record

_OVERLAY_XATTRS = "trusted.overlay."
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def inherit_attributes(layer: str, implied: list[bytes], lower: list[str]) -> None:
    """Give each directory of `implied` in `layer` the attributes that it has in `lower` (base first). Raises OSError.

    A directory that no lower layer shows keeps what it was made with: root's, 0755.
    """
    # Deepest first: writing attributes needs no more than the directory itself, and times stay as they are set.
    for path in reversed(implied):
        for directory in reversed(lower):
            descriptor, hidden = _find(directory, path)
            if descriptor is not None:
                try:
                    _copy_attributes(descriptor, layer, path)
                finally:
                    os.close(descriptor)
            if descriptor is not None or hidden:
                break


def _find(root: str, path: bytes) -> tuple[int | None, bool]:
    """A descriptor of the directory `path` in the layer `root`, or None and whether this layer hides those below.

    Never follows a symlink: the layer is not the root of this process.
    """
    current = os.open(root, _FLAGS)
    hidden = False
    for name in path.split(b"/") if path else []:
        hidden = hidden or _is_opaque(current)
        try:
            following = os.open(name, _FLAGS, dir_fd=current)
        except FileNotFoundError:
            return None, hidden
        except OSError:  # a whiteout, a file or a symlink
            return None, True
        finally:
            os.close(current)
        current = following
    return current, hidden


def _is_opaque(descriptor: int) -> bool:
    try:
        return os.getxattr(descriptor, OPAQUE_XATTR) == b"y"
    except OSError:
        return False


def _copy_attributes(source: int, layer: str, path: bytes) -> None:
    target, _ = _find(layer, path)
    if target is None:
        return
    try:
        status = os.fstat(source)
        os.fchown(target, status.st_uid, status.st_gid)
        record.count(f"fchown(…, {status.st_uid}, {status.st_gid})")
        for name in os.listxattr(source):
            if not name.startswith(_OVERLAY_XATTRS):
                value = os.getxattr(source, name)
                os.setxattr(target, name, value)
                record.count(f"fsetxattr(…, {record.quoted(name)}, …, {len(value)}, 0)")
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        record.count(f"fchmod(…, 0{stat.S_IMODE(status.st_mode):o})")
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    finally:
        os.close(target)
