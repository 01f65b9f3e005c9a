"""What the runtime (parent) and the container's first process (child) say to each other.

          parent                                            child
    create  │  clone3 ─────────────────────────────────────▶ │ born; can do nothing yet: its ids have no map
            │  writes uid_map, gid_map, limits               │
            │ ── MAPPED ────────────────────────────────────▶│ becomes root of its user namespace, sets everything up
            │ ◀───────────────────────── READY or FAILED ────│ waits in accept(2) on start.sock
            ┆                                                ┆
    start   │  connect start.sock, remove its name           │
            │ ── START ─────────────────────────────────────▶│ drops privileges, execve
            │ ◀────────────────────── end of file or FAILED ─│ end of file: execve closed the socket, the program runs

Both sockets are SOCK_SEQPACKET: one message, one packet. FAILED carries a record: kind, step, path, errno, cause and
hint, separated by NUL. Any other message is an error. A child that reads end of file ends itself: its parent is gone.
"""

from __future__ import annotations

from pycontainer import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

MAPPED = b"MAPPED"
READY = b"READY"
START = b"START"
FAILED = b"FAILED"

_LONGEST = 8192  # bytes of one field; a message must fit into one packet

_KINDS: dict[str, type[errors.PycontainerError]] = {
    kind.__name__: kind
    for kind in (
        errors.UsageError,
        errors.NotFound,
        errors.HostError,
        errors.CommandNotFound,
        errors.CommandNotExecutable,
    )
}


def ask(channel: _socket.socket, message: bytes, wait: Callable[[int], None] | None = None) -> bytes | None:
    """Send `message` and wait for the answer, b"" at end of file; None from a process that died without reading it.

    wait  called with the descriptor, to wait in some way of its own
    """
    try:
        channel.send(message)
    except BrokenPipeError:
        # It may have said why before it died.
        return channel.recv(65536) or None
    if wait is not None:
        wait(channel.fileno())
    return hear(channel)


def hear(channel: _socket.socket) -> bytes | None:
    """Wait for the answer to what was sent: as `ask`."""
    try:
        return channel.recv(65536)
    except ConnectionResetError:
        return None


def pack_failure(error: BaseException) -> bytes:
    """The FAILED message for any exception of the child's."""
    if isinstance(error, errors.StepFailed):
        fields = ["StepFailed", error.step, error.path, str(error.errno), error.cause, error.hint]
    elif isinstance(error, errors.PycontainerError):
        fields = [type(error).__name__, error.step, error.path, "0", error.cause, error.hint]
    else:
        fields = ["HostError", "set up the container", "", "0", f"{type(error).__name__}: {error}", ""]
    return FAILED + b"\0".join(_encode(field)[:_LONGEST] for field in fields)


def _encode(field: str) -> bytes:
    try:
        return field.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return field.encode(errors="backslashreplace")


def unpack(message: bytes, expected: bytes) -> None:
    """Return when `message` is the expected one; raise the error that it carries, or one that says what came."""
    if message == expected:
        return
    if message.startswith(FAILED):
        fields = message[len(FAILED) :].decode(errors="surrogateescape").split("\0")
        if len(fields) == 6:
            kind, step, path, errno, cause, hint = fields
            if kind == "StepFailed":
                raise errors.StepFailed(step, path, int(errno), hint=hint, cause=cause)
            raise _KINDS.get(kind, errors.HostError)(step, path, cause, hint)
    if not message and expected:
        raise errors.HostError("set up the container", "", "its first process ended without a word")
    raise errors.HostError("set up the container", "", f"unexpected message {message[:40]!r}")
