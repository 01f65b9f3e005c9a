"""Every error that a user can meet, in one tree.

    PycontainerError            exit status 125
    ├── UsageError              a flag, a name or a file that the caller wrote is wrong
    ├── NotFound                no such image, container, network
    │   └── ImageNotFound       no such image here; a registry may have it
    ├── Conflict                the name is taken, the object is in use, the status does not allow it
    ├── ImageError              an archive or a stored image is corrupt, hostile or not understood
    ├── HostError               this machine lacks what the request needs (a controller, a kernel feature, root)
    ├── StepFailed              the kernel refused one step; carries errno
    ├── CommandNotFound         exit status 127
    └── CommandNotExecutable    exit status 126

An error reads `step: path: cause`, lower case, no full stop, and a hint on a second line where there is one.
The exit statuses are those of docker(1) and podman(1).
"""

from __future__ import annotations

import os


def printable(text: str) -> str:
    """`text` on one line and without control characters, which an image or an archive may have put into it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class PycontainerError(Exception):
    """What went wrong (`step`), on what (`path`), why (`cause`), what to do (`hint`); only `step` is never empty."""

    exit_status = 125

    def __init__(self, step: str, path: str = "", cause: str = "", hint: str = "") -> None:
        super().__init__(step, path, cause, hint)
        self.step = step
        self.path = path
        self.cause = cause
        self.hint = hint

    @property
    def message(self) -> str:
        """The first line: the parts that are not empty, joined by colons."""
        return printable(": ".join(part for part in (self.step, self.path, self.cause) if part))

    def __str__(self) -> str:
        return f"{self.message}\nhint: {printable(self.hint)}" if self.hint else self.message


class UsageError(PycontainerError):
    """A flag, a name or a file that the caller wrote is wrong."""


class NotFound(PycontainerError):
    """No such image, container or network."""


class ImageNotFound(NotFound):
    """No such image in the store. A registry may have it."""


class Conflict(PycontainerError):
    """The name is taken, the object is in use, or its status does not allow the request."""


class ImageError(PycontainerError):
    """An archive or a stored image is corrupt, hostile or not understood."""


class HostError(PycontainerError):
    """This machine lacks what the request needs: a cgroup controller, a kernel feature, root."""


class StepFailed(PycontainerError):
    """The kernel refused one step. `errno` is the error number, see errno(3); `cause` its text where none is given."""

    def __init__(self, step: str, path: str, errno: int, *, hint: str = "", cause: str = "") -> None:
        super().__init__(step, path, cause or os.strerror(errno).lower(), hint)
        self.errno = errno


class CommandNotFound(PycontainerError):
    """The program does not exist in the container."""

    exit_status = 127


class CommandNotExecutable(PycontainerError):
    """The program exists in the container and cannot be executed."""

    exit_status = 126
