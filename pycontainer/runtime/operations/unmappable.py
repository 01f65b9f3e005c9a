"""Which mount of a tree cannot be ID-mapped: mount_setattr(2) refuses the whole, and does not say because of which."""

from __future__ import annotations

import errno
import os

from pycontainer.errors import StepFailed
from pycontainer.kernel import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def failure(step: str, source: str, error: OSError, *, recursive: bool, userns: int) -> StepFailed:
    """What to raise for `error` of mapping the mount at `source`, with `recursive` those below it too.

    userns  a user namespace that carries the id map
    """
    for place, fstype in _mounts(os.path.realpath(source), recursive=recursive):
        number = _refusal(place, userns)
        if number == errno.EINVAL:
            cause = f"this kernel has no ID-mapped mounts of {fstype}"
            since = "Linux 6.3 has those of tmpfs; " if fstype == "tmpfs" else ""
        elif number == errno.EPERM:
            cause, since = f"this mount of {fstype} has an id map already, or belongs to another user namespace", ""
        else:
            continue
        return StepFailed(step, place, number, cause=cause, hint=since + _ways_out(source, place))
    return StepFailed(step, source, error.errno or 0, hint=_ways_out(source, source))


def _ways_out(source: str, place: str) -> str:
    leave_out = "--mount type=bind,…,bind-nonrecursive leaves out what is mounted below the source; "
    below = place != os.path.realpath(source)
    return f"{leave_out if below else ''}-v …:noidmap shows the files as nobody's; --userns=host needs no map"


def _refusal(place: str, userns: int) -> int:
    """The errno with which the mount at `place` alone refuses the map; 0 where it takes it, or cannot be reached."""
    try:
        # No automount is set off, because this only asks.
        flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_NO_AUTOMOUNT
        tree = mount.open_tree(mount.AT_FDCWD, place, flags)
    except OSError:
        return 0
    try:
        mount.mount_setattr(tree, 0, mount.MOUNT_ATTR_IDMAP, userns=userns)
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(tree)
    return 0


def _mounts(source: str, *, recursive: bool) -> Iterator[tuple[str, str]]:
    """(path, file system) of what a bind of `source` takes along, itself first. Raises OSError."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            # The last one at a place is the one that is seen there.
            found[_unescaped(before.split()[4])] = after.split(" ", 1)[0]
    above = source
    while above not in found and above != "/":
        above = os.path.dirname(above)
    yield source, found.get(above, "its file system")
    if recursive:
        below = f"{source.rstrip('/')}/"
        yield from sorted(
            (place, fstype) for place, fstype in found.items() if place.startswith(below) and place != below
        )


def _unescaped(text: str) -> str:
    """A path of mountinfo, in which a space, a tab, a line feed and a backslash are written in octal: proc(5)."""
    for code in ("\\040", "\\011", "\\012", "\\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text
