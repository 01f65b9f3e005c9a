"""The lock that says that a network has a name server: an open file description lock on STATE/dns/ID, fcntl(2).

Such a lock belongs to an open file, and to whichever processes have it; so the one that serves and the one that stands
by hold it together. And it can be looked at without being taken.
"""

from __future__ import annotations

import fcntl
import os
import struct


def take(state: str, network_id: str) -> int | None:
    """A descriptor that holds it; None where the network has a name server. Raises OSError."""
    directory = f"{state}/dns"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = os.open(f"{directory}/{network_id}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if retake(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def retake(descriptor: int) -> bool:
    """Take it with an open file; False where somebody else holds it. Raises OSError."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK))
    except (BlockingIOError, PermissionError):
        return False
    return True


def give_up(descriptor: int) -> None:
    """Raises OSError."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK))


def is_held(state: str, network_id: str) -> bool:
    """Whether the network has a name server. Raises OSError."""
    try:
        descriptor = os.open(f"{state}/dns/{network_id}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK))
    finally:
        os.close(descriptor)
    kind: int = struct.unpack_from("h", found)[0]
    return kind != fcntl.F_UNLCK


def _lock(kind: int) -> bytes:
    """struct flock of the whole file."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
