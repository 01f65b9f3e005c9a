"""The directories of volumes.

    ROOT/volumes/NAME/_data       what containers see; its files have the ids that they have in the container
    ROOT/volumes/NAME/_copy…      an image's files on their way into it: see copy_up.py
    ROOT/volumes/.DIGITS.NAME     a volume that is being removed

A directory is made, and renamed to be removed, inside the write transaction that records it. Where a command was killed
in between, `restore` does one half or undoes the other. Whoever copies or removes files holds a lock, flock(2), on the
volume's directory.
"""

from __future__ import annotations

import fcntl
import os

from pycontainer.kernel.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIGITS = 8
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def directory(root: str, name: str) -> str:
    """Where all of a volume is."""
    return f"{root}/volumes/{name}"


def data(root: str, name: str) -> str:
    """What containers see of it."""
    return f"{root}/volumes/{name}/_data"


def make(root: str, name: str) -> None:
    """Make what is missing of a volume's directories; what is there stays. Raises OSError."""
    # Here, because commands that only look have this module too.
    from pycontainer.kernel import files

    os.makedirs(root, exist_ok=True)
    # For root only, because a volume may hold set-user-ID programs.
    for path, mode in ((f"{root}/volumes", 0o700), (directory(root, name), 0o700), (data(root, name), 0o755)):
        try:
            files.mkdir(path)
        except FileExistsError:
            continue
        # Not left to mkdir(2), which asks the umask.
        files.chmod(path, mode)


def discard(root: str, name: str) -> str:
    """Take a volume's directory away, in the transaction that forgets the volume; what `destroy` gets. Raises OSError.

    "" where there is none.
    """
    from pycontainer.kernel import files

    path = f"{root}/volumes/.{os.urandom(_DIGITS // 2).hex()}.{name}"
    try:
        files.rename(directory(root, name), path)
    except FileNotFoundError:
        return ""
    return path


def destroy(path: str) -> None:
    """Remove what `discard` has taken away, after its transaction; no failure where nothing is. Raises OSError."""
    try:
        descriptor = os.open(path, DIRECTORY)
    except FileNotFoundError:
        return
    try:
        # Somebody else who holds it removes it at this moment.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(path)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def names(root: str) -> list[str]:
    """Of all directories, those of volumes that are being removed among them."""
    try:
        return os.listdir(f"{root}/volumes")
    except FileNotFoundError:
        return []


def restore(root: str, found: list[str], known: set[str], adopt: Callable[[str], None]) -> list[str]:
    """Make the directories what the database says, inside a write transaction; what is to be destroyed. Raises OSError.

    found  the names of directories that belong to no volume
    known  the names of the volumes
    adopt  called with the name of a directory that has files and no volume. Removing it could not be undone, and no
           command that was killed leaves one: somebody has lost the database, or put back an older one
    """
    discarded = []
    for name in found:
        path = directory(root, name)
        original = name[_DIGITS + 2 :]
        if not name.startswith("."):
            if name not in known and not _remove_empty(path):
                adopt(name)
        elif original in known and not os.path.exists(directory(root, original)):
            # Its transaction never came to an end.
            os.rename(path, directory(root, original))
        else:
            discarded.append(path)
    return discarded


def _remove_empty(path: str) -> bool:
    """Remove the directory of a volume that was never recorded; False where it has files."""
    for place in (f"{path}/_data", path):
        try:
            os.rmdir(place)
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True
