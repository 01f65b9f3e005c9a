"""An empty volume gets what the image has at its mount point, as docker has it: once, when it is first mounted there.

    ROOT/volumes/NAME/_copy.partial  the image's files on their way; half of them where a command was killed
    ROOT/volumes/NAME/_copy          all of them, to be moved into _data

Killed at any point, the next container that is started with the volume begins anew, or moves what is left to move.
"""

from __future__ import annotations

import fcntl
import os

from pycontainer.engine.volume_data import DIRECTORY, data, directory
from pycontainer.kernel import files, mount, record
from pycontainer.kernel.operation import Operation, word
from pycontainer.kernel.root_path import open_in_root
from pycontainer.kernel.tree import remove_tree
from pycontainer.kernel.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.kernel.operation import Journal


def prepare(journal: Journal, root: str, name: str, copy: CopyUp | None) -> None:
    """Have the volume whole, with what `copy` copies into it if it is empty. Waits for a start that does the same.

    Raises StepFailed, OSError.
    """
    lock = os.open(directory(root, name), DIRECTORY)
    try:
        # Given up when the descriptor is closed, or this process is killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _finish(root, name)
        if copy is not None and _is_empty(data(root, name)):
            journal.perform(copy)
            _finish(root, name)
    finally:
        os.close(lock)


def _is_empty(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is None


def _finish(root: str, name: str) -> None:
    """Move what is complete into the volume, also what a killed command has not. Raises OSError.

    Entry by entry, and not by giving the volume another directory: a container may have this one mounted already.
    """
    path = f"{directory(root, name)}/_copy"
    try:
        copy = os.open(path, DIRECTORY)
    except FileNotFoundError:
        return
    from pycontainer.engine.copy_tree import copy_attributes

    volume = os.open(data(root, name), DIRECTORY)
    try:
        status = os.fstat(copy)
        for entry in os.listdir(copy):
            if not _exists(entry, volume):
                os.rename(entry, entry, src_dir_fd=copy, dst_dir_fd=volume)
        copy_attributes(copy, volume, status)
    finally:
        os.close(copy)
        os.close(volume)
    remove_tree(path)


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class CopyUp(Operation):
    """What the image has at a path, with the ids that it has in the image, beside the data of a volume.

    mount_point  where the image may be mounted for a moment, in a mount namespace of this process
    layers       absolute directories, base first
    """

    group = "image"
    step = "copy the image's files into the volume"
    reason = "a volume that is empty begins with what the image has there"
    hint = "is the disk full? with :nocopy behind it, the volume stays empty"

    def __init__(self, root: str, name: str, target: str, layers: list[str], mount_point: str) -> None:
        self.path = target
        self.layers = layers
        self.mount_point = mount_point
        self.staging = f"{directory(root, name)}/_copy.partial"
        self.complete = f"{directory(root, name)}/_copy"
        self.data = data(root, name)

    def shell(self) -> str:
        return f"cp -a …{word(self.path)}/. {word(self.data)}"

    def execute(self) -> None:
        from pycontainer.engine.copy_tree import copy_tree
        from pycontainer.kernel.syscalls import call

        with Undo() as undo:
            image = self._open_image()
            record.name(image, "image")
            undo.push(os.close, image)
            try:
                source = open_in_root(image, self.path, os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                return
            undo.push(os.close, source)
            remove_tree(self.staging)
            files.mkdir(self.staging, 0o700)
            undo.push(remove_tree, self.staging)
            target = os.open(self.staging, DIRECTORY)
            undo.push(os.close, target)
            copy_tree(source, target)
            # Before the rename that makes it count, because the machine may go down.
            call("syncfs", target, path=self.staging, shown={0: record.descriptor})
            files.rename(self.staging, self.complete)

    def _open_image(self) -> int:
        """The image's root, mounted nowhere and with the ids that it has on disk: the volume's files have those too."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        if len(self.layers) == 1:
            return files.open(self.layers[0], flags)
        with Undo() as undo:
            descriptors = []
            for layer in reversed(self.layers):
                descriptors.append(files.open(layer, flags))
                undo.push(os.close, descriptors[-1])
            home = os.open(".", os.O_PATH | os.O_CLOEXEC)
            undo.push(os.close, home)
            undo.push(os.fchdir, home)
            # As in overlay.py: mount(2) has room for 4,095 bytes of options.
            files.chdir("/proc/self/fd")
            options = f"lowerdir={':'.join(map(str, descriptors))}"
            mount.mount("overlay", self.mount_point, "overlay", mount.MS_RDONLY | mount.MS_NODEV, options)
            try:
                return files.open(self.mount_point, flags)
            finally:
                mount.umount2(self.mount_point, mount.MNT_DETACH)
