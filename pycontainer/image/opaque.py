"""A layer that hides all the layers below it, the root directory included.

A directory is opaque by an xattr that it has, except for a layer's root: overlayfs does not look for it there. So
the root gets a whiteout for each name that would be seen through it. A chain id says what the layers below it are.
"""

from __future__ import annotations

import os
import stat

from pycontainer.image.layer import OPAQUE_XATTR
from pycontainer.kernel import record


def hide_lower_root(layer: str, lower: list[str]) -> None:
    """Hide what `lower` (base first) has in its root, if the root of `layer` is opaque. Raises OSError."""
    if not _is_opaque(layer):
        return
    own = {entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(os.fsencode(layer))}
    for name in _visible(lower):
        path = os.path.join(os.fsencode(layer), name)
        if name not in own:
            os.mknod(path, stat.S_IFCHR, 0)
            record.count("mknodat(AT_FDCWD, …, S_IFCHR|000, makedev(0, 0))")
        elif own[name]:
            os.setxattr(path, OPAQUE_XATTR, b"y")
            record.count(f'setxattr(…, "{OPAQUE_XATTR}", "y", 1, 0)')


def _visible(layers: list[str]) -> set[bytes]:
    """The names in the root of these layers together."""
    names: set[bytes] = set()
    whiteouts: set[bytes] = set()
    for layer in reversed(layers):
        for entry in os.scandir(os.fsencode(layer)):
            if entry.name not in names and entry.name not in whiteouts:
                status = entry.stat(follow_symlinks=False)
                hides = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
                (whiteouts if hides else names).add(entry.name)
        if _is_opaque(layer):
            break
    return names


def _is_opaque(directory: str) -> bool:
    return OPAQUE_XATTR in os.listxattr(directory) and os.getxattr(directory, OPAQUE_XATTR) == b"y"
