"""Where `save` and `export` write to: standard output, or a file that is there when it is complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator

from pycontainer.errors import StepFailed, UsageError

_MODE = 0o600  # as docker has it: what is in an image or a container may be nobody else's business
_FLAGS = os.O_WRONLY | os.O_CLOEXEC
# File systems that cannot have a file without a name say one of these.
_NAMES_ONLY = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


def refuse_terminal(descriptor: int) -> None:
    """Raises UsageError."""
    if os.isatty(descriptor):
        raise UsageError("write a tar archive", "", "standard output is a terminal", "send it to a file or a pipe")


@contextlib.contextmanager
def output(path: str | None) -> Iterator[int]:
    """A descriptor to write to: standard output, or a file that is there when all is written, and not before.

    The file has no name until then, so that nothing is left of it when this process is killed. Where the file system
    cannot do that, and for the moment in which it takes the place of another one, it has the name
    `PATH.pycontainer-HEX`: whoever writes to PATH next removes those of them that nobody is writing.

    Raises StepFailed, UsageError.
    """
    if not path:
        refuse_terminal(1)
        yield 1
        return
    special = -1
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            special = os.open(path, _FLAGS)
    except FileNotFoundError as error:
        if path.endswith("/"):
            raise StepFailed("write", path, errno.EISDIR) from error
    except OSError as error:
        raise StepFailed("write", path, error.errno or 0) from error
    if special != -1:
        try:
            yield special
        finally:
            os.close(special)
        return
    # Through a symbolic link, as docker does: the file is replaced, and not what leads to it.
    where, name = os.path.split(os.path.realpath(path))
    try:
        directory = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StepFailed("write", path, error.errno or 0) from error
    try:
        with _complete(directory, name, path) as descriptor:
            yield descriptor
    finally:
        os.close(directory)


@contextlib.contextmanager
def _complete(directory: int, name: str, path: str) -> Iterator[int]:
    """A descriptor of what becomes `name` in `directory`, unless there is an exception. `path` is for errors."""
    try:
        _clear(directory, name)
        descriptor, temporary = _open(directory, name)
    except OSError as error:
        raise StepFailed("write", path, error.errno or 0) from error
    try:
        yield descriptor
        try:
            # Because the rename must not be on the disk before what it names; and a full disk may show only here.
            os.fsync(descriptor)
            if not temporary and not _link(descriptor, directory, name):
                # There is one of that name, and a link takes the place of nothing.
                temporary = _temporary(name)
                _link(descriptor, directory, temporary)
            if temporary:
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                temporary = ""
        except OSError as error:
            raise StepFailed("write", path, error.errno or 0) from error
    finally:
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        os.close(descriptor)


def _open(directory: int, name: str) -> tuple[int, str]:
    """A new file, locked for as long as it is open, and its name, "" where it has none. Raises OSError."""
    try:
        descriptor = os.open(".", _FLAGS | os.O_TMPFILE, _MODE, dir_fd=directory)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor, ""
    except OSError as error:
        if error.errno not in _NAMES_ONLY:
            raise
    while True:
        temporary = _temporary(name)
        descriptor = os.open(temporary, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE, dir_fd=directory)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        # Another command has taken it for a leftover before it was locked.
        os.close(descriptor)


def _link(descriptor: int, directory: int, name: str) -> bool:
    """Give a name to a file that has none; whether that was free. Raises OSError."""
    try:
        # With a directory's descriptor, because without one Python calls link(2), which does not follow.
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)
    except FileExistsError:
        return False
    return True


def _temporary(name: str) -> str:
    return f"{_stem(name)}{os.urandom(4).hex()}"


def _stem(name: str) -> str:
    # Short enough that the whole has at most the 255 bytes that a name may have.
    return os.fsdecode(os.fsencode(name)[:200]) + ".pycontainer-"


def _clear(directory: int, name: str) -> None:
    """Remove what a killed command has left in place of `name`. Raises OSError if the directory cannot be read."""
    pattern = re.compile(re.escape(_stem(name)) + "[0-9a-f]{8}")
    for entry in os.listdir(directory):
        if not pattern.fullmatch(entry):
            continue
        # What is being written is locked, and what cannot be removed hinders nobody.
        with contextlib.suppress(OSError):
            descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry, dir_fd=directory)
            finally:
                os.close(descriptor)
