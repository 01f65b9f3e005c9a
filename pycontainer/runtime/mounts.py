"""Mount options of config.json as flags, attributes and data: mount(8), config.md "Mounts"."""

from __future__ import annotations

from pycontainer.errors import UsageError
from pycontainer.kernel import mount as k

# option -> (MS_* to set, MS_* to clear, MOUNT_ATTR_* to set, MOUNT_ATTR_* to clear)
_FLAGS: dict[str, tuple[int, int, int, int]] = {
    "ro": (k.MS_RDONLY, 0, k.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, k.MS_RDONLY, 0, k.MOUNT_ATTR_RDONLY),
    "nosuid": (k.MS_NOSUID, 0, k.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, k.MS_NOSUID, 0, k.MOUNT_ATTR_NOSUID),
    "nodev": (k.MS_NODEV, 0, k.MOUNT_ATTR_NODEV, 0),
    "dev": (0, k.MS_NODEV, 0, k.MOUNT_ATTR_NODEV),
    "noexec": (k.MS_NOEXEC, 0, k.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, k.MS_NOEXEC, 0, k.MOUNT_ATTR_NOEXEC),
    "noatime": (k.MS_NOATIME, 0, k.MOUNT_ATTR_NOATIME, k.MOUNT_ATTR__ATIME),
    "atime": (0, k.MS_NOATIME, 0, 0),
    "relatime": (k.MS_RELATIME, 0, 0, k.MOUNT_ATTR__ATIME),
    "norelatime": (0, k.MS_RELATIME, 0, 0),
    "strictatime": (k.MS_STRICTATIME, 0, k.MOUNT_ATTR_STRICTATIME, k.MOUNT_ATTR__ATIME),
    "nostrictatime": (0, k.MS_STRICTATIME, 0, 0),
    "nodiratime": (k.MS_NODIRATIME, 0, k.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, k.MS_NODIRATIME, 0, k.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (k.MS_NOSYMFOLLOW, 0, k.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, k.MS_NOSYMFOLLOW, 0, k.MOUNT_ATTR_NOSYMFOLLOW),
    "sync": (k.MS_SYNCHRONOUS, 0, 0, 0),
    "async": (0, k.MS_SYNCHRONOUS, 0, 0),
    "dirsync": (k.MS_DIRSYNC, 0, 0, 0),
    "mand": (k.MS_MANDLOCK, 0, 0, 0),
    "nomand": (0, k.MS_MANDLOCK, 0, 0),
    "iversion": (k.MS_I_VERSION, 0, 0, 0),
    "noiversion": (0, k.MS_I_VERSION, 0, 0),
    "lazytime": (k.MS_LAZYTIME, 0, 0, 0),
    "nolazytime": (0, k.MS_LAZYTIME, 0, 0),
    "silent": (k.MS_SILENT, 0, 0, 0),
    "loud": (0, k.MS_SILENT, 0, 0),
    "defaults": (0, 0, 0, 0),
}
# For everything below the mount too: option -> (MOUNT_ATTR_* to set, MOUNT_ATTR_* to clear)
_RECURSIVE = {f"r{name}": (set_, clear) for name, (_, _, set_, clear) in _FLAGS.items() if set_ | clear}
# What belongs to a file system as a whole, and not to where it is mounted: mount(2).
_OF_FILE_SYSTEM = ("sync", "dirsync", "mand", "iversion", "lazytime")
_BIND = ("bind", "rbind")
PROPAGATION = {
    "private": k.MS_PRIVATE,
    "rprivate": k.MS_PRIVATE | k.MS_REC,
    "slave": k.MS_SLAVE,
    "rslave": k.MS_SLAVE | k.MS_REC,
    "shared": k.MS_SHARED,
    "rshared": k.MS_SHARED | k.MS_REC,
    "unbindable": k.MS_UNBINDABLE,
    "runbindable": k.MS_UNBINDABLE | k.MS_REC,
}


class Options:
    """What a list of mount options means.

    flags         MS_* for mount(2)
    data          the file system's own options, comma separated
    set, clear    MOUNT_ATTR_* for a bind mount
    recursive_set, recursive_clear   the same for everything below it ("rro", "rnosuid", …)
    recursive     a recursive bind ("rbind")
    propagation   MS_SLAVE and so on, with MS_REC; 0 where none is named
    of_file_system   those flags that a bind mount cannot have of its own
    """

    def __init__(self, options: list[str], at: str = "mounts.options") -> None:
        """`at` is the field's path. Raises UsageError."""
        self.flags = self.set = self.clear = self.recursive_set = self.recursive_clear = self.propagation = 0
        self.recursive = False
        data = []
        for option in options:
            if option in _BIND:
                # Whichever comes last, as in runc: mount(2) is given both.
                self.recursive = self.recursive or option == "rbind"
            elif option in PROPAGATION:
                self.propagation = PROPAGATION[option]
            elif option in _FLAGS:
                flags, clear_flags, set_, clear = _FLAGS[option]
                self.flags = self.flags & ~clear_flags | flags
                self.set, self.clear = self.set & ~clear | set_, self.clear & ~set_ | clear
            elif option in _RECURSIVE:
                set_, clear = _RECURSIVE[option]
                self.recursive_set |= set_
                self.recursive_clear |= clear
            elif option in ("idmap", "ridmap", "tmpcopyup"):
                raise UsageError("read config.json", at, f"{option!r} is not supported")
            else:
                data.append(option)
        self.data = ",".join(data)
        self.of_file_system = [name for name in _OF_FILE_SYSTEM if self.flags & _FLAGS[name][0]]


def plain_option(option: str) -> str:
    """The same for one mount: below a new file system nothing is mounted, so that "rro" is "ro"."""
    return option[1:] if option in _RECURSIVE else option


def names() -> list[str]:
    """Every option that is not the file system's own, sorted: `mountOptions` of features.md."""
    return sorted({*_BIND, *PROPAGATION, *_FLAGS, *_RECURSIVE})
