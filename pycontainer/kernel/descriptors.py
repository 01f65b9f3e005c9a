"""Descriptors between processes: unix(7), SCM_RIGHTS.

Built on `_socket`, because the standard library's `socket` wraps it in enums and selectors: four milliseconds.
"""

from __future__ import annotations

import _socket
import struct


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


def accept(listener: _socket.socket) -> _socket.socket:
    """Wait for a connection; it is close-on-exec: accept4(2). Raises OSError."""
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]
    return _socket.socket(fileno=descriptor)


def is_closed(channel: _socket.socket) -> bool:
    """Whether the other side has closed its end. Raises OSError."""
    try:
        return not channel.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
