"""A container's root file system: its image's layers below, a directory of its own above, joined by overlayfs.

With a user namespace the layers are ID-mapped mounts: on disk they keep the image's ids, through the mount the same ids
are the container's. The upper directory is not mapped: it belongs to the container's range on disk, so that nothing in
it is ever owned by the host's root. See mount_setattr(2), and filesystems/overlayfs.rst in the kernel's documentation.
"""

from __future__ import annotations

import os

from pycontainer.errors import ImageError
from pycontainer.kernel import files, mount, namespace
from pycontainer.kernel.file_flags import spread_subdirectories
from pycontainer.kernel.id_map import IdMap
from pycontainer.kernel.operation import Journal, Operation, word
from pycontainer.kernel.undo import Undo


class NewUserNamespace(Operation):
    """A user namespace for the mounts alone; returns its descriptor."""

    group = "image"
    step = "make the user namespace of the layers"
    reason = "only a carrier of the id map: ID-mapped mounts take theirs from a user namespace"
    hint = "are user namespaces switched off (sysctl user.max_user_namespaces)? --userns=host does without"

    def __init__(self, maps: list[IdMap]) -> None:
        self.maps = maps

    def shell(self) -> str:
        text = "\\n".join(str(extent) for extent in self.maps)
        return (
            f"unshare --user sleep infinity &\nfor map in uid_map gid_map; do printf '{text}\\n' > /proc/$!/$map; done"
        )

    def execute(self) -> int:
        return namespace.new_user_namespace(self.maps, self.maps)


class PrivateMounts(Operation):
    """A mount namespace for this command: what it mounts, nobody else sees, and it is gone with the last process."""

    group = "image"
    step = "unshare the mount namespace"
    reason = "no mount ever appears on the host, so none can be left behind"

    def shell(self) -> str:
        return "unshare --mount --propagation slave"

    def execute(self) -> None:
        namespace.unshare(namespace.CLONE_NEWNS)
        mount.mount(None, "/", None, mount.MS_SLAVE | mount.MS_REC, None)


class MountScratch(Operation):
    """A tmpfs for the mount points of the mapped layers."""

    group = "image"
    step = "mount the layers' mount points"
    reason = "each mapped layer needs a place to be mounted at; Linux 6.1 takes no detached ones as layers"

    def __init__(self, path: str, count: int) -> None:
        self.path = path
        self.count = count

    def shell(self) -> str:
        names = " ".join(str(position) for position in range(self.count))
        path = word(self.path)
        return f"mount -t tmpfs -o nosuid,nodev,noexec,mode=0700 tmpfs {path}\ncd {path} && mkdir {names}"

    def execute(self) -> None:
        flags = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
        mount.mount("tmpfs", self.path, "tmpfs", flags, "mode=0700")
        for position in range(self.count):
            files.mkdir(f"{self.path}/{position}")


class MapLayer(Operation):
    """One layer as an ID-mapped, read-only mount."""

    group = "image"
    step = "map the ids of a layer"
    reason = "the layer's ids become the container's, without touching or copying a file"
    hint = "this file system has no ID-mapped mounts; use --userns=host"

    def __init__(self, layer: str, userns: int, target: str) -> None:
        self.path = layer
        self.userns = userns
        self.target = target

    def shell(self) -> str:
        command = f"mount --bind -o X-mount.idmap=/proc/$!/ns/user,ro {word(self.path)} {os.path.basename(self.target)}"
        # On a line of its own, because a comment cannot be folded.
        return f"# from util-linux 2.39 on: mount --version\n{command}"

    def execute(self) -> None:
        tree = mount.open_tree(mount.AT_FDCWD, self.path, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
        try:
            attributes = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_IDMAP
            mount.mount_setattr(tree, 0, attributes, userns=self.userns)
            mount.move_mount(tree, mount.AT_FDCWD, self.target)
        finally:
            os.close(tree)


class MountOverlay(Operation):
    """The layers and the upper directory as one file system."""

    group = "image"
    step = "mount the overlay"
    hint = "the upper directory needs ext4, xfs or btrfs below; ID-mapped layers need Linux 5.19, or --userns=host"
    reason = "reads fall through to the layers; the first write to a file copies it up"

    def __init__(self, lowers: list[str], upper: str, work: str, target: str) -> None:
        self.lowers = lowers
        self.upper = upper
        self.work = work
        self.path = target

    def shell(self) -> str:
        # In short words, because mount(8) takes all the layers as one, which cannot be folded.
        mapped = os.path.dirname(self.lowers[0]) == self.path
        names = [os.path.basename(path) for path in self.lowers]
        lines = [] if mapped else [f"cd {os.path.dirname(self.lowers[0])}"]
        lines += [] if mapped else [f"layer{number}={name}" for number, name in enumerate(names)]
        lower = ":".join(names if mapped else (f"$layer{number}" for number in range(len(names))))
        options = f"-o nodev,lowerdir={lower} -o upperdir={word(self.upper)} -o workdir={word(self.work)}"
        lines.append(f"mount -t overlay {options} overlay {word(self.path)}")
        return "\n".join(lines)

    def execute(self) -> None:
        # Named by descriptor, because mount(2) has room for 4,095 bytes of options: so 500 layers fit.
        with Undo() as undo:
            descriptors = []
            for path in [*self.lowers, self.upper, self.work]:
                descriptor = files.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                undo.push(os.close, descriptor)
                descriptors.append(str(descriptor))
            lowers = ":".join(descriptors[:-2])
            home = os.open(".", os.O_PATH | os.O_CLOEXEC)
            undo.push(os.close, home)
            undo.push(os.fchdir, home)
            files.chdir("/proc/self/fd")
            # nodev, because a layer may hold a node of any device with any mode.
            options = f"lowerdir={lowers},upperdir={descriptors[-2]},workdir={descriptors[-1]}"
            mount.mount("overlay", self.path, "overlay", mount.MS_NODEV, options)


def make_directories(directory: str, id_base: int) -> None:
    """The directories of one container, upper and work, owned by its root. Raises OSError."""
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    spread_subdirectories(parent)
    os.mkdir(directory, 0o700)
    for name in ("upper", "work"):
        os.mkdir(f"{directory}/{name}", 0o755)
        # The upper directory's owner and mode are those of the container's /.
        os.chown(f"{directory}/{name}", id_base, id_base)


def mount_root(journal: Journal, layers: list[str], directory: str, maps: list[IdMap], target: str) -> int:
    """Mount the root file system on the directory `target`, in a mount namespace of this process; how many mounts.

    layers     absolute directories, base first
    directory  what make_directories made
    maps       the container's id map; empty for the host's ids

    Raises StepFailed, ImageError. What was mounted goes with the process, and nothing needs to be unmounted.
    """
    for layer in layers:
        if not os.path.isdir(layer):
            hint = "load or import the image again, which restores it"
            raise ImageError("mount the overlay", layer, "the layer is not in the store any more", hint)
    lowers = layers[::-1]
    journal.perform(PrivateMounts())
    journal.define("ID", os.path.basename(directory))
    if maps:
        userns = journal.perform(NewUserNamespace(maps))
        try:
            # The overlay is mounted over the scratch file system, and keeps its own reference to each layer.
            journal.perform(MountScratch(target, len(lowers)))
            for position, layer in enumerate(lowers):
                journal.perform(MapLayer(layer, userns, f"{target}/{position}"))
        finally:
            os.close(userns)
        lowers = [f"{target}/{position}" for position in range(len(lowers))]
    journal.perform(MountOverlay(lowers, f"{directory}/upper", f"{directory}/work", target))
    return 2 if maps else 1
