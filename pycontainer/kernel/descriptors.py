"""Descriptors between processes: unix(7), SCM_RIGHTS.

Built on `_socket`, because the standard library's `socket` wraps it in enums and selectors: four milliseconds.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.kernel.undo import Undo


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected SOCK_SEQPACKET sockets, close-on-exec. Raises OSError."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def send_descriptor(channel: _socket.socket, descriptor: int) -> None:
    """Send one descriptor with one byte of data. Raises OSError."""
    channel.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", descriptor))])


def receive_descriptor(channel: _socket.socket) -> int | None:
    """The descriptor that is waiting, close-on-exec; None where nothing is. Raises OSError."""
    try:
        _, ancillary, _, _ = channel.recvmsg(1, _socket.CMSG_LEN(4), _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return None
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            descriptor: int = struct.unpack("i", data[:4])[0]
            return descriptor
    return None


def send(channel: _socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one packet without waiting. Raises OSError: EAGAIN where the other side does not read, EPIPE …"""
    ancillary = []
    if descriptors:
        packed = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary.append((_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed))
    channel.sendmsg([data], ancillary, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)


def receive(channel: _socket.socket, most: int) -> tuple[bytes, list[int]]:
    """Wait for a packet: its data, b"" at the end, and at most `most` descriptors, close-on-exec. Raises OSError."""
    size, space = 1 << 16, _socket.CMSG_SPACE(4 * most)
    try:
        data, ancillary, _, _ = channel.recvmsg(size, space, _socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # The other side has closed it with something of ours unread. That is told once, before what it had sent last.
        data, ancillary, _, _ = channel.recvmsg(size, space, _socket.MSG_CMSG_CLOEXEC)
    found: list[int] = []
    for level, kind, packed in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            found.extend(struct.unpack(f"{len(packed) // 4}i", packed[: len(packed) // 4 * 4]))
    return data, found


def peer(channel: _socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process that connected: SO_PEERCRED of unix(7). Raises OSError."""
    pid, uid, _ = struct.unpack("3i", channel.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
    return pid, uid


def listen(directory: str, name: str) -> _socket.socket:
    """A SOCK_SEQPACKET socket that listens at `directory`/`name`, for root only. Raises OSError."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    # Bound through the directory's descriptor, because a socket's path has at most 107 bytes.
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mask = os.umask(0o077)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{name}")
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
        os.close(descriptor)
    return listener


def connect(directory: str, name: str) -> _socket.socket:
    """A connection to the socket at `directory`/`name`. Raises OSError: ENOENT, ECONNREFUSED where nobody listens."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)
    except BaseException:
        connection.close()
        raise
    return connection


def lock_holder(path: str) -> int:
    """The process that has a record lock on a file, 0 where none has: fcntl(2), F_GETLK. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return int(pid) if kind != fcntl.F_UNLCK else 0


def above_two(stdio: tuple[int, int, int], held: Undo) -> tuple[int, int, int]:
    """Copies with numbers above 2, for who puts them on 0, 1 and 2 and must not overwrite one by another.

    `held` closes them. Raises OSError.
    """
    copies = []
    for descriptor in stdio:
        copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        held.push(os.close, copy)
        copies.append(copy)
    return copies[0], copies[1], copies[2]


def close_others(kept: set[int]) -> None:
    """Close every descriptor of this process but these."""
    first = 0
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def adopt(descriptor: int) -> _socket.socket:
    """The socket that a descriptor is. Raises OSError."""
    return _socket.socket(fileno=descriptor)


def accept(listener: _socket.socket) -> _socket.socket:
    """Wait for a connection; it is close-on-exec: accept4(2). Raises OSError."""
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]
    return _socket.socket(fileno=descriptor)


def is_readable(channel: _socket.socket, seconds: float | None = 0.0) -> bool:
    """Whether something arrives within `seconds`, None for ever, or the other side closes its end. Raises OSError."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    return bool(poll.poll(None if seconds is None else int(seconds * 1000)))


def is_closed(channel: _socket.socket) -> bool:
    """Whether the other side has closed its end. Raises OSError."""
    try:
        return not channel.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
